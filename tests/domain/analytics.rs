//! The roll-up: every row of the booking log is counted once, whatever order it commits in and whoever dies.

use std::time::Duration;

use domain::{
    analytics::{self, Differences, Scope},
    db::{Db, DbConfig},
};
use futures::future::join_all;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{database::TestDatabase, figures};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A database with some events at venues in different zones, and nothing sold.
struct Books {
    db: Db,
    events: Vec<Uuid>,
    database: TestDatabase,
}

/// A row of the log: which event, what happened, how many tickets, how much money, how many hours ago.
type Row = (usize, &'static str, i32, i64, i32);

const ZONES: [&str; 3] = ["Europe/Vienna", "Pacific/Auckland", "America/Los_Angeles"];
const KINDS: [&str; 6] = ["confirmed", "confirmed", "confirmed", "failed", "cancelled", "refunded"];
const TABLES: [&str; 4] = ["analytics_events", "analytics_days", "analytics_months", "analytics_totals"];

impl Books {
    async fn open() -> Self {
        let database = TestDatabase::create().await;
        let env = [("DATABASE_URL", database.url())].into_iter().collect();
        let db = Db::new(&DbConfig::from_env(&env).unwrap());
        let owners = [Uuid::now_v7(), Uuid::now_v7()];
        for owner in owners {
            let sql = format!(
                "INSERT INTO users (id, email, name, password_hash) VALUES ('{owner}', '{owner}@x.test', 'O', '')"
            );
            database.execute(&sql).await;
        }
        let mut events = Vec::new();
        for (zone, owner) in ZONES.into_iter().zip(owners.into_iter().cycle()) {
            let (event, venue) = (Uuid::now_v7(), Uuid::now_v7());
            database
                .execute(&format!(
                    "INSERT INTO venues (id, name, address, city, country, latitude, longitude, timezone)
                     VALUES ('{venue}', 'Hall', 'Street 1', 'City', 'AT', 0, 0, '{zone}');
                     INSERT INTO events (id, slug, organizer_id, venue_id, title, description, category, starts_at,
                         ends_at, sales_start_at, sales_end_at, status, currency, max_tickets_per_user, hold_ttl_secs,
                         offer_ttl_secs, refund_policy)
                     VALUES ('{event}', '{event}', '{owner}', '{venue}', 'Show', '', 'music', now() + interval '9 days',
                         now() + interval '10 days', now() - interval '30 days', now() + interval '9 days', 'published',
                         'EUR', 10, 300, 1800, '[]');
                     INSERT INTO ticket_types (id, event_id, name, position, capacity, base_price, price)
                     VALUES ('{event}', '{event}', 'T', 0, 10, 1000, 1000)"
                ))
                .await;
            events.push(event);
        }
        Self { db, events, database }
    }

    /// The statement that appends rows.
    fn append(&self, rows: &[Row]) -> String {
        let values: Vec<_> = rows
            .iter()
            .map(|(event, kind, quantity, amount, hours)| {
                let event = self.events[*event];
                format!(
                    "(now() - interval '{hours} hours', '{event}', gen_random_uuid(), gen_random_uuid(), '{kind}',
                      {quantity}, {amount}, 'EUR', '[]')"
                )
            })
            .collect();
        let columns = "at, event_id, booking_id, user_id, kind, quantity, amount, currency, items";
        format!("INSERT INTO booking_log ({columns}) VALUES {}", values.join(","))
    }

    /// A connection of one's own, for transactions that stay open.
    async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.database.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Counts until there is nothing left to count.
    async fn count_all(&self) {
        timeout(PATIENCE, async {
            loop {
                analytics::roll_up(&self.db, 7).await.unwrap();
                let left = "SELECT count(*) FROM booking_log, analytics_offset WHERE id > log_id";
                if self.database.value(left).await.as_deref() == Some("0") {
                    break;
                }
            }
        })
        .await
        .unwrap();
    }

    async fn number(&self, sql: &str) -> i64 {
        self.database.value(sql).await.unwrap().parse().unwrap()
    }

    /// Every figure there is, as text.
    async fn figures(&self) -> Vec<Vec<Vec<Option<String>>>> {
        let mut all = Vec::new();
        for table in TABLES {
            let mut rows = self.database.rows(&format!("SELECT * FROM {table}")).await;
            rows.sort();
            all.push(rows);
        }
        all
    }

    async fn assert_equal_to_a_recount(&self) {
        assert_eq!(figures::differences(&self.database.url()).await, Vec::<String>::new());
        assert_eq!(analytics::check(&self.db).await.unwrap(), Differences::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_commits_after_a_later_one_is_counted() {
    let books = Books::open().await;
    let slow = books.connect().await;
    slow.batch_execute("BEGIN").await.unwrap();
    slow.batch_execute(&books.append(&[(0, "confirmed", 2, 2_000, 0)])).await.unwrap();
    books.database.execute(&books.append(&[(0, "confirmed", 3, 3_000, 0)])).await;

    let db = books.db.clone();
    let counting = tokio::spawn(async move { analytics::roll_up(&db, 100).await.unwrap() });
    // The later row is there to be counted; the roll-up waits for the earlier one.
    sleep(Duration::from_millis(300)).await;
    assert_eq!(books.number("SELECT log_id FROM analytics_offset").await, 0);
    slow.batch_execute("COMMIT").await.unwrap();
    timeout(PATIENCE, counting).await.unwrap().unwrap();
    books.count_all().await;
    assert_eq!(books.number("SELECT tickets FROM analytics_events").await, 5);
    books.assert_equal_to_a_recount().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_other_tables_and_rows_rolled_back_hold_nothing_up() {
    let books = Books::open().await;
    let (busy, gone) = (books.connect().await, books.connect().await);
    busy.batch_execute("BEGIN; UPDATE users SET name = 'P'").await.unwrap();
    gone.batch_execute("BEGIN").await.unwrap();
    gone.batch_execute(&books.append(&[(0, "confirmed", 2, 2_000, 0); 3])).await.unwrap();
    gone.batch_execute("ROLLBACK").await.unwrap();
    books.database.execute(&books.append(&[(1, "confirmed", 1, 1_000, 0)])).await;
    books.count_all().await;
    assert_eq!(
        books.number("SELECT log_id FROM analytics_offset").await,
        4,
        "the ids drawn in vain are a gap"
    );
    assert_eq!(analytics::roll_up(&books.db, 100).await.unwrap().rows, 0);
    books.assert_equal_to_a_recount().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_booked_and_whoever_is_killed_the_figures_equal_a_recount() {
    let books = Books::open().await;
    let row = (0..ZONES.len(), prop::sample::select(&KINDS[..]), 1..5_i32, 0..9_000_i64, 0..2_000_i32);
    // What one transaction appends, whether it commits, and how long it takes.
    let transaction = (prop::collection::vec(row, 1..12), prop::bool::weighted(0.8), 0..15_u64);
    let writer = prop::collection::vec(transaction, 12);
    let mut runner = TestRunner::new(Config::default());
    let writers = prop::collection::vec(writer, 4).new_tree(&mut runner).unwrap().current();

    let write = async |transactions: &Vec<(Vec<Row>, bool, u64)>| {
        let client = books.connect().await;
        for (rows, commits, millis) in transactions {
            client.batch_execute("BEGIN").await.unwrap();
            client.batch_execute(&books.append(rows)).await.unwrap();
            sleep(Duration::from_millis(*millis)).await;
            client.batch_execute(if *commits { "COMMIT" } else { "ROLLBACK" }).await.unwrap();
        }
    };
    // Two at once, each killed again and again in the middle of whatever it does.
    let done = CancellationToken::new();
    let count = async |millis: u64| {
        while !done.is_cancelled() {
            let db = books.db.clone();
            let counting = tokio::spawn(async move { analytics::roll_up(&db, 11).await });
            sleep(Duration::from_millis(millis)).await;
            counting.abort();
        }
    };
    let writing = async {
        join_all(writers.iter().map(write)).await;
        done.cancel();
    };
    // And one who counts everything anew.
    let rebuild = async {
        while !done.is_cancelled() {
            analytics::rebuild(&books.db).await.unwrap();
            sleep(Duration::from_millis(30)).await;
        }
    };
    tokio::join!(count(7), count(23), rebuild, writing);
    books.count_all().await;
    let written: usize =
        writers.iter().flatten().filter(|(_, commits, _)| *commits).map(|(rows, ..)| rows.len()).sum();
    assert_eq!(books.number("SELECT count(*) FROM booking_log").await, i64::try_from(written).unwrap());
    books.assert_equal_to_a_recount().await;

    let running = books.figures().await;
    assert_eq!(analytics::rebuild(&books.db).await.unwrap(), written as u64);
    assert_eq!(books.figures().await, running, "a rebuild gives the running figures");
    books.assert_equal_to_a_recount().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_what_is_wrong_and_a_rebuild_mends_it() {
    let books = Books::open().await;
    books
        .database
        .execute(&books.append(&[(0, "confirmed", 2, 2_000, 50), (1, "cancelled", 1, 500, 0)]))
        .await;
    let hold = format!("INSERT INTO hold_counts VALUES ('{}', now(), 1, 3)", books.events[0]);
    books.database.execute(&hold).await;
    books.count_all().await;
    assert!(analytics::check(&books.db).await.unwrap().total() > 0, "a count of holds that nobody counted");
    analytics::rebuild(&books.db).await.unwrap();
    books.assert_equal_to_a_recount().await;
    for (harm, found) in [
        ("UPDATE analytics_events SET refunded = 7 WHERE bookings = 1", [true, false, false, false]),
        ("UPDATE analytics_events SET peak_at = now() WHERE bookings = 1", [true, false, false, false]),
        (
            "UPDATE analytics_days SET tickets = 3, day = day - 1 WHERE bookings = 1",
            [false, true, true, true],
        ),
        ("DELETE FROM analytics_days WHERE bookings = 1", [false, true, true, true]),
        ("UPDATE analytics_months SET failed = 1 WHERE bookings = 1", [false, false, true, false]),
        ("UPDATE analytics_totals SET gross = gross + 1", [false, false, false, true]),
        ("UPDATE analytics_totals SET organizer_id = gen_random_uuid()", [false, false, false, true]),
        ("UPDATE analytics_offset SET log_id = 1", [true, true, false, false]),
        ("UPDATE hold_counts SET holds = holds + 1", [true, true, false, false]),
    ] {
        books.database.execute(harm).await;
        let seen = analytics::check(&books.db).await.unwrap();
        let Differences { events, days, months, totals } = seen;
        assert_eq!(
            [events, days, months, totals].map(|differences| differences > 0),
            found,
            "{harm}: {seen:?}"
        );
        assert_eq!(books.number("SELECT differences FROM analytics_offset").await, seen.total());
        assert_eq!(analytics::roll_up(&books.db, 1).await.unwrap().differences, seen.total());
        analytics::rebuild(&books.db).await.unwrap();
        books.assert_equal_to_a_recount().await;
    }
    // Checked a moment ago; a day later it is due.
    assert!(!analytics::is_check_due(&books.db).await.unwrap());
    books.database.execute("UPDATE analytics_offset SET checked_at = now() - interval '25 hours'").await;
    assert!(analytics::is_check_due(&books.db).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn days_follow_a_venue_into_another_zone() {
    let books = Books::open().await;
    let row = |hours: u16| (0, KINDS[usize::from(hours) % 6], 1, 100, i32::from(hours));
    let rows: Vec<Row> = (0..60).map(row).collect();
    books.database.execute(&books.append(&rows)).await;
    let holds = format!(
        "INSERT INTO hold_counts SELECT '{}', date_trunc('hour', now()) - n * interval '15 minutes', 1, 1
         FROM generate_series(1, 200) n",
        books.events[0]
    );
    books.database.execute(&holds).await;
    analytics::rebuild(&books.db).await.unwrap();
    books.database.execute(&books.append(&[(1, "confirmed", 1, 100, 5)])).await;
    books.count_all().await;
    books.assert_equal_to_a_recount().await;
    assert_eq!(analytics::follow_zones(&books.db, 10).await.unwrap(), 0);
    let before = books.figures().await;
    let change = "UPDATE venues SET timezone = 'Pacific/Honolulu' WHERE timezone = 'Europe/Vienna'";
    books.database.execute(change).await;
    assert_eq!(analytics::follow_zones(&books.db, 10).await.unwrap(), 1);
    assert_eq!(analytics::follow_zones(&books.db, 10).await.unwrap(), 0);
    books.assert_equal_to_a_recount().await;
    assert_ne!(books.figures().await, before);
    // One that this server does not know holds nothing up: its days are UTC's.
    books
        .database
        .execute("UPDATE venues SET timezone = 'Mars/Olympus' WHERE timezone = 'Pacific/Honolulu'")
        .await;
    assert_eq!(analytics::follow_zones(&books.db, 10).await.unwrap(), 1);
    assert_eq!(analytics::follow_zones(&books.db, 10).await.unwrap(), 0);
    assert_eq!(analytics::check(&books.db).await.unwrap(), Differences::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_moment_of_selling_out_is_the_first_at_which_all_was_sold() {
    let books = Books::open().await;
    let event = books.events[0];
    let statistics = async || {
        let conn = &mut *books.db.conn().await.unwrap();
        analytics::event_statistics(conn, Scope::All, event, None).await.unwrap().unwrap()
    };
    let nothing = statistics().await;
    assert_eq!(
        (nothing.counts.bookings, nothing.counts.cancellation_rate, nothing.sold_out_at),
        (0, None, None)
    );
    assert_eq!(nothing.revenue.net.currency, "EUR");
    // Ten seats: nine sold, one back, two more; then the same seats again and again.
    books
        .database
        .execute(&books.append(&[(0, "confirmed", 9, 900, 40), (0, "cancelled", 1, 100, 39)]))
        .await;
    books.count_all().await;
    assert_eq!(statistics().await.sold_out_at, None);
    books.database.execute(&books.append(&[(0, "failed", 1, 100, 38), (0, "confirmed", 2, 200, 37)])).await;
    books.count_all().await;
    let sold_out = statistics().await;
    let at = "SELECT floor(extract(epoch FROM at))::bigint FROM booking_log ORDER BY id DESC LIMIT 1";
    assert_eq!(sold_out.sold_out_at.unwrap().timestamp(), books.number(at).await);
    assert_eq!(sold_out.time_to_sell_out_secs.unwrap() / 3_600, 30 * 24 - 37);
    assert_eq!((sold_out.counts.holds, sold_out.counts.conversion_rate), (0, None));
    assert_eq!(sold_out.counts.cancellation_rate, Some(0.5));
    books.database.execute(&books.append(&[(0, "cancelled", 4, 0, 3), (0, "confirmed", 4, 400, 2)])).await;
    books.count_all().await;
    assert_eq!(statistics().await.sold_out_at, sold_out.sold_out_at);
    // With more seats it is not sold out, and never was.
    books.database.execute("UPDATE ticket_types SET capacity = 11").await;
    assert_eq!(statistics().await.sold_out_at, None);
    let other = Scope::Organizer(Uuid::now_v7());
    let conn = &mut *books.db.conn().await.unwrap();
    assert_eq!(analytics::event_statistics(conn, other, event, None).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_log_is_counted_like_any_other() {
    let books = Books::open().await;
    let id = async |table: &str| {
        let sql = format!("SELECT id FROM {table} ORDER BY id LIMIT 1");
        books.database.value(&sql).await.unwrap().parse::<Uuid>().unwrap()
    };
    let (owner, venue) = (id("users").await, id("venues").await);
    for _ in 0..2 {
        analytics::generate_events(&books.db, owner, venue, 20).await.unwrap();
    }
    assert_eq!(books.number("SELECT count(*) FROM events WHERE slug LIKE 'generated-%'").await, 20);
    analytics::generate_log(&books.db, 20, 1, 600, 1_000).await.unwrap();
    analytics::generate_log(&books.db, 20, 601, 400, 1_000).await.unwrap();
    while analytics::roll_up(&books.db, 300).await.unwrap().rows > 0 {}
    assert_eq!(books.number("SELECT count(*) FROM booking_log").await, 1_000);
    books.assert_equal_to_a_recount().await;
}
