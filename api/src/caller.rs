//! Who calls: the bearer of an access token, and whether their role suffices.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, OptionalFromRequestParts},
    http::{HeaderValue, header, request::Parts},
};
use domain::{
    accounts::{
        Role,
        sessions::Client,
        tokens::{AccessClaims, VerifyError},
    },
    events::Editor,
};
use uuid::Uuid;

use crate::{
    App,
    error::{ApiError, ApiResult, Code},
};

/// Somebody with a good access token. `Option<Caller>` is for routes that also serve anybody: a token that is
/// there must be good.
#[derive(Clone, Debug)]
pub struct Caller(pub Arc<AccessClaims>);

impl Caller {
    pub fn id(&self) -> Uuid {
        self.0.user_id
    }

    pub fn role(&self) -> Role {
        self.0.role
    }

    /// The caller as one who writes events: an admin all, an organizer their own.
    pub fn editor(&self) -> Editor {
        Editor { user_id: self.id(), is_admin: self.role() == Role::Admin }
    }

    /// Whether the role is one of these. An admin may do everything.
    fn allow(self, roles: &[Role]) -> ApiResult<Self> {
        if self.role() == Role::Admin || roles.contains(&self.role()) {
            Ok(self)
        } else {
            Err(Code::Forbidden.into())
        }
    }

    fn of(app: &App, parts: &Parts) -> ApiResult<Option<Self>> {
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let token = value
            .to_str()
            .ok()
            .filter(|_| values.next().is_none())
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(Code::Unauthenticated)?;
        match app.accounts.tokens().verify(token) {
            Ok(claims) => Ok(Some(Self(claims))),
            Err(VerifyError::Expired) => Err(Code::TokenExpired.into()),
            Err(VerifyError::Invalid) => Err(ApiError::from(Code::Unauthenticated).with_header(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"evently\", error=\"invalid_token\""),
            )),
        }
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        Self::of(app, parts)?.ok_or_else(|| Code::Unauthenticated.into())
    }
}

impl OptionalFromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Option<Self>> {
        Self::of(app, parts)
    }
}

macro_rules! callers {
    ($($(#[$doc:meta])* $name:ident: $roles:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(pub Caller);

        impl FromRequestParts<Arc<App>> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
                let caller = <Caller as FromRequestParts<Arc<App>>>::from_request_parts(parts, app).await?;
                caller.allow($roles).map(Self)
            }
        }
    )*};
}

callers! {
    /// An organizer or admin; whose event it is, the domain decides.
    Organizer: &[Role::Organizer];
    /// An operator or admin.
    Operator: &[Role::Operator];
    /// An admin.
    Admin: &[];
}

/// From where a request comes: the peer of its connection, and what it calls itself.
///
/// Headers of proxies are not believed: anybody can send them. Behind a proxy, limits per address are the
/// proxy's to keep.
#[derive(Clone, Debug)]
pub struct Origin {
    ip: Option<IpAddr>,
    user_agent: Option<String>,
}

impl Origin {
    /// What rate limits count: an IPv4 address, or the /64 that one IPv6 subscriber has.
    pub fn subject(&self) -> String {
        match self.ip {
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, ..] = ip.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
            Some(ip) => ip.to_string(),
            None => "unknown".to_owned(),
        }
    }
}

impl From<Origin> for Client {
    fn from(origin: Origin) -> Self {
        Self { ip: origin.ip.map(|ip| ip.to_string()), user_agent: origin.user_agent }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
        let user_agent = parts
            .headers
            .get(header::USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .map(|text| text.chars().take(200).collect());
        Ok(Self { ip: peer, user_agent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_count_subscribers() {
        let of = |ip: &str| Origin { ip: ip.parse().ok(), user_agent: None }.subject();
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
