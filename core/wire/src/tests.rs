//! Tests of the frame codec, by part.

mod build;
mod edit;
mod fuzz;
mod parse;
mod plain;
mod support;
