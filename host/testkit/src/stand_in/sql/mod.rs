//! T-SQL from text to a tree. It knows no tables and no types but their names.

pub mod expressions;
pub mod lexer;
pub mod parser;
pub mod statements;
pub mod tree;
