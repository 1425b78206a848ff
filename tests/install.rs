//! Installs the servers that the other tests need, where they are missing. `make test` runs it first, and by itself, so
//! that what it says is the last thing to be read.

use std::process::ExitCode;

fn main() -> ExitCode {
    match evently::launch::install::missing_servers() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
