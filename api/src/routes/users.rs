//! What an account looks like to its owner and to admins, and how its fields are checked.

use chrono::{DateTime, Utc};
use domain::accounts::{Role, User, address::EmailAddress};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::{ApiError, ApiResult};

/// An account.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserView {
    pub id: Uuid,
    #[schema(format = Email, example = "ada@evently.test")]
    pub email: String,
    #[schema(example = "Ada Lovelace")]
    pub name: String,
    pub role: Role,
    /// Whether the address has been proven with a code.
    pub email_verified: bool,
    /// The version of the `ETag`.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email,
            name: user.name,
            role: user.role,
            email_verified: user.verified_at.is_some(),
            version: user.version,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

/// An answer that holds one account.
#[derive(Serialize, ToSchema)]
pub struct UserAnswer {
    pub user: UserView,
}

impl From<User> for UserAnswer {
    fn from(user: User) -> Self {
        Self { user: user.into() }
    }
}

/// For `garde`: an address that mail could reach.
pub fn is_address(value: &str, _: &()) -> garde::Result {
    value.parse::<EmailAddress>().map(drop).map_err(garde::Error::new)
}

/// For `garde`: a name of 1 to 200 characters on one line.
pub fn is_name(value: &str, _: &()) -> garde::Result {
    let length = value.trim().chars().count();
    if !(1..=200).contains(&length) {
        return Err(garde::Error::new("must have 1 to 200 characters"));
    }
    if value.chars().any(char::is_control) {
        return Err(garde::Error::new("must not hold control characters"));
    }
    Ok(())
}

/// The address of a body that has passed [`is_address`].
pub fn address(value: &str) -> ApiResult<EmailAddress> {
    value.parse().map_err(|error| ApiError::field("/email", format!("{error}")))
}
