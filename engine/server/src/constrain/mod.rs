//! Holding answers to a form: from a grammar's text to what the step loop asks before each draw.
//!
//! The work is llguidance's: it reads the grammar and the JSON schemas in it, and finds for each token whether the text
//! may go on with it. What is here gives it the model's own tokens ([`vocabulary`]), bounds it ([`compiler`]), and hands
//! it over in the form that the engine knows ([`grammar`]).

mod compiler;
mod grammar;
mod vocabulary;

pub use compiler::Compiler;
