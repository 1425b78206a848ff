//! Which limits of rate there are, and how an answer tells of them (draft-ietf-httpapi-ratelimit-headers).
//!
//! They are wide: a whole office or a mobile carrier shares one address, and a sale brings all of it at once.
//! Guesses are bounded by the limits of one account and by the tries of one code.

use std::time::Duration;

use axum::{
    http::{HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use domain::rate_limit::{Limit, Standing, Taking, Verdict};

use crate::{
    App,
    error::{ApiError, ApiResult, Code},
};

/// Failed logins from one address.
pub const LOGIN_ADDRESS: Limit = Limit::new("login-address", 300, Duration::from_mins(1));
/// Failed logins into one account from one address.
pub const LOGIN_ACCOUNT: Limit = Limit::new("login-account", 10, Duration::from_mins(15));
/// Failed logins into one account from anywhere: high, because whoever uses it up locks the owner out.
pub const LOGIN_ACCOUNT_ANYWHERE: Limit = Limit::new("login-account-anywhere", 100, Duration::from_mins(15));
/// New accounts from one address.
pub const REGISTER: Limit = Limit::new("register", 600, Duration::from_mins(10));
/// One-time codes tried from one address.
pub const CODE_ADDRESS: Limit = Limit::new("code-address", 300, Duration::from_mins(10));
/// One-time codes tried for one account: what three codes allow.
pub const CODE_ACCOUNT: Limit = Limit::new("code-account", 15, Duration::from_mins(15));
/// Mails asked for from one address.
pub const MAIL_ADDRESS: Limit = Limit::new("mail-address", 100, Duration::from_mins(10));
/// Mails asked for to one account.
pub const MAIL_ACCOUNT: Limit = Limit::new("mail-account", 5, Duration::from_mins(15));
/// Holds placed by one user. The same basket repeated under one key 50 times at once is no abuse.
pub const HOLD_USER: Limit = Limit::new("hold-user", 200, Duration::from_mins(1));

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static REMAINING: HeaderName = HeaderName::from_static("ratelimit");

/// Counts one operation, runs it unless a limit is used up, and stamps what is left on whatever it answers.
pub async fn limited<R: IntoResponse>(
    app: &App,
    takings: &[Taking<'_>],
    operation: impl Future<Output = ApiResult<R>>,
) -> Response {
    let (standings, mut response) = match app.limiter.take(takings).await {
        Err(fault) => return ApiError::from(fault).into_response(),
        Ok(Verdict::Denied { standings, retry_after }) => {
            let error = ApiError::from(Code::RateLimited).retry_after(whole_seconds(retry_after));
            (standings, error.into_response())
        }
        Ok(Verdict::Allowed(standings)) => (standings, operation.await.into_response()),
    };
    if !standings.is_empty() {
        let policy =
            |s: &Standing| format!("\"{}\";q={};w={}", s.limit.name, s.limit.burst, s.limit.window.as_secs());
        let left =
            |s: &Standing| format!("\"{}\";r={};t={}", s.limit.name, s.remaining, whole_seconds(s.reset));
        stamp(&mut response, &POLICY, &standings, policy);
        stamp(&mut response, &REMAINING, &standings, left);
    }
    response
}

fn stamp(
    response: &mut Response,
    name: &HeaderName,
    standings: &[Standing],
    item: impl Fn(&Standing) -> String,
) {
    let list = standings.iter().map(item).collect::<Vec<_>>().join(", ");
    // Names of limits are ASCII words, the rest is numbers.
    let value = HeaderValue::try_from(list).expect("a list of limits is a header value");
    response.headers_mut().insert(name.clone(), value);
}

/// Rounded up, so that who waits that long is not early.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
