//! `pipelined-fire`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pipelined_bench::fire::main()
}
