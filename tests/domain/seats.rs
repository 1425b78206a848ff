//! An event on sale, straight in the database, and the inventory of it.

use std::{collections::BTreeMap, fmt::Write as _};

use chrono::{DateTime, Utc};
use domain::{
    db::{Db, DbConfig},
    holds::{BeginConfirm, HoldRequest, PaymentChoice, PlaceError, Placed, Placer, RequestedItem},
    inventory::{Inventory, SeatCount},
    redis_link::RedisLink,
};
use uuid::Uuid;

use crate::support::{database::TestDatabase, redis::TestRedis};

/// One event on sale with its ticket types, at 10.00 EUR each.
pub struct Sale {
    pub placer: Placer,
    pub db: Db,
    pub inventory: Inventory,
    pub event_id: Uuid,
    pub ticket_types: Vec<Uuid>,
    pub users: Vec<Uuid>,
    pub database: TestDatabase,
    pub redis: TestRedis,
}

impl Sale {
    /// `limit` tickets a person at most.
    pub async fn open(capacities: &[u32], users: usize, limit: u32) -> Self {
        let redis = TestRedis::durable();
        let database = TestDatabase::create().await;
        let inventory = Inventory::new(&RedisLink::new(&redis.url()).unwrap());
        let env = BTreeMap::from([("DATABASE_URL", database.url())]).into_iter().collect();
        let db = Db::new(&DbConfig::from_env(&env).unwrap());
        let users: Vec<_> = (0..users).map(|_| Uuid::now_v7()).collect();
        for id in &users {
            let sql = format!(
                "INSERT INTO users (id, email, name, password_hash) VALUES ('{id}', '{id}@evently.test', 'U', '')"
            );
            database.execute(&sql).await;
        }
        let placer = Placer::start(&inventory, &db);
        let mut sale = Self {
            placer,
            db,
            inventory,
            event_id: Uuid::nil(),
            ticket_types: vec![],
            users,
            database,
            redis,
        };
        sale.next_event(capacities, limit).await;
        sale
    }

    /// Goes on with a fresh event in the same database.
    pub async fn next_event(&mut self, capacities: &[u32], limit: u32) {
        let (event, venue, owner) = (Uuid::now_v7(), Uuid::now_v7(), self.users[0]);
        self.event_id = event;
        self.ticket_types = capacities.iter().map(|_| Uuid::now_v7()).collect();
        let mut sql = format!(
            "INSERT INTO venues (id, name, address, city, country, latitude, longitude, timezone) \
             VALUES ('{venue}', 'Hall', 'Street 1', 'Vienna', 'AT', 48.2, 16.4, 'Europe/Vienna');\
             INSERT INTO events (id, slug, organizer_id, venue_id, title, description, category, starts_at, ends_at, \
             sales_start_at, sales_end_at, status, currency, max_tickets_per_user, hold_ttl_secs, offer_ttl_secs, refund_policy) \
             VALUES ('{event}', '{event}', '{owner}', '{venue}', 'Show', '', 'music', now() + interval '10 days', \
             now() + interval '11 days', now() - interval '1 day', now() + interval '9 days', 'published', 'EUR', \
             {limit}, 300, 1800, '[]');"
        );
        for (at, (id, capacity)) in self.ticket_types.iter().zip(capacities).enumerate() {
            write!(
                sql,
                "INSERT INTO ticket_types (id, event_id, name, position, capacity, base_price, price) \
                 VALUES ('{id}', '{event}', 'T{at}', {at}, {capacity}, 1000, 1000);"
            )
            .unwrap();
        }
        for statement in sql.split_inclusive(';') {
            self.database.execute(statement).await;
        }
    }

    /// A basket of (ticket type by position, quantity) for a user by position.
    pub fn basket(&self, user: usize, lines: &[(usize, u32)], key: &str) -> HoldRequest {
        HoldRequest {
            event_id: self.event_id,
            user_id: self.users[user],
            items: lines
                .iter()
                .map(|&(tt, quantity)| RequestedItem { ticket_type_id: self.ticket_types[tt], quantity })
                .collect(),
            idempotency_key: key.to_owned(),
        }
    }

    pub async fn place(&self, user: usize, lines: &[(usize, u32)], key: &str) -> Result<Placed, PlaceError> {
        self.placer.place(self.basket(user, lines, key)).await
    }

    pub fn confirm(&self, hold_id: Uuid, user: usize) -> BeginConfirm {
        BeginConfirm {
            event_id: self.event_id,
            hold_id,
            user_id: self.users[user],
            payment: Some(PaymentChoice { provider: "sandbox".to_owned(), token: "tok_ok".to_owned() }),
            reply_to: String::new(),
            token: None,
        }
    }

    pub async fn counts(&self) -> Vec<SeatCount> {
        self.inventory.availability(self.event_id, &self.ticket_types).await.unwrap().unwrap().1
    }

    /// Lets a hold's deadline be a minute ago.
    pub async fn let_run_out(&self, hold_id: Uuid) {
        let mut connection = self.redis.connect().await;
        let past = (self.redis_now(&mut connection).await - chrono::Duration::minutes(1)).timestamp_millis();
        let event = format!("ev:{{{}}}", self.event_id);
        let _: () = redis::pipe()
            .cmd("HSET")
            .arg(format!("{event}:h:{hold_id}"))
            .arg("x")
            .arg(past)
            .ignore()
            .cmd("ZADD")
            .arg(format!("{event}:holds"))
            .arg("XX")
            .arg(past)
            .arg(hold_id.to_string())
            .ignore()
            .query_async(&mut connection)
            .await
            .unwrap();
    }

    async fn redis_now(&self, connection: &mut redis::aio::MultiplexedConnection) -> DateTime<Utc> {
        let (seconds, _): (i64, i64) = redis::cmd("TIME").query_async(connection).await.unwrap();
        DateTime::from_timestamp(seconds, 0).unwrap()
    }
}
