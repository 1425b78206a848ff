//! The Ed25519 key that signs access tokens: read from a PKCS#8 PEM file, made when there is none.

use std::{
    fs,
    io::{self, Write},
    ops::Range,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use sha2::{Digest, Sha256};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Where the seed stands in the DER of every Ed25519 key: what comes before it has a fixed length (RFC 8410).
const SEED: Range<usize> = 16..48;

/// The key could not be read, made or understood.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: not an Ed25519 private key in PKCS#8 PEM: {reason}", path.display())]
    Invalid { path: PathBuf, reason: String },
    /// The cryptographic library refused; it does so when the system gives it no randomness.
    #[error("cannot make a signing key")]
    Crypto,
}

impl From<ring::error::Unspecified> for KeyError {
    fn from(_: ring::error::Unspecified) -> Self {
        Self::Crypto
    }
}

/// The key pair, with what is derived from it. Never printed.
pub struct SigningKey {
    pkcs8: Vec<u8>,
    public: Vec<u8>,
    seed: hmac::Key,
}

impl SigningKey {
    /// Reads the file, making it first when it is missing. Any number of processes may do so at once: one of
    /// them makes the key and all of them read it.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                create(path)?;
                Self::load(path)
            }
            loaded => loaded,
        }
    }

    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Io { path: path.to_owned(), source };
        Self::from_pem(&fs::read_to_string(path).map_err(failed)?, path)
    }

    fn from_pem(pem: &str, path: &Path) -> Result<Self, KeyError> {
        let invalid = |reason: &str| KeyError::Invalid { path: path.to_owned(), reason: reason.to_owned() };
        let body = pem
            .split_once(BEGIN)
            .and_then(|(_, rest)| rest.split_once(END))
            .map(|(body, _)| body.split_ascii_whitespace().collect::<String>())
            .ok_or_else(|| invalid("no PRIVATE KEY block"))?;
        let pkcs8 = STANDARD.decode(body).map_err(|_| invalid("broken base64"))?;
        // What other tools write has no public key in it, which is no fault.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8)
            .map_err(|error| invalid(&error.to_string()))?;
        let seed = pkcs8.get(SEED).ok_or_else(|| invalid("too short"))?;
        Ok(Self {
            public: pair.public_key().as_ref().to_vec(),
            seed: hmac::Key::new(hmac::HMAC_SHA256, seed),
            pkcs8,
        })
    }

    /// The private key in PKCS#8 DER.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public key, 32 bytes.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// The public key as a JWK's `x`.
    pub(super) fn public_base64url(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.public)
    }

    /// The key's id: its thumbprint (RFC 7638), so that every process calls it the same.
    pub(super) fn id(&self) -> String {
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.public_base64url());
        URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
    }

    /// A symmetric key for one purpose, the same in every process that has this file. Keys of different
    /// purposes tell nothing about each other or about the private key.
    pub(super) fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(hmac::sign(&self.seed, purpose.as_bytes()).as_ref());
        key
    }
}

/// Writes a new key beside `path` and links it into place, which fails if somebody else was first.
fn create(path: &Path) -> Result<(), KeyError> {
    let failed = |source| KeyError::Io { path: path.to_owned(), source };
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?;
    let pem = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(pkcs8));
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}", rand::random::<u64>()));
    let draft = PathBuf::from(draft);
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(pem.as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    })();
    // A draft that stays behind is a key nobody uses; it is not worth failing for.
    let _ = fs::remove_file(&draft);
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    // RFC 8037, appendix A: the key and its thumbprint.
    const RFC_8037: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    #[test]
    fn reads_a_key_and_names_it_by_its_thumbprint() {
        let key = SigningKey::from_pem(RFC_8037, Path::new("x")).unwrap();
        assert_eq!(key.public_base64url(), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_ne!(key.derive("one"), key.derive("other"));
    }

    #[test]
    fn many_who_start_at_once_share_one_key_that_only_its_owner_reads() {
        let directory = std::env::temp_dir().join(format!("evently-key-{:016x}", rand::random::<u64>()));
        let path = directory.join("keys/signing.pem");
        let ids: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..16).map(|_| scope.spawn(|| SigningKey::load_or_create(&path).unwrap().id())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| id == &ids[0]), "{ids:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn refuses_what_is_no_key() {
        for pem in
            ["", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\n%\n-----END PRIVATE KEY-----"]
        {
            assert!(matches!(SigningKey::from_pem(pem, Path::new("x")), Err(KeyError::Invalid { .. })));
        }
    }
}
