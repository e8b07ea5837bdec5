//! CQL as text: tokens, the syntax tree, and the parser, which locates errors.
//!
//! The grammar is the part of Cassandra's `Parser.g` that is about tables and their rows. What lies outside of it
//! (indexes, views, functions, user types, roles and the like) is recognized by its first keywords and refused by
//! name; a text that is not CQL is refused with line, column and the token, with the message of Cassandra's parser.

pub mod ast;
mod lexer;
mod parser;
mod types;
pub mod value;

pub use parser::{Parsed, needs_quotes, parse};
pub use types::{type_name, type_named};
