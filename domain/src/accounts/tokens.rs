//! Access tokens: Ed25519-signed JWTs, issued and checked without asking anybody.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Role,
    amendments::Amendments,
    signing_key::{KeyError, SigningKey},
};
use crate::{clock, crypto};

/// Who signs; the same wherever Evently is reached.
pub const ISSUER: &str = "evently";
/// Whom the tokens are for.
pub const AUDIENCE: &str = "evently-api";
/// How long an access token is good for.
pub const ACCESS_LIFETIME: Duration = Duration::from_mins(15);

/// How many checked tokens are remembered: some 30 MB when full.
const CACHED_TOKENS: usize = 50_000;
/// No token of ours is longer; what is longer is not looked at.
const MAX_TOKEN_BYTES: usize = 2_048;

/// What a token is issued for.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    pub user_id: Uuid,
    pub session_id: Uuid,
    pub role: Role,
    /// Whether the e-mail address is verified.
    pub verified: bool,
    /// The user's row when this was read: later changes amend the token.
    pub user_version: i64,
}

/// What a token that holds says about its bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    pub token_id: Uuid,
    pub user_id: Uuid,
    pub session_id: Uuid,
    pub role: Role,
    /// Whether the e-mail address was verified when the token was issued.
    pub verified: bool,
    pub user_version: i64,
    pub issued_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// The claims as they stand in the token.
#[derive(Serialize, Deserialize)]
struct WireClaims {
    iss: String,
    aud: String,
    sub: Uuid,
    sid: Uuid,
    jti: Uuid,
    role: Role,
    /// E-mail verified.
    ver: bool,
    /// The user's version.
    uv: i64,
    iat: i64,
    exp: i64,
}

/// Why a token does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not ours, altered, or its session is over.
    #[error("the access token is not valid")]
    Invalid,
    /// It was good until its time was over.
    #[error("the access token has expired")]
    Expired,
}

/// The public key, for services that check tokens themselves (RFC 8037).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Jwk {
    #[schema(example = "OKP")]
    pub kty: &'static str,
    #[schema(example = "Ed25519")]
    pub crv: &'static str,
    #[serde(rename = "use")]
    #[schema(example = "sig")]
    pub usage: &'static str,
    #[schema(example = "EdDSA")]
    pub alg: &'static str,
    /// The key's id, which tokens carry in their header.
    pub kid: String,
    /// The public key, base64url.
    pub x: String,
}

/// Issues and checks access tokens.
pub struct Tokens {
    key: SigningKey,
    encoding: EncodingKey,
    decoding: DecodingKey,
    header: Header,
    validation: Validation,
    /// By the whole token, so that no other token ever takes its place.
    checked: Cache<Box<str>, Arc<AccessClaims>>,
    amendments: Amendments,
}

impl Tokens {
    /// With the key of this file, which is made when it is missing.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        crypto::install();
        let key = SigningKey::load_or_create(path)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.id());
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Checked below, by our clock, whether the token comes from the cache or not.
        validation.validate_exp = false;
        Ok(Self {
            encoding: EncodingKey::from_ed_der(key.pkcs8()),
            decoding: DecodingKey::from_ed_der(key.public()),
            key,
            header,
            validation,
            checked: Cache::new(CACHED_TOKENS),
            amendments: Amendments::default(),
        })
    }

    /// A new token, good for `lifetime`.
    pub fn issue(&self, grant: &Grant, lifetime: Duration) -> String {
        let now = clock::now().timestamp();
        let claims = WireClaims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: grant.user_id,
            sid: grant.session_id,
            jti: Uuid::now_v7(),
            role: grant.role,
            ver: grant.verified,
            uv: grant.user_version,
            iat: now,
            exp: now.saturating_add_unsigned(lifetime.as_secs()),
        };
        // Signing fails only for a key that is no Ed25519 key, and `load` has parsed this one; the claims are
        // plain strings and numbers.
        jsonwebtoken::encode(&self.header, &claims, &self.encoding).expect("an Ed25519 key signs")
    }

    /// Who bears this token. The signature of one token is checked once; expiry and amendments always.
    pub fn verify(&self, token: &str) -> Result<Arc<AccessClaims>, VerifyError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(VerifyError::Invalid);
        }
        let claims = match self.checked.get(token) {
            Some(claims) => claims,
            None => self.check(token)?,
        };
        if claims.expires_at <= clock::now() {
            return Err(VerifyError::Expired);
        }
        self.amendments.apply(claims).ok_or(VerifyError::Invalid)
    }

    fn check(&self, token: &str) -> Result<Arc<AccessClaims>, VerifyError> {
        let wire = jsonwebtoken::decode::<WireClaims>(token, &self.decoding, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => VerifyError::Expired,
                _ => VerifyError::Invalid,
            })?
            .claims;
        let time = |seconds| DateTime::from_timestamp(seconds, 0).ok_or(VerifyError::Invalid);
        let claims = Arc::new(AccessClaims {
            token_id: wire.jti,
            user_id: wire.sub,
            session_id: wire.sid,
            role: wire.role,
            verified: wire.ver,
            user_version: wire.uv,
            issued_at: time(wire.iat)?,
            expires_at: time(wire.exp)?,
        });
        self.checked.insert(token.into(), Arc::clone(&claims));
        Ok(claims)
    }

    /// What this process knows to have changed since tokens were issued.
    pub fn amendments(&self) -> &Amendments {
        &self.amendments
    }

    /// The public key.
    pub fn jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP",
            crv: "Ed25519",
            usage: "sig",
            alg: "EdDSA",
            kid: self.key.id(),
            x: self.key.public_base64url(),
        }
    }

    /// The key of hold tokens (HS256), the same in every process.
    pub fn hold_token_key(&self) -> [u8; 32] {
        self.key.derive("evently/hold-token/v1")
    }

    /// The key under which one-time codes are hashed: six digits alone would be guessed from their hash.
    pub(super) fn code_key(&self) -> [u8; 32] {
        self.key.derive("evently/email-code/v1")
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::{
        super::amendments::{Amendment, UserChange},
        *,
    };

    fn tokens() -> Tokens {
        let directory = std::env::temp_dir().join(format!("evently-tokens-{:016x}", rand::random::<u64>()));
        let tokens = Tokens::load(&directory.join("signing.pem")).unwrap();
        std::fs::remove_dir_all(directory).unwrap();
        tokens
    }

    fn grant() -> Grant {
        Grant {
            user_id: Uuid::now_v7(),
            session_id: Uuid::now_v7(),
            role: Role::Organizer,
            verified: true,
            user_version: 3,
        }
    }

    #[test]
    fn a_token_says_for_whom_it_was_issued() {
        let (tokens, grant) = (tokens(), grant());
        let token = tokens.issue(&grant, ACCESS_LIFETIME);
        let first = tokens.verify(&token).unwrap();
        let again = tokens.verify(&token).unwrap();
        assert!(Arc::ptr_eq(&first, &again), "the second check comes from the cache");
        assert_eq!(
            (first.user_id, first.session_id, first.role, first.verified),
            (grant.user_id, grant.session_id, grant.role, grant.verified)
        );
        assert_eq!(first.expires_at - first.issued_at, chrono::TimeDelta::minutes(15));
    }

    #[test]
    fn an_expired_token_is_told_apart() {
        let tokens = tokens();
        let token = tokens.issue(&grant(), Duration::ZERO);
        assert_eq!(tokens.verify(&token), Err(VerifyError::Expired));
        assert_eq!(tokens.verify(&token), Err(VerifyError::Expired), "also from the cache");
    }

    #[test]
    fn another_key_algorithm_issuer_or_audience_is_invalid() {
        let tokens = tokens();
        let other = self::tokens();
        assert_eq!(tokens.verify(&other.issue(&grant(), ACCESS_LIFETIME)), Err(VerifyError::Invalid));

        let now = clock::now().timestamp();
        let good = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": Uuid::now_v7(), "sid": Uuid::now_v7(),
            "jti": Uuid::now_v7(), "role": "user", "ver": true, "uv": 1, "iat": now, "exp": now + 60});
        let sign = |claims: &Value| jsonwebtoken::encode(&tokens.header, claims, &tokens.encoding).unwrap();
        assert!(tokens.verify(&sign(&good)).is_ok());
        for (claim, value) in
            [("iss", json!("other")), ("aud", json!("other")), ("exp", Value::Null), ("role", json!("root"))]
        {
            let mut bad = good.clone();
            bad[claim] = value;
            assert_eq!(tokens.verify(&sign(&bad)), Err(VerifyError::Invalid), "{claim}");
        }

        let body = URL_SAFE_NO_PAD.encode(good.to_string());
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        assert_eq!(tokens.verify(&format!("{none}.{body}.")), Err(VerifyError::Invalid));
        let by_public_key =
            jsonwebtoken::encode(&Header::default(), &good, &EncodingKey::from_secret(tokens.key.public()))
                .unwrap();
        assert_eq!(tokens.verify(&by_public_key), Err(VerifyError::Invalid), "HS256 with the public key");
    }

    #[test]
    fn an_altered_token_is_invalid_though_the_true_one_is_cached() {
        let tokens = tokens();
        let token = tokens.issue(&grant(), ACCESS_LIFETIME);
        tokens.verify(&token).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let other = tokens.issue(&grant(), ACCESS_LIFETIME);
        let body = other.split('.').nth(1).unwrap();
        assert_eq!(tokens.verify(&format!("{header}.{body}.{signature}")), Err(VerifyError::Invalid));
        for text in ["", ".", "..", "a.b.c", &"x".repeat(100_000)] {
            assert_eq!(tokens.verify(text), Err(VerifyError::Invalid));
        }
    }

    #[test]
    fn an_ended_session_ends_its_tokens_at_once() {
        let (tokens, grant) = (tokens(), grant());
        let token = tokens.issue(&grant, ACCESS_LIFETIME);
        tokens.verify(&token).unwrap();
        tokens.amendments().note(Amendment::SessionEnded(Uuid::now_v7()));
        assert!(tokens.verify(&token).is_ok());
        tokens.amendments().note(Amendment::SessionEnded(grant.session_id));
        assert_eq!(tokens.verify(&token), Err(VerifyError::Invalid));
    }

    #[test]
    fn a_token_is_read_as_its_user_is_now() {
        let (tokens, grant) = (tokens(), grant());
        let token = tokens.issue(&grant, ACCESS_LIFETIME);
        let change = |version, role, ended_before| {
            let change = UserChange { user_id: grant.user_id, version, role, verified: true, ended_before };
            tokens.amendments().note(Amendment::UserChanged(change));
        };
        change(5, Role::Admin, 0);
        change(4, Role::Operator, 0);
        assert_eq!(tokens.verify(&token).unwrap().role, Role::Admin, "the newest counts, in any order");
        let newer = tokens.issue(&Grant { user_version: 6, ..grant }, ACCESS_LIFETIME);
        assert_eq!(tokens.verify(&newer).unwrap().role, grant.role, "a newer token knows better");
        change(7, Role::User, 7);
        change(8, Role::User, 0);
        assert_eq!(
            tokens.verify(&newer),
            Err(VerifyError::Invalid),
            "activated again, but the session is over"
        );
        let newest = tokens.issue(&Grant { user_version: 8, ..grant }, ACCESS_LIFETIME);
        assert!(tokens.verify(&newest).is_ok());
    }

    #[test]
    fn derived_keys_differ() {
        let tokens = tokens();
        assert_ne!(tokens.hold_token_key(), tokens.code_key());
    }
}
