//! Holds are counted in Redis, and each is in the figures once, however often they are brought there and whoever dies.

use std::{sync::Arc, time::Duration};

use domain::{
    analytics::{self, Differences, EventStatistics, HoldsCounted, Scope},
    holds::{self, PlaceError},
};
use futures::future::join_all;
use redis::AsyncCommands;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::seats::Sale;
use crate::support::figures;

const PATIENCE: Duration = Duration::from_mins(1);

fn counts(sale: &Sale) -> String {
    format!("ev:{{{}}}:n", sale.event_id)
}

async fn count(sale: &Sale) -> HoldsCounted {
    analytics::count_holds(&sale.db, &sale.inventory).await.unwrap()
}

async fn statistics(sale: &Sale) -> EventStatistics {
    let conn = &mut *sale.db.conn().await.unwrap();
    analytics::event_statistics(conn, Scope::All, sale.event_id, None).await.unwrap().unwrap()
}

async fn assert_equal_to_a_recount(sale: &Sale) {
    assert_eq!(figures::differences(&sale.database.url()).await, Vec::<String>::new());
    assert_eq!(analytics::check(&sale.db).await.unwrap(), Differences::default());
}

async fn number(sale: &Sale, sql: &str) -> i64 {
    sale.database.value(sql).await.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hold_that_is_placed_is_counted_once_whoever_dies() {
    let sale = Arc::new(Sale::open(&[60], 40, 3).await);
    let done = CancellationToken::new();
    // Two bring the counts at once, killed again and again in the middle of it.
    let bring = async |millis: u64| {
        while !done.is_cancelled() {
            let sale = Arc::clone(&sale);
            let bringing =
                tokio::spawn(async move { analytics::count_holds(&sale.db, &sale.inventory).await });
            sleep(Duration::from_millis(millis)).await;
            bringing.abort();
        }
    };
    // Each tries more often than they may, repeats every request, and gives every third hold back.
    let buy = async |user: usize| {
        let mut placed = 0;
        for n in 0..6 {
            for _ in 0..2 {
                match sale.place(user, &[(0, 1)], &format!("k{n}")).await {
                    Ok(hold) if !hold.replayed => placed += 1,
                    Ok(_) | Err(PlaceError::SoldOut { .. } | PlaceError::LimitExceeded { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            if n % 3 == 0
                && let Ok(hold) = sale.place(user, &[(0, 1)], &format!("k{n}")).await
            {
                let id = hold.hold.id;
                holds::release(&sale.inventory, sale.event_id, id, sale.users[user]).await.unwrap();
            }
            sleep(Duration::from_millis(3)).await;
        }
        placed
    };
    let buying = async {
        let placed = join_all((0..40).map(buy)).await.into_iter().sum::<i64>();
        done.cancel();
        placed
    };
    let (.., placed) = tokio::join!(bring(3), bring(11), buying);
    assert!(placed > 40, "{placed}");
    let counted = async {
        while statistics(&sale).await.counts.holds < placed {
            count(&sale).await;
        }
    };
    timeout(PATIENCE, counted).await.unwrap();
    count(&sale).await;
    let statistics = statistics(&sale).await;
    assert_eq!((statistics.counts.holds, statistics.counts.conversion_rate), (placed, Some(0.0)));
    assert_equal_to_a_recount(&sale).await;
    analytics::rebuild(&sale.db).await.unwrap();
    assert_equal_to_a_recount(&sale).await;
    assert_eq!(number(&sale, "SELECT holds FROM analytics_events").await, placed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_counts_after_it_lost_everything_is_counted_on_top() {
    let sale = Sale::open(&[10], 4, 10).await;
    sale.place(0, &[(0, 1)], "a").await.unwrap();
    sale.place(1, &[(0, 1)], "a").await.unwrap();
    assert_eq!(count(&sale).await.forgotten, 0);
    for _ in 0..2 {
        let () = redis::cmd("FLUSHALL").query_async(&mut sale.redis.connect().await).await.unwrap();
        sale.place(2, &[(0, 1)], "a").await.unwrap();
        for _ in 0..2 {
            count(&sale).await;
        }
    }
    assert_eq!(number(&sale, "SELECT holds FROM analytics_events").await, 4);
    assert_eq!(number(&sale, "SELECT count(DISTINCT epoch) FROM hold_counts").await, 3);
    // A count of old that comes late, or again, is none.
    let mut redis = sale.redis.connect().await;
    let field =
        "SELECT floor(extract(epoch FROM at) / 900) || ':' || epoch FROM hold_counts ORDER BY epoch LIMIT 1";
    let field = sale.database.value(field).await.unwrap();
    let () = redis.hset(counts(&sale), &field, 1).await.unwrap();
    count(&sale).await;
    assert_eq!(number(&sale, "SELECT holds FROM analytics_events").await, 4);
    let () = redis.hset(counts(&sale), &field, 3).await.unwrap();
    count(&sale).await;
    assert_eq!(number(&sale, "SELECT holds FROM analytics_events").await, 5);
    assert_equal_to_a_recount(&sale).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_that_are_long_over_leave_redis_and_stay_in_the_figures() {
    let sale = Sale::open(&[10], 2, 10).await;
    sale.place(0, &[(0, 1)], "a").await.unwrap();
    let mut redis = sale.redis.connect().await;
    let (now, _): (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await.unwrap();
    let quarter = now / 900;
    for (ago, holds) in [(2, 20), (7, 70), (200, 200)] {
        let () = redis.hset(counts(&sale), format!("{}:1", quarter - ago), holds).await.unwrap();
    }
    // Somebody else counts just now: nothing is brought, so nothing leaves.
    let url = sale.database.url();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT FROM analytics_offset FOR UPDATE").await.unwrap();
    assert_eq!(count(&sale).await, HoldsCounted::default());
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(redis.hlen::<_, u64>(counts(&sale)).await.unwrap(), 4);

    assert_eq!(count(&sale).await, HoldsCounted { found: 4, forgotten: 2 });
    assert_eq!(count(&sale).await, HoldsCounted { found: 2, forgotten: 0 });
    assert_eq!(number(&sale, "SELECT holds FROM analytics_events").await, 291);
    // Each on its day in Vienna: two hundred quarters of an hour are more than two days.
    let days = "SELECT holds FROM analytics_days WHERE day < (now() AT TIME ZONE 'Europe/Vienna')::date - 1";
    assert_eq!(number(&sale, days).await, 200);
    assert_equal_to_a_recount(&sale).await;
    // Of a draft, and of what is long over, nobody asks.
    sale.database.execute("UPDATE events SET starts_at = now() - interval '4 days', ends_at = now() - interval '3 days', sales_end_at = now() - interval '4 days', sales_start_at = now() - interval '9 days'").await;
    assert_eq!(count(&sale).await, HoldsCounted::default());
}
