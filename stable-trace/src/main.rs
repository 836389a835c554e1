//! The `stable-trace` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    stable_trace::cli::main()
}
