//! Password hashes: argon2id, made and checked on a few threads of low priority with a short line before them.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        self,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How many may wait. At some 25 ms a hash, the last of them waits about as long as [`PATIENCE`].
const LINE: usize = 512;
/// How long one waits before the answer is "busy".
const PATIENCE: Duration = Duration::from_secs(10);
/// How far these threads stand back (`nice`): where all cores are busy they get a tenth of what a thread that serves
/// gets, so that a flood of logins slows down logins.
const NICE: i32 = 10;

/// Checked where there is no account, so that it takes as long: the parameters are `Argon2::default`'s
/// (OWASP: 19 MiB, 2 passes, 1 lane), and no password gives this hash.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$RXZlbnRseUV2ZW50bHkhIQ$\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Too many passwords are being hashed; nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be hashed")]
pub struct Busy;

type Task = Box<dyn FnOnce(&mut Memory) + Send>;

/// The threads and the line. Cheap to clone; one a process. The threads end with the last clone.
#[derive(Clone)]
pub struct Passwords {
    tasks: mpsc::Sender<Task>,
    /// As many permits as threads: each costs a core while it works.
    threads: Arc<Semaphore>,
    /// Those who hash and those who wait.
    places: Arc<Semaphore>,
}

/// A place in the line.
pub struct Place(OwnedSemaphorePermit);

impl Default for Passwords {
    /// A thread for each core, 2 to 8.
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
        Self::new(threads, LINE)
    }
}

impl Passwords {
    pub fn new(threads: usize, line: usize) -> Self {
        let (tasks, waiting) = mpsc::channel::<Task>();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads {
            let waiting = Arc::clone(&waiting);
            let started = thread::Builder::new().name("passwords".to_owned()).spawn(move || work(&waiting));
            // A system that gives no thread at the start gives nothing to serve with either.
            started.expect("a thread starts");
        }
        let places = Arc::new(Semaphore::new(threads + line));
        Self { tasks, threads: Arc::new(Semaphore::new(threads)), places }
    }

    /// A place in the line, to be taken before anything else is done for a login: when the line is full, nothing is.
    pub fn place(&self) -> Result<Place, Busy> {
        Arc::clone(&self.places).try_acquire_owned().map(Place).map_err(|_| Busy)
    }

    /// A hash with a salt of its own, as a PHC string.
    pub async fn hash(&self, password: SecretString) -> Result<String, Busy> {
        self.run(self.place()?, move |memory| {
            // Fails for passwords over 4 GiB and where the system gives no randomness, without which no
            // session, code or key is safe either.
            memory.hash(password.expose_secret().as_bytes()).expect("argon2 hashes").to_string()
        })
        .await
    }

    /// Whether the password gives this hash. Without one it takes the same time and is false.
    pub async fn verify(
        &self,
        place: Place,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool, Busy> {
        self.run(place, move |memory| {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
            let fits = PasswordHash::new(&hash)
                .is_ok_and(|hash| memory.fits(password.expose_secret().as_bytes(), &hash).unwrap_or(false));
            known && fits
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let thread = tokio::time::timeout(PATIENCE, Arc::clone(&self.threads).acquire_owned())
            .await
            .map_err(|_| Busy)?
            .map_err(|_| Busy)?;
        let (answer, done) = oneshot::channel();
        // The permits go with the work: a caller who leaves does not make room before the thread is free.
        let task = move |memory: &mut Memory| {
            let result = work(memory);
            drop((thread, place.0));
            // Whoever has left wants no answer.
            let _ = answer.send(result);
        };
        self.tasks.send(Box::new(task)).map_err(|_| Busy)?;
        done.await.map_err(|_| Busy)
    }
}

/// What one thread does: task after task, until nobody can bring another.
fn work(waiting: &Mutex<mpsc::Receiver<Task>>) {
    // On Linux this is the priority of the calling thread, elsewhere of the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%error, "passwords are hashed at full priority");
    }
    let mut memory = Memory::default();
    loop {
        let task = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = task else { return };
        // Its caller learns of a panic by the answer that does not come.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| task(&mut memory)));
    }
}

/// What one thread hashes in, 19 MiB from its first hash on. Asked for and given back at each hash, it leaves holes that
/// the allocator keeps: 60 MiB a thread.
#[derive(Default)]
struct Memory(Vec<Block>);

impl Memory {
    fn hash(&mut self, password: &[u8]) -> password_hash::Result<PasswordHash> {
        let (algorithm, version, params) = (Algorithm::default(), Version::default(), Params::default());
        let salt = Salt::generate();
        Ok(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(&params)?,
            hash: Some(self.derive(&Argon2::new(algorithm, version, params), password, &salt)?),
            salt: Some(salt),
        })
    }

    /// Compared in constant time, by `Output`.
    fn fits(&mut self, password: &[u8], hash: &PasswordHash) -> password_hash::Result<bool> {
        let (Some(salt), Some(output)) = (&hash.salt, &hash.hash) else { return Ok(false) };
        let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
        let version = hash.version.map(Version::try_from).transpose()?.unwrap_or_default();
        let argon2 = Argon2::new(algorithm, version, Params::try_from(hash)?);
        Ok(self.derive(&argon2, password, salt)? == *output)
    }

    fn derive(&mut self, argon2: &Argon2<'_>, password: &[u8], salt: &[u8]) -> password_hash::Result<Output> {
        let (params, mut output) = (argon2.params(), [0; Output::MAX_LENGTH]);
        let output = output
            .get_mut(..params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN))
            .ok_or(password_hash::Error::OutputSize)?;
        let blocks = params.block_count();
        if self.0.len() < blocks {
            self.0.resize(blocks, Block::default());
        }
        argon2.hash_password_into_with_memory(password, salt, output, &mut self.0[..blocks])?;
        Ok(Output::new(output)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the reference implementation: `printf secret | argon2 somesaltsalt -id -t 2 -k 19456 -p 1 -e`.
    const REFERENCE: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzYWx0$hwjIfRt1N+6ZMrz3zCQvRn2yJsgfIeYbfWWG0kR4GDQ";

    async fn verify(passwords: &Passwords, password: &str, hash: Option<String>) -> Result<bool, Busy> {
        passwords.verify(passwords.place()?, password.into(), hash).await
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_only() {
        let passwords = Passwords::new(2, 8);
        let hash = passwords.hash("correct-horse-battery".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(verify(&passwords, "correct-horse-battery", Some(hash.clone())).await, Ok(true));
        assert_eq!(verify(&passwords, "correct-horse-batterx", Some(hash)).await, Ok(false));
        assert_eq!(verify(&passwords, "correct-horse-battery", Some("!".into())).await, Ok(false));
    }

    #[test]
    fn hashes_of_other_makers_fit() {
        let hash = PasswordHash::new(REFERENCE).unwrap();
        assert!(Memory::default().fits(b"secret", &hash).unwrap());
        assert!(!Memory::default().fits(b"Secret", &hash).unwrap());
    }

    #[test]
    fn nobody_costs_what_somebody_costs() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let somebody = Memory::default().hash(b"x").unwrap();
        assert_eq!(nobody.params, somebody.params);
        assert_eq!(nobody.hash.map(|hash| hash.len()), somebody.hash.map(|hash| hash.len()));
    }

    #[tokio::test]
    async fn a_full_line_is_busy_at_once() {
        let passwords = Passwords::new(1, 1);
        let attempts = (0..6).map(|_| verify(&passwords, "x", None));
        let results = futures::future::join_all(attempts).await;
        assert_eq!(results.iter().filter(|result| **result == Ok(false)).count(), 2, "{results:?}");
        assert_eq!(verify(&passwords, "x", None).await, Ok(false), "and has room again");
    }
}
