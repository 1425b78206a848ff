//! Installs the servers that the other tests need, Stripe's stand-in among them, where they are missing. `make test`
//! runs it first, and by itself, so that what it says is the last thing to be read.

use std::process::ExitCode;

#[path = "support/localstripe_install.rs"]
mod localstripe_install;

fn main() -> ExitCode {
    if let Err(error) = evently::launch::install::missing_servers() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = localstripe_install::python() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
