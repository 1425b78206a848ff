//! One-time codes sent by e-mail: six digits, ten minutes, five tries, one use, the newest only.

use chrono::{DateTime, Utc};
use diesel::{
    dsl::{IntervalDsl, now},
    prelude::*,
    sql_types::Timestamptz,
};
use diesel_async::RunQueryDsl;
use ring::hmac;
use uuid::Uuid;

use super::{User, tokens::Tokens};
use crate::{
    db::Conn,
    fault::Fault,
    mails::{self, DueMail, MailContent},
    schema::{email_codes, users},
};

const LIFETIME_MINUTES: i32 = 10;
const MAX_TRIES: i32 = 5;

/// What a code allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    VerifyEmail,
    ResetPassword,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
        }
    }
}

/// Makes a code, which takes the place of older ones, and records the mail that brings it. Call it in a
/// transaction.
pub(super) async fn send(
    conn: &mut Conn,
    tokens: &Tokens,
    user: &User,
    purpose: Purpose,
) -> Result<(), Fault> {
    // Locked, so that of two codes made at once one replaces the other.
    users::table.find(user.id).select(users::id).for_no_key_update().first::<Uuid>(conn).await?;
    diesel::delete(email_codes::table)
        .filter(email_codes::user_id.eq(user.id).and(email_codes::purpose.eq(purpose.name())))
        .execute(conn)
        .await?;
    let code = format!("{:06}", rand::random_range(0..1_000_000));
    let id = Uuid::now_v7();
    let expires_at: DateTime<Utc> = diesel::insert_into(email_codes::table)
        .values((
            email_codes::id.eq(id),
            email_codes::user_id.eq(user.id),
            email_codes::purpose.eq(purpose.name()),
            email_codes::code_hash.eq(hash(tokens, user.id, purpose, &code)),
            email_codes::expires_at.eq(now.into_sql::<Timestamptz>() + LIFETIME_MINUTES.minutes()),
        ))
        .returning(email_codes::expires_at)
        .get_result(conn)
        .await?;
    let content = match purpose {
        Purpose::VerifyEmail => MailContent::VerifyEmail { code },
        Purpose::ResetPassword => MailContent::ResetPassword { code },
    };
    let mail = DueMail {
        cause: id.to_string(),
        user_id: user.id,
        recipient: user.email.clone(),
        content,
        deadline: Some(expires_at),
        traceparent: None,
    };
    mails::owe(conn, &[mail]).await
}

/// Whether this is the user's code; then it is used up. Otherwise a try is. Call it in a transaction, and commit
/// that in both cases.
pub(super) async fn redeem(
    conn: &mut Conn,
    tokens: &Tokens,
    user_id: Uuid,
    purpose: Purpose,
    code: &str,
) -> Result<bool, Fault> {
    // The row lock of this update makes those who try at once take turns.
    let tried: Option<(Uuid, Vec<u8>)> = diesel::update(email_codes::table)
        .filter(email_codes::user_id.eq(user_id).and(email_codes::purpose.eq(purpose.name())))
        .filter(email_codes::used_at.is_null())
        .filter(email_codes::tries.lt(MAX_TRIES))
        .filter(email_codes::expires_at.gt(now))
        .set(email_codes::tries.eq(email_codes::tries + 1))
        .returning((email_codes::id, email_codes::code_hash))
        .get_result(conn)
        .await
        .optional()?;
    let Some((id, expected)) = tried else { return Ok(false) };
    if hmac::verify(&key(tokens), &message(user_id, purpose, code), &expected).is_err() {
        return Ok(false);
    }
    diesel::update(email_codes::table.find(id)).set(email_codes::used_at.eq(now)).execute(conn).await?;
    Ok(true)
}

fn hash(tokens: &Tokens, user_id: Uuid, purpose: Purpose, code: &str) -> Vec<u8> {
    hmac::sign(&key(tokens), &message(user_id, purpose, code)).as_ref().to_vec()
}

fn key(tokens: &Tokens) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &tokens.code_key())
}

fn message(user_id: Uuid, purpose: Purpose, code: &str) -> Vec<u8> {
    format!("{}:{user_id}:{code}", purpose.name()).into_bytes()
}
