//! `stable-trace`: the command. All it does stands in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    stable_trace::cli::main()
}
