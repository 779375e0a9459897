//! `kakeya chat` in a terminal, with the default model: what a person types, and what they read.
//!
//! The terminal is Python's; the checks stand in `terminal/chat.py`.

#![cfg(all(feature = "engine", unix))]

use std::path::Path;
use std::process::Command;

fn check(name: &str) {
    // Cargo runs a test in the folder of its package.
    let script = Path::new("tests/terminal/chat.py");
    let output = Command::new("python3")
        .arg(script)
        .args([env!("CARGO_BIN_EXE_kakeya"), name])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("RUST_LOG", "error")
        .output()
        .expect("python3 starts");
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn turns_copies_and_files() {
    check("turns_copies_and_files");
}

#[test]
fn ctrl_c_stops_a_reply_and_not_the_program() {
    check("ctrl_c_stops_a_reply_and_not_the_program");
}

#[test]
fn lines_can_be_edited_and_called_back() {
    check("lines_can_be_edited_and_called_back");
}

#[test]
fn twenty_columns_and_bytes_that_are_no_text() {
    check("twenty_columns_and_bytes_that_are_no_text");
}

#[test]
fn a_program_is_read_line_by_line() {
    check("a_program_is_read_line_by_line");
}
