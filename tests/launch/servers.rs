//! The servers that tests run on: each test has its own data, and nobody else gets at it.

use std::os::unix::fs::PermissionsExt;

use crate::support::{database::TestDatabase, redis::TestRedis};

#[tokio::test]
async fn a_database_is_migrated_and_a_tests_own() {
    let (one, two) = (TestDatabase::create().await, TestDatabase::create().await);
    one.execute("INSERT INTO idempotency_keys VALUES (gen_random_uuid(), 'o', 'k', '', 200, '{}')").await;
    assert_eq!(one.value("SELECT count(*)::text FROM idempotency_keys").await.as_deref(), Some("1"));
    assert_eq!(two.value("SELECT count(*)::text FROM idempotency_keys").await.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_redis_is_a_tests_own_and_survives_a_kill() {
    let (mut one, two) = (TestRedis::durable(), TestRedis::start());
    let mut connection = one.connect().await;
    redis::cmd("SET").arg("a").arg(1).exec_async(&mut connection).await.unwrap();
    // What is acknowledged reaches the file before the next command of a client is answered.
    redis::cmd("PING").exec_async(&mut connection).await.unwrap();
    one.kill();
    one.restart();
    let mut connection = one.connect().await;
    let kept: Option<i64> = redis::cmd("GET").arg("a").query_async(&mut connection).await.unwrap();
    assert_eq!(kept, Some(1));
    let other: Option<i64> = redis::cmd("GET").arg("a").query_async(&mut two.connect().await).await.unwrap();
    assert_eq!(other, None);
}

#[tokio::test]
async fn sockets_are_for_their_owner_only() {
    let redis = TestRedis::start();
    let directory = redis.socket().parent().unwrap().metadata().unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o700);
}
