//! `send_mail` against a real SMTP server: each mail once, whatever the server and other workers do.

use std::time::Duration;

use domain::{
    config::Env,
    jobs::{Job, Pool, SendMail},
    mails::{self, DueMail, MailContent},
};
use mail_parser::MessageParser;
use uuid::Uuid;
use workers::{Context, JobError};

use crate::support::{
    children,
    database::TestDatabase,
    smtp::{Misbehave, SmtpSink},
};

const USER: &str = "00000000-0000-7000-8000-00000000000a";
const BOOKING: &str = "00000000-0000-7000-8000-00000000000b";

/// A booking in the database, and what sends mails about it.
struct Post {
    database: TestDatabase,
    sink: SmtpSink,
    ctx: Context,
}

impl Post {
    async fn start() -> Self {
        let database = TestDatabase::create().await;
        database.execute(include_str!("booking.sql")).await;
        let sink = SmtpSink::start().await;
        let ctx = context(&database, Some(sink.url()));
        Self { database, sink, ctx }
    }

    /// Records that a mail is owed; answers its job.
    async fn owe(&self, content: MailContent, deadline: Option<Duration>) -> SendMail {
        let due = DueMail {
            cause: Uuid::now_v7().to_string(),
            user_id: USER.parse().unwrap(),
            recipient: "ada@evently.test".to_owned(),
            content,
            deadline: deadline.map(|within| domain::clock::now() + within),
            traceparent: None,
        };
        mails::owe(&self.ctx.db.conn().await.unwrap(), std::slice::from_ref(&due)).await.unwrap();
        let mail = self.database.value(&format!("SELECT id FROM mails WHERE cause = '{}'", due.cause)).await;
        SendMail { mail_id: mail.unwrap().parse().unwrap() }
    }

    async fn owe_tickets(&self) -> SendMail {
        self.owe(MailContent::BookingConfirmed { booking_id: BOOKING.parse().unwrap() }, None).await
    }

    async fn run(&self, job: &SendMail) -> Result<(), JobError> {
        run(&self.ctx, job).await
    }

    /// Status, error, and whether the lease is taken.
    async fn state(&self, job: &SendMail) -> (String, Option<String>, bool) {
        let sql = format!(
            "SELECT status, error, coalesce(lease_until > now(), false) FROM mails WHERE id = '{}'",
            job.mail_id
        );
        let row = self.database.rows(&sql).await.remove(0);
        (row[0].clone().unwrap(), row[1].clone(), row[2].as_deref() == Some("t"))
    }
}

fn context(database: &TestDatabase, smtp_url: Option<String>) -> Context {
    let data_dir = children::root().join(Uuid::now_v7().simple().to_string());
    let env = [
        ("DATABASE_URL", database.url()),
        // Never asked: these jobs are run by hand.
        ("REDIS_URL", "redis://127.0.0.1:1".to_owned()),
        ("EVENTLY_PUBLIC_URL", "https://evently.test".to_owned()),
        ("EVENTLY_DATA_DIR", data_dir.to_string_lossy().into_owned()),
        ("SMTP_URL", smtp_url.unwrap_or_default()),
    ];
    Context::from_env(&env.into_iter().collect::<Env>()).unwrap()
}

async fn run(ctx: &Context, job: &SendMail) -> Result<(), JobError> {
    let handler = workers::spec(Pool::Email).jobs.iter().find(|job| job.name == SendMail::NAME).unwrap();
    let payload = serde_json::value::to_raw_value(job).unwrap();
    (handler.run)(&payload, ctx.clone()).await
}

fn sent() -> (String, Option<String>, bool) {
    ("sent".to_owned(), None, false)
}

#[tokio::test]
async fn a_mail_is_sent_once_however_often_its_job_runs() {
    let post = Post::start().await;
    let job = post.owe_tickets().await;
    for _ in 0..3 {
        post.run(&job).await.unwrap();
    }
    let received = post.sink.received();
    assert_eq!(received.len(), 1);
    assert_eq!(
        (received[0].from.as_str(), received[0].to.as_str()),
        ("tickets@evently.test", "ada@evently.test")
    );
    let message = MessageParser::default().parse(received[0].raw.as_bytes()).unwrap();
    assert_eq!(message.message_id().unwrap(), format!("{}@evently.test", job.mail_id));
    let text = message.body_text(0).unwrap();
    for shown in
        ["Winter Lights", "19:30–22:00 (CET, Europe/Berlin)", "EV-TEST01", "EUR 90.00", "AAAA-BBBB-CCCC"]
    {
        assert!(text.contains(shown), "{shown} is not in\n{text}");
    }
    assert_eq!(post.state(&job).await, sent());
}

#[tokio::test]
async fn a_mail_that_several_workers_run_at_once_is_sent_once() {
    let post = Post::start().await;
    let job = post.owe_tickets().await;
    post.sink.misbehave(Misbehave::Slow(Duration::from_millis(300)));
    let other = context(&post.database, Some(post.sink.url()));
    let (first, second, third) = tokio::join!(post.run(&job), run(&other, &job), post.run(&job));
    let outcomes = [first, second, third];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let later = outcomes.iter().filter(|outcome| matches!(outcome, Err(JobError::Retry(_)))).count();
    assert_eq!(later, 2, "{outcomes:?}");
    assert_eq!(post.sink.received().len(), 1);
}

#[tokio::test]
async fn temporary_refusals_are_tried_again_on_the_same_connection() {
    let post = Post::start().await;
    let job = post.owe_tickets().await;
    for (at, reply) in [
        ("MAIL", "451 4.3.0 busy"),
        ("RCPT", "450 4.2.0 greylisted"),
        ("DATA", "451 4.3.0 busy"),
        (".", "452 4.3.1 disk full"),
        ("RCPT", "530 5.7.0 log in first"),
    ] {
        post.sink.misbehave(Misbehave::Refuse { at, reply });
        assert!(matches!(post.run(&job).await, Err(JobError::Retry(_))), "{at} {reply}");
        let (status, error, leased) = post.state(&job).await;
        assert_eq!((status.as_str(), leased), ("pending", false));
        assert!(error.unwrap().contains(&reply[..3]));
    }
    post.run(&job).await.unwrap();
    assert_eq!(post.sink.received().len(), 1);
    assert_eq!(post.sink.connections(), 1);
    assert_eq!(post.state(&job).await, sent());
}

#[tokio::test]
async fn permanent_refusals_are_recorded_and_not_tried_again() {
    let post = Post::start().await;
    for (at, reply) in [("RCPT", "550 5.1.1 no such user"), (".", "554 5.6.0 not wanted")] {
        let job = post.owe_tickets().await;
        post.sink.misbehave(Misbehave::Refuse { at, reply });
        for _ in 0..2 {
            post.run(&job).await.unwrap();
        }
        let (status, error, leased) = post.state(&job).await;
        assert_eq!((status.as_str(), leased), ("failed", false));
        assert!(error.unwrap().contains(&reply[4..]));
    }
    assert_eq!(post.sink.received(), []);
}

#[tokio::test]
async fn a_lost_answer_brings_the_same_mail_again_whatever_has_changed_since() {
    let post = Post::start().await;
    let job = post.owe_tickets().await;
    post.sink.misbehave(Misbehave::LoseAnswer);
    assert!(matches!(post.run(&job).await, Err(JobError::Retry(_))));
    post.database.execute("UPDATE events SET title = 'Other'; UPDATE users SET name = 'Other'").await;
    post.run(&job).await.unwrap();
    let received = post.sink.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0], received[1]);
    assert_eq!(post.state(&job).await, sent());
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_again() {
    let post = Post::start().await;
    let job = post.owe_tickets().await;
    let nowhere = context(&post.database, Some("smtp://127.0.0.1:1".to_owned()));
    assert!(matches!(run(&nowhere, &job).await, Err(JobError::Retry(_))));
    post.run(&job).await.unwrap();
    assert_eq!(post.sink.received().len(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_replaced_at_once() {
    let post = Post::start().await;
    post.sink.misbehave(Misbehave::HangUpAfter);
    for _ in 0..3 {
        let job = post.owe_tickets().await;
        post.run(&job).await.unwrap();
    }
    assert_eq!((post.sink.received().len(), post.sink.connections()), (3, 2));
}

#[tokio::test]
async fn a_lease_is_respected_until_it_ends() {
    let post = Post::start().await;
    let job = post.owe_tickets().await;
    post.database.execute("UPDATE mails SET lease_until = now() + interval '20 seconds'").await;
    assert!(matches!(post.run(&job).await, Err(JobError::Retry(_))));
    assert_eq!(post.sink.received(), []);
    post.database.execute("UPDATE mails SET lease_until = now()").await;
    post.run(&job).await.unwrap();
    assert_eq!(post.sink.received().len(), 1);
}

#[tokio::test]
async fn a_mail_past_its_deadline_is_given_up() {
    let post = Post::start().await;
    let content = || MailContent::VerifyEmail { code: "402917".to_owned() };
    let job = post.owe(content(), Some(Duration::from_mins(10))).await;
    let late = post.owe(content(), Some(Duration::ZERO)).await;
    for job in [&job, &late] {
        post.run(job).await.unwrap();
    }
    assert_eq!(post.state(&late).await, ("failed".to_owned(), Some("too late".to_owned()), false));
    let received = post.sink.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].raw.contains("402917") && received[0].raw.contains("for 10 minutes"));
    // Nothing keeps a code that was sent, or never will be.
    let codes = post.database.value("SELECT count(*) FROM mails WHERE data::text LIKE '%402917%'").await;
    assert_eq!(codes.as_deref(), Some("0"));
}

#[tokio::test]
async fn what_cannot_be_sent_is_recorded() {
    let post = Post::start().await;
    let job = post.owe(MailContent::BookingConfirmed { booking_id: Uuid::now_v7() }, None).await;
    post.run(&job).await.unwrap();
    assert_eq!(post.state(&job).await.0, "failed");
    let unknown = SendMail { mail_id: Uuid::now_v7() };
    assert!(matches!(post.run(&unknown).await, Err(JobError::Discard(..))));
}

#[tokio::test]
async fn without_a_server_a_mail_is_one_file() {
    let post = Post::start().await;
    let data_dir = children::root().join(Uuid::now_v7().simple().to_string());
    let ctx = Context::from_env(
        &[
            ("DATABASE_URL", post.database.url()),
            ("REDIS_URL", "redis://127.0.0.1:1".to_owned()),
            ("EVENTLY_DATA_DIR", data_dir.to_string_lossy().into_owned()),
        ]
        .into_iter()
        .collect::<Env>(),
    )
    .unwrap();
    let job = post.owe_tickets().await;
    let files = || -> Vec<String> {
        let entries = std::fs::read_dir(data_dir.join("mail")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    run(&ctx, &job).await.unwrap();
    let first = files();
    assert_eq!(first.len(), 1);
    assert!(first[0].ends_with(&format!("-{}.eml", job.mail_id)), "{first:?}");
    // As if the worker had died before it could say that the mail is out.
    post.database.execute("UPDATE mails SET status = 'pending'").await;
    run(&ctx, &job).await.unwrap();
    assert_eq!(files(), first);
}

#[tokio::test]
async fn every_kind_of_mail_reads_what_the_database_holds() {
    let post = Post::start().await;
    let booking_id = BOOKING.parse().unwrap();
    for content in [
        MailContent::VerifyEmail { code: "402917".to_owned() },
        MailContent::ResetPassword { code: "402917".to_owned() },
        MailContent::BookingConfirmed { booking_id },
        MailContent::BookingCancelled { booking_id },
        MailContent::EventCancelled { booking_id },
        MailContent::BookingRefunded { booking_id },
    ] {
        let job = post.owe(content, None).await;
        post.run(&job).await.unwrap();
        assert_eq!(post.state(&job).await, sent());
    }
    assert_eq!(post.sink.received().len(), 6);
}

/// The connections' plans are made while the table is as good as empty, and have to do in a rush.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_costs_the_same_when_thousands_wait() {
    const SENT: i64 = 40;
    let post = Post::start().await;
    for _ in 0..8 {
        post.run(&post.owe_tickets().await).await.unwrap();
    }
    post.database
        .execute(
            "INSERT INTO mails (id, cause, kind, recipient, data) \
             SELECT gen_random_uuid(), n::text, 'crowd', 'ada@evently.test', '{}' FROM generate_series(1, 2000) n",
        )
        .await;
    let number = async |sql| post.database.value(sql).await.unwrap().parse::<i64>().unwrap();
    let mut sent = 0;
    // A connection says once a second what it has read.
    while sent < SENT
        || number("SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'mails'").await < 2 * SENT
    {
        assert!(sent < 10 * SENT, "Postgres does not say what it has read");
        post.run(&post.owe_tickets().await).await.unwrap();
        sent += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let read = "SELECT t.seq_tup_read + sum(i.idx_tup_read) FROM pg_stat_user_tables t \
                JOIN pg_stat_user_indexes i USING (relid) WHERE t.relname = 'mails' GROUP BY t.seq_tup_read";
    let (read, sent) = (number(read).await, sent + 8);
    assert!(read < 20 * sent, "{sent} mails were sent, and {read} rows read for them");
}
