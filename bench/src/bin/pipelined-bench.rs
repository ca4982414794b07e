//! `pipelined-bench`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pipelined_bench::measure::main()
}
