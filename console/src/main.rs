//! `pipectl`: the command line of `pipelined`. Everything is in the library; this turns its verdict into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pipectl::run())
}
