//! CQL as text: tokens, the syntax tree, and the parser that tells where a text is wrong.
//!
//! The grammar is the part of Cassandra's `Parser.g` that is about tables and their rows. What lies outside of it
//! (indexes, views, functions, user types, roles and the like) is recognized by its first words and refused by
//! name; what is no CQL is refused with line, column and the token, in the words of Cassandra's parser.

pub mod ast;
mod lexer;
mod parser;
mod types;
pub mod value;

pub use parser::{Parsed, needs_quotes, parse};
pub use types::{type_name, type_named};
