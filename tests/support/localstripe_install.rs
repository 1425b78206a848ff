//! Installs localstripe into the build directory, once; Python too where it is missing, by apt as root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// It ignores `Idempotency-Key`, which `stripe_proxy.rs` makes up for.
const PACKAGE: &str = "localstripe==1.15.10";
/// What it serves with, as it has been so far.
const SERVER: &str = "aiohttp<4";

/// A Python that has it. The first call may take a minute.
pub fn python() -> Result<&'static Path, String> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PYTHON.get_or_init(install).as_deref().map_err(Clone::clone)
}

fn install() -> Result<PathBuf, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("localstripe-1.15.10");
    let python = home.join("bin/python");
    if works(&python, "import localstripe.server") {
        return Ok(python);
    }
    if !works(Path::new("python3"), "import ensurepip, venv") {
        apt(&["python3", "python3-venv"])?;
    }
    // Whole or not at all: others may be at it too, and the first one counts.
    let fresh = home.with_extension(std::process::id().to_string());
    let pip =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", PACKAGE, SERVER];
    let install = || {
        let _ = fs::remove_dir_all(&fresh);
        run("python3", &["-m", "venv", &fresh.to_string_lossy()])?;
        run(&fresh.join("bin/python").to_string_lossy(), &pip)
    };
    // PyPI may have a bad moment.
    install().or_else(|_| install()).map_err(|error| {
        format!("{PACKAGE}, which the tests of Stripe need, could not be had from PyPI:\n{error}")
    })?;
    if fs::rename(&fresh, &home).is_err() {
        if works(&python, "import localstripe.server") {
            let _ = fs::remove_dir_all(&fresh);
        } else {
            // What is there is broken.
            fs::remove_dir_all(&home).and_then(|()| fs::rename(&fresh, &home)).map_err(|e| e.to_string())?;
        }
    }
    if works(&python, "import localstripe.server") {
        Ok(python)
    } else {
        Err(format!("{PACKAGE} does not work in {}", home.display()))
    }
}

fn works(python: &Path, code: &str) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", code]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn apt(packages: &[&str]) -> Result<(), String> {
    let install = || {
        let options = ["-qq", "-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends"];
        run("apt-get", &[&options[..], packages].concat())
    };
    install().or_else(|_| run("apt-get", &["-qq", "update"]).and_then(|()| install())).map_err(|error| {
        let packages = packages.join(" ");
        format!("the tests of Stripe need {packages}; install them by hand, as root:\n{error}")
    })
}

/// Runs a program to its end, which comes within five minutes.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", "300", program]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let arguments = arguments.join(" ");
    Err(format!("{program} {arguments}: {}\n{}", output.status, String::from_utf8_lossy(&said)))
}
