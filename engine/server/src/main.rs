//! The `kakeya` command: serve a model, or ask it something once.

mod commands;

fn main() -> std::process::ExitCode {
    commands::run(std::env::args_os())
}
