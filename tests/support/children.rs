//! Servers as children of the test process: none outlives it, and nothing of theirs stays on the disk.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{LazyLock, Mutex, mpsc},
    thread,
};

type Request = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Children end when the *thread* that spawned them does, and a test's thread ends with the test: so one thread,
/// which lives as long as the process, spawns them all.
static SPAWNER: LazyLock<Mutex<mpsc::Sender<Request>>> = LazyLock::new(|| {
    let (sender, requests) = mpsc::channel::<Request>();
    thread::spawn(move || {
        for (mut command, answer) in requests {
            answer.send(command.spawn()).unwrap();
        }
    });
    Mutex::new(sender)
});

/// Spawns a command that lives no longer than the test process.
pub fn spawn(command: Command) -> Child {
    let (sender, answer) = mpsc::channel();
    SPAWNER.lock().unwrap().send((command, sender)).unwrap();
    answer.recv().unwrap().unwrap()
}

/// The directory of everything this test process writes.
pub fn root() -> &'static Path {
    &ROOT.path
}

struct Root {
    path: PathBuf,
    /// Held open until the process ends, however it ends: then the reaper removes the directory.
    _reaper: ChildStdin,
}

#[expect(clippy::zombie_processes, reason = "the reaper is there for when this process is not")]
static ROOT: LazyLock<Root> = LazyLock::new(|| {
    // Short: a socket's path may have 107 bytes.
    let base = if is_roomy("/dev/shm") { "/dev/shm" } else { "/tmp" };
    let path = tempfile::Builder::new().prefix("evently-test-").tempdir_in(base).unwrap().keep();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711)).unwrap();
    let mut reaper = Command::new("sh")
        .args(["-c", r#"cat; for i in 1 2 3 4 5 6 7 8 9; do rm -rf "$0" && break; sleep 0.2; done"#])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    Root { path, _reaper: reaper.stdin.take().unwrap() }
});

/// Whether it has room for what many tests at once write. Each test's database is a thousand files, which
/// memory makes and forgets sooner than a disk.
fn is_roomy(path: &str) -> bool {
    const ROOM: u64 = 4 << 30;
    rustix::fs::statvfs(path).is_ok_and(|of| of.f_bavail * of.f_frsize >= ROOM)
        && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}
