//! What the tests of both simulated services with clients of others have in common: the program that serves, the clients'
//! processes, and the environments of Python. What is fetched for them is kept in the target directory.

mod process;
pub mod python;

pub use process::{Client, Served, folder, run};
