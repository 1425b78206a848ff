//! The outbox relay: what a commit causes happens, whatever dies in between.

use std::time::Duration;

use domain::{
    config::Env,
    jobs::{Job, Pool, SendMail, SyncInventory},
    mails::{self, DueMail, MailContent},
    outbox::{self, OutboxEntry},
    retention::{Kept, let_go},
};
use queue::{Enqueued, Envelope};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::{Context, RunError};

use crate::support::{database::TestDatabase, redis::TestRedis, smtp::SmtpSink};

const USER: &str = "00000000-0000-7000-8000-00000000000a";

struct Relay {
    ctx: Context,
    sink: SmtpSink,
    database: TestDatabase,
    redis: TestRedis,
}

/// Pools that run until they are told to stop.
struct Pools(CancellationToken, JoinHandle<Result<(), RunError>>);

impl Pools {
    async fn stop(self) {
        self.0.cancel();
        self.1.await.unwrap().unwrap();
    }
}

impl Relay {
    async fn start() -> Self {
        let database = TestDatabase::create().await;
        database.execute(include_str!("booking.sql")).await;
        let (redis, sink) = (TestRedis::durable(), SmtpSink::start().await);
        let env = [("DATABASE_URL", database.url()), ("REDIS_URL", redis.url()), ("SMTP_URL", sink.url())];
        let ctx = Context::from_env(&env.into_iter().collect::<Env>()).unwrap();
        Self { ctx, sink, database, redis }
    }

    fn work(&self, pools: &'static [Pool]) -> Pools {
        let stop = CancellationToken::new();
        Pools(stop.clone(), tokio::spawn(workers::run(pools, self.ctx.clone(), None, stop)))
    }

    async fn owe(&self, count: usize) {
        let due = (0..count)
            .map(|_| DueMail {
                cause: Uuid::now_v7().to_string(),
                user_id: USER.parse().unwrap(),
                recipient: "ada@evently.test".to_owned(),
                content: MailContent::VerifyEmail { code: "402917".to_owned() },
                deadline: None,
                traceparent: None,
            })
            .collect::<Vec<_>>();
        mails::owe(&self.ctx.db.conn().await.unwrap(), &due).await.unwrap();
    }

    async fn count(&self, table_where: &str) -> usize {
        self.database.value(&format!("SELECT count(*) FROM {table_where}")).await.unwrap().parse().unwrap()
    }

    /// Waits until a query counts so many.
    async fn until(&self, table_where: &str, count: usize) {
        for _ in 0..1_000 {
            if self.count(table_where).await == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{table_where}: {} instead of {count}", self.count(table_where).await);
    }

    /// Every mail arrived, each once, and nothing is left to do.
    async fn all_arrived(&self, count: usize) {
        self.until("outbox", 0).await;
        let received = self.sink.received();
        let mut recipients = received.iter().map(|mail| message_id(&mail.raw)).collect::<Vec<_>>();
        recipients.sort_unstable();
        recipients.dedup();
        assert_eq!((received.len(), recipients.len()), (count, count));
        assert_eq!(self.count("mails WHERE status <> 'sent'").await, 0);
    }
}

fn message_id(raw: &str) -> &str {
    raw.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_owed_is_sent_once_and_its_row_goes() {
    let relay = Relay::start().await;
    let pools = relay.work(&[Pool::Email, Pool::Upkeep]);
    relay.owe(700).await;
    relay.sink.wait_for(700).await;
    relay.all_arrived(700).await;
    pools.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_relays_share_the_work() {
    let relay = Relay::start().await;
    relay.owe(1_500).await;
    let relays = [relay.work(&[Pool::Upkeep]), relay.work(&[Pool::Upkeep]), relay.work(&[Pool::Upkeep])];
    relay.until("outbox WHERE enqueued_at IS NOT NULL", 1_500).await;
    assert_eq!(relay.ctx.queue.stats(Pool::Email).await.unwrap().depth, 1_500);
    for relay in relays {
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_before_its_commit_enqueues_again_to_no_effect() {
    let relay = Relay::start().await;
    relay.owe(3).await;
    // What a relay does, up to its commit.
    let rows = relay.database.rows("SELECT id, job_key, payload FROM outbox").await;
    let envelopes = rows.iter().map(|row| {
        let value = |column: usize| row[column].as_deref().unwrap();
        let payload = serde_json::from_str(value(2)).unwrap();
        let id = value(0).parse().unwrap();
        Envelope::from_outbox(id, Pool::Email, SendMail::NAME, value(1), &payload, None).unwrap()
    });
    relay.ctx.queue.enqueue_many(&envelopes.collect::<Vec<_>>()).await;
    let pools = relay.work(&[Pool::Email, Pool::Upkeep]);
    relay.all_arrived(3).await;
    pools.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_in_the_outbox_while_redis_is_away_and_survive_its_loss() {
    let mut relay = Relay::start().await;
    let pools = relay.work(&[Pool::Upkeep]);
    relay.redis.kill();
    relay.owe(5).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(relay.count("outbox WHERE enqueued_at IS NULL").await, 5);
    relay.redis.restart();
    relay.until("outbox WHERE enqueued_at IS NOT NULL", 5).await;
    // The queue forgets everything; a minute later its jobs come back.
    let mut redis = relay.redis.connect().await;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.unwrap();
    let email = relay.work(&[Pool::Email]);
    relay.database.execute("UPDATE outbox SET enqueued_at = now() - interval '61 seconds'").await;
    relay.sink.wait_for(5).await;
    relay.all_arrived(5).await;
    email.stop().await;
    pools.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dead_is_not_enqueued_again() {
    let relay = Relay::start().await;
    relay.owe(1).await;
    let id = relay.database.value("SELECT id FROM outbox").await.unwrap().parse().unwrap();
    let mut conn = relay.ctx.db.conn().await.unwrap();
    outbox::bury(&mut conn, id, "gave up").await.unwrap();
    relay.database.execute("UPDATE outbox SET enqueued_at = now() - interval '61 seconds'").await;
    let pools = relay.work(&[Pool::Upkeep]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(relay.ctx.queue.stats(Pool::Email).await.unwrap().depth, 0);
    outbox::revive(&mut conn, id).await.unwrap();
    assert_eq!(relay.count("outbox WHERE dead_at IS NULL").await, 1);
    pools.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_causes_of_one_job_are_done_with_soon() {
    let relay = Relay::start().await;
    let event_id = Uuid::now_v7();
    let record = async |from: usize, to: usize| {
        let entry = |n: usize| OutboxEntry::new(&n.to_string(), &SyncInventory { event_id });
        let entries: Vec<_> = (from..to).map(entry).collect();
        outbox::record(&relay.ctx.db.conn().await.unwrap(), &entries).await.unwrap();
    };
    // Asked for without a row: the first row's own from then on.
    relay.ctx.queue.enqueue(&SyncInventory { event_id }).await.unwrap();
    record(0, 300).await;
    let pools = relay.work(&[Pool::Upkeep]);
    for n in 300..400 {
        record(n, n + 1).await;
    }
    relay.until("outbox", 0).await;
    pools.stop().await;
}

#[tokio::test]
async fn a_row_whose_job_runs_for_another_waits_for_its_end() {
    let relay = Relay::start().await;
    let job = SyncInventory { event_id: Uuid::now_v7() };
    let put = async || {
        let id = Uuid::now_v7();
        let payload = serde_json::to_value(&job).unwrap();
        let envelope =
            Envelope::from_outbox(id, Pool::Upkeep, SyncInventory::NAME, &job.key(), &payload, None);
        relay.ctx.queue.enqueue_many(&[envelope.unwrap()]).await.pop().unwrap().unwrap()
    };
    assert_eq!(put().await, Enqueued::New);
    assert_eq!(put().await, Enqueued::Covered);
    let mut redis = relay.redis.connect().await;
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("*meta*sync_inventory*").query_async(&mut redis).await.unwrap();
    let mut running = redis::cmd("HSET");
    running.arg(&keys[0]).arg("status").arg("Running").exec_async(&mut redis).await.unwrap();
    assert_eq!(put().await, Enqueued::Running);
}

#[tokio::test]
async fn a_cause_is_recorded_once() {
    let relay = Relay::start().await;
    let due = DueMail {
        cause: "booking 1".to_owned(),
        user_id: USER.parse().unwrap(),
        recipient: "ada@evently.test".to_owned(),
        content: MailContent::VerifyEmail { code: "402917".to_owned() },
        deadline: None,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
    };
    let conn = relay.ctx.db.conn().await.unwrap();
    for _ in 0..2 {
        mails::owe(&conn, std::slice::from_ref(&due)).await.unwrap();
    }
    assert_eq!((relay.count("mails").await, relay.count("outbox").await), (1, 1));
    assert_eq!(relay.database.value("SELECT traceparent FROM outbox").await, due.traceparent);
}

#[tokio::test]
async fn what_is_old_goes_and_what_is_not_stays() {
    let relay = Relay::start().await;
    relay.owe(4).await;
    relay
        .database
        .execute(&format!(
            "UPDATE mails SET status = 'sent', created_at = now() - interval '91 days' \
                 WHERE id = (SELECT id FROM mails ORDER BY id LIMIT 1);
             UPDATE mails SET status = 'sent' WHERE id = (SELECT id FROM mails ORDER BY id OFFSET 1 LIMIT 1);
             UPDATE mails SET deadline = now() - interval '2 hours' WHERE id = (SELECT id FROM mails ORDER BY id OFFSET 2 LIMIT 1);
             INSERT INTO idempotency_keys (user_id, operation, key, fingerprint, status, body, created_at) VALUES
                 ('{USER}', 'x', 'old', '', 201, '{{}}', now() - interval '25 hours'), ('{USER}', 'x', 'new', '', 201, '{{}}', now());
             INSERT INTO email_codes (id, user_id, purpose, code_hash, expires_at) VALUES
                 (gen_random_uuid(), '{USER}', 'verify_email', '', now() - interval '2 days'),
                 (gen_random_uuid(), '{USER}', 'verify_email', '', now() - interval '1 hour');
             INSERT INTO sessions (id, user_id, expires_at, revoked_at) VALUES
                 (gen_random_uuid(), '{USER}', now() - interval '31 days', NULL),
                 (gen_random_uuid(), '{USER}', now() + interval '1 day', now() - interval '31 days'),
                 (gen_random_uuid(), '{USER}', now() + interval '1 day', NULL);
             INSERT INTO refresh_tokens (token_hash, session_id, expires_at) \
                 SELECT 'old' || id::text::bytea, id, now() - interval '31 days' FROM sessions;
             INSERT INTO refresh_tokens (token_hash, session_id, expires_at) \
                 SELECT 'new' || id::text::bytea, id, now() FROM sessions;"
        ))
        .await;
    let mut conn = relay.ctx.db.conn().await.unwrap();
    for (kept, gone) in [
        (Kept::MailsTooLate, 1),
        (Kept::Mails, 1),
        (Kept::IdempotencyKeys, 1),
        (Kept::EmailCodes, 1),
        (Kept::RefreshTokens, 3),
        (Kept::Sessions, 2),
    ] {
        assert_eq!(let_go(&mut conn, kept, 100).await.unwrap(), gone, "{kept}");
        assert_eq!(let_go(&mut conn, kept, 100).await.unwrap(), 0, "{kept}");
    }
    assert_eq!(relay.count("mails").await, 3);
    assert_eq!(relay.count("mails WHERE status = 'failed' AND NOT data ? 'code'").await, 1);
    assert_eq!(relay.count("refresh_tokens").await, 1);
}
