//! The `shoal` binary.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    shoal::cli::run(shoal::cli::Cli::parse())
}
