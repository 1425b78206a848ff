//! Those who use the application under test, logged in.

use domain::accounts::{Role, provision::seed_users};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use super::app::TestApp;

/// Everybody's password.
pub const PASSWORD: &str = "correct-horse-battery";
/// Its hash with so little memory and so few passes that hundreds of tests can log in.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$Dqzv3nsjwTQ$dXj3Caql+h8PnM/xfpItDw";

/// Somebody with a verified address and a session.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: Uuid,
    pub email: String,
    /// The access token.
    pub token: String,
    pub refresh_token: String,
}

impl TestApp {
    /// `name@evently.test`, who may buy.
    pub async fn user(&self, name: &str) -> Person {
        self.person(name, Role::User).await
    }

    /// `admin@evently.test`, who may do everything.
    pub async fn admin(&self) -> Person {
        self.person("admin", Role::Admin).await
    }

    /// `name@evently.test` in this role, logged in over HTTP.
    pub async fn person(&self, name: &str, role: Role) -> Person {
        let email = format!("{name}@evently.test");
        self.database
            .execute(&format!(
                "INSERT INTO users (id, email, name, password_hash, role, verified_at) \
                 VALUES ('{}', '{email}', '{name}', '{HASH}', '{}', now()) ON CONFLICT DO NOTHING",
                Uuid::now_v7(),
                role.name(),
            ))
            .await;
        let answer =
            self.post("/v1/auth/login", &json!({"email": email, "password": PASSWORD})).await.expect(200);
        let text = |member: &str| answer[member].as_str().unwrap().to_owned();
        let id = answer["user"]["id"].as_str().unwrap().parse().unwrap();
        Person { id, email, token: text("access_token"), refresh_token: text("refresh_token") }
    }

    /// The access tokens of so many users more: a crowd.
    pub async fn crowd(&self, size: usize) -> Vec<String> {
        seed_users(&self.db, self.app.accounts.tokens(), size, SecretString::from(PASSWORD)).await.unwrap()
    }
}
