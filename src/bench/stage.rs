//! What figures are taken on: the running system, events to sell, people to buy, and the bare server to compare with.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Context;
use domain::{
    accounts::{
        Role,
        provision::{ensure_admin, seed_users},
        tokens::{Grant, Tokens},
    },
    clock,
    config::Env,
    db::{Db, DbConfig},
    events::{self, Editor, NewEvent, Seating, TicketTypeFields},
    holds::{HoldRequest, Placer, RequestedItem},
    inventory::{Inventory, sync_event},
    money::Money,
    redis_link::RedisLink,
};
use queue::{Queue, QueueConfig};
use secrecy::SecretString;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use uuid::Uuid;

use super::{
    BenchArgs, Size,
    load::{Buyer, Load, Repeat, run},
    sink::Sink,
    system::System,
    tools::Tools,
};
use crate::{
    launch::command,
    migrate::{DEFAULT_PASSWORD, default_admin},
};

/// How many connections holds and reads come from.
pub(super) const CONNECTIONS: usize = 64;
/// One person may have so many tickets of an event: the most that is allowed.
const MOST_TICKETS: i64 = 1000;
const CAPACITY: i64 = 1_000_000;

pub(super) struct Stage {
    pub(super) system: System,
    pub(super) sink: Sink,
    pub(super) env: Env,
    pub(super) db: Db,
    pub(super) inventory: Inventory,
    pub(super) queue: Queue,
    pub(super) tools: Tools,
    /// How long each load runs.
    pub(super) time: Duration,
    pub(super) size: Size,
    signer: Tokens,
    /// Access tokens of the people who buy.
    tokens: Vec<String>,
    admin: Uuid,
    venue: Uuid,
    bare: Bare,
    buyers: AtomicU64,
}

/// The server that does nothing, as a process.
struct Bare {
    address: SocketAddr,
    _process: Child,
}

/// An event with its ticket types.
#[derive(Clone, Debug)]
pub(super) struct Sale {
    pub(super) event: Uuid,
    pub(super) kinds: Vec<Uuid>,
}

impl Stage {
    /// Prepares everything in a system that has just been started. Call it on the main thread.
    pub(super) async fn prepare(system: System, sink: Sink, args: &BenchArgs) -> anyhow::Result<Self> {
        let env: Env = system.state.env.clone().into_iter().collect();
        let db = Db::new(&DbConfig::from_env(&env)?);
        let (email, password) = default_admin();
        let admin = ensure_admin(&db, &email, password).await?.id;
        let tools = Tools::new(&env)?;
        // The seed data has one.
        let venue = tools.psql("SELECT id FROM venues LIMIT 1").await?.concat().parse()?;
        let signer = Tokens::load(&api::signing_key_file(&env))?;
        let tokens =
            seed_users(&db, &signer, args.size.people(), SecretString::from(DEFAULT_PASSWORD)).await?;
        Ok(Self {
            inventory: Inventory::new(&RedisLink::inventory_from_env(&env)?),
            queue: Queue::connect(&QueueConfig::from_env(&env)?)?,
            time: Duration::from_secs_f64(args.seconds),
            size: args.size,
            bare: Bare::start().await?,
            buyers: AtomicU64::new(0),
            system,
            sink,
            env,
            db,
            tools,
            signer,
            tokens,
            admin,
            venue,
        })
    }

    /// An event on sale with so many ticket types of so many seats each.
    pub(super) async fn sale(&self, kinds: usize, capacity: i64) -> anyhow::Result<Sale> {
        let now = clock::now();
        let kind = |number: usize| TicketTypeFields {
            name: format!("Kind {number}"),
            description: String::new(),
            seating: Seating::General,
            capacity,
            base_price: Money::new(4500, "EUR"),
        };
        let event = NewEvent {
            title: format!("Bench {}", Uuid::now_v7()),
            description: "Sold out before you can say so.".to_owned(),
            category: "bench".to_owned(),
            venue_id: self.venue,
            starts_at: now + Duration::from_hours(240),
            ends_at: now + Duration::from_hours(243),
            sales_start_at: Some(now - Duration::from_mins(1)),
            sales_end_at: None,
            max_tickets_per_user: MOST_TICKETS,
            hold_ttl_secs: 3600,
            offer_ttl_secs: 1800,
            refund_policy: Vec::new(),
            ticket_types: (0..kinds).map(kind).collect(),
        };
        let id = domain::samples::create_event(&self.db, self.admin, event).await?;
        let stored =
            events::publish(&self.db, Editor { user_id: self.admin, is_admin: true }, id, None).await?;
        self.level(id).await?;
        Ok(Sale { event: id, kinds: stored.event.ticket_types.iter().map(|kind| kind.id).collect() })
    }

    /// An event of one ticket type that does not sell out.
    pub(super) async fn large_sale(&self) -> anyhow::Result<Sale> {
        self.sale(1, CAPACITY).await
    }

    /// Brings Redis level with what Postgres says of an event.
    pub(super) async fn level(&self, event: Uuid) -> anyhow::Result<()> {
        Ok(sync_event(&self.inventory, &self.db, event, false).await?)
    }

    /// So many buyers of these events, each for people of their own.
    pub(super) fn buyers(&self, connections: usize, sales: &[Sale]) -> Vec<Buyer> {
        let kinds: Vec<(Uuid, Uuid)> =
            sales.iter().flat_map(|sale| sale.kinds.iter().map(|kind| (sale.event, *kind))).collect();
        (0..connections)
            .map(|at| {
                // Everybody's share of the people, and of the ticket types.
                let people = self.tokens.iter().cycle().skip(at).step_by(connections);
                let people = people.take((self.tokens.len() / connections).max(1));
                let baskets = people.enumerate().map(|(n, token)| {
                    let (event, kind) = kinds[(at + n * connections) % kinds.len()];
                    (event.to_string(), kind.to_string(), token.clone())
                });
                Buyer::new(baskets, self.buyers.fetch_add(1, Ordering::Relaxed))
            })
            .collect()
    }

    /// An event of one ticket type, all of whose seats are held: one may wait for it.
    pub(super) async fn sold_out(&self) -> anyhow::Result<Sale> {
        let sale = self.sale(1, MOST_TICKETS).await?;
        let all = RequestedItem { ticket_type_id: sale.kinds[0], quantity: u32::try_from(MOST_TICKETS)? };
        let request = HoldRequest {
            event_id: sale.event,
            user_id: Uuid::now_v7(),
            items: vec![all],
            idempotency_key: "bench".to_owned(),
        };
        Placer::start(&self.inventory, &self.db).place(request).await?;
        Ok(sale)
    }

    /// So many people more, by their access tokens.
    pub(super) async fn more_people(&self, count: usize) -> anyhow::Result<Vec<String>> {
        Ok(seed_users(&self.db, &self.signer, count, SecretString::from(DEFAULT_PASSWORD)).await?)
    }

    /// An access token of one person.
    pub(super) fn token(&self, user_id: Uuid, role: Role) -> String {
        let session_id = Uuid::now_v7();
        let grant = Grant { user_id, session_id, role, verified: true, user_version: 1 };
        self.signer.issue(&grant, Duration::from_hours(1))
    }

    pub(super) fn admin_token(&self) -> String {
        self.token(self.admin, Role::Admin)
    }

    /// Where everything takes place.
    pub(super) fn venue(&self) -> Uuid {
        self.venue
    }

    /// Everybody's access token.
    pub(super) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    pub(super) fn bare(&self) -> SocketAddr {
        self.bare.address
    }

    pub(super) fn http(&self) -> SocketAddr {
        self.system.http
    }

    /// Runs buyers until they are warm, then others of the kind for the whole time.
    pub(super) async fn load(&self, make: impl Fn() -> Vec<Buyer>) -> anyhow::Result<Load<Buyer>> {
        run(self.http(), make(), self.time / 5).await?;
        run(self.http(), make(), self.time).await
    }

    /// The same for requests that repeat.
    pub(super) async fn repeat(
        &self,
        address: SocketAddr,
        requests: &[Vec<u8>],
    ) -> anyhow::Result<Load<Repeat>> {
        let make = || Repeat::many(CONNECTIONS, requests.to_vec(), 200);
        run(address, make(), self.time / 5).await?;
        run(address, make(), self.time).await?.checked("reading")
    }

    /// Waits until nothing is left to do: mails that are still to be sent count as sent.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        let began = tokio::time::Instant::now();
        while began.elapsed() < Duration::from_mins(1) {
            // Those that are being sent right now are settled by who sends them.
            let left = self
                .tools
                .psql(
                    "UPDATE mails SET status = 'sent', sent_at = now() WHERE id IN ( \
                         SELECT id FROM mails WHERE status = 'pending' AND lease_until IS NULL FOR UPDATE SKIP LOCKED); \
                     SELECT count(*) FROM outbox WHERE dead_at IS NULL AND run_at <= now()",
                )
                .await?;
            let waiting: u64 =
                self.queue.all_stats().await?.iter().map(|pool| pool.depth + pool.in_flight).sum();
            if waiting == 0 && left.concat() == "0" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.system.is_whole()
    }

    /// A file that goes with the system.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.system.file(name)
    }
}

impl Bare {
    async fn start() -> anyhow::Result<Self> {
        let mut command = Command::from(command::dependent(&std::env::current_exe()?, "KILL"));
        let mut process = command.arg("bare").stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("a pipe")?).read_line(&mut line).await?;
        Ok(Self { address: line.trim().parse().context("the bare server")?, _process: process })
    }
}
