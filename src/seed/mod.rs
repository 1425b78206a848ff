//! `evently seed`: something to sell and people to buy it, for a first look and for load tests.

mod log;
mod samples;

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf};

use anyhow::Context;
use domain::{
    accounts::{
        Role, User,
        provision::{ensure_admin, seed_user, seed_users},
        tokens::Tokens,
    },
    clock,
    config::Env,
    db::{Db, DbConfig},
    events::{self, Editor},
    inventory::{Inventory, sync_event},
    redis_link::RedisLink,
    venues,
};
use secrecy::SecretString;
use uuid::Uuid;

use crate::{
    migrate::{self, DEFAULT_PASSWORD},
    shutdown,
};

/// What to seed.
#[derive(Debug, clap::Args)]
pub struct SeedArgs {
    /// Only add so many verified users, with a session each.
    #[arg(long, value_name = "N", requires = "tokens", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: Option<u32>,
    /// Where to write an access token of each, one a line, good for an hour.
    #[arg(long, value_name = "FILE", requires = "users")]
    tokens: Option<PathBuf>,
    /// Only append so many made-up rows to the booking log, for load tests. It is append-only: they stay.
    #[arg(long, value_name = "N", conflicts_with = "users", value_parser = clap::value_parser!(i64).range(1..=100_000_000))]
    log_rows: Option<i64>,
    /// Do nothing where anybody has worked already.
    #[arg(long, hide = true, conflicts_with_all = ["users", "log_rows"])]
    if_empty: bool,
}

/// Seeds what was asked for. The samples are safe to repeat: what is there stays as it is.
pub async fn run(args: SeedArgs, env: &Env) -> anyhow::Result<()> {
    let db = Db::new(&DbConfig::from_env(env)?);
    if let (Some(count), Some(file)) = (args.users, args.tokens) {
        return crowd(&db, env, usize::try_from(count)?, file).await;
    }
    let (emails, titles) = (samples::people(), samples::titles());
    if args.if_empty && !domain::samples::is_untouched(&db, &emails, &titles).await? {
        return Ok(());
    }
    let admin = admin(&db, env).await?;
    let venue_id = venue(&db, admin.id).await?;
    if let Some(rows) = args.log_rows {
        return log::generate(&db, admin.id, venue_id, rows).await;
    }
    let inventory = Inventory::new(&RedisLink::inventory_from_env(env)?);
    let shutdown = shutdown::on_signal()?;
    let present = domain::samples::events(&db, &titles).await?;
    let editor = Editor { user_id: admin.id, is_admin: true };
    for event in samples::events(venue_id, clock::now()) {
        anyhow::ensure!(!shutdown.is_cancelled(), "interrupted; run it again for the rest");
        let (id, is_draft) = match present.get(&event.title) {
            Some(known) => *known,
            None => (domain::samples::create_event(&db, admin.id, event).await?, true),
        };
        if is_draft {
            events::publish(&db, editor, id, None).await?;
            // The job that the commit caused does the same a moment later; the first buyer need not wait for it.
            if let Err(error) = sync_event(&inventory, &db, id, false).await {
                tracing::warn!(%error, event = %id, "its seats will reach Redis a moment later");
            }
        }
    }
    for (name, email) in samples::PEOPLE {
        seed_user(&db, &email.parse()?, name, SecretString::from(DEFAULT_PASSWORD), Role::User).await?;
    }
    tracing::info!(events = titles.len(), users = emails.len(), "seeded");
    Ok(())
}

/// The admin of the environment, or one of the usual name.
async fn admin(db: &Db, env: &Env) -> anyhow::Result<User> {
    let (email, password) = migrate::admin_of(env)?.unwrap_or_else(migrate::default_admin);
    Ok(ensure_admin(db, &email, password).await?)
}

async fn venue(db: &Db, owner: Uuid) -> anyhow::Result<Uuid> {
    let fields = samples::venue();
    Ok(match domain::samples::venue(db, &fields.name).await? {
        Some(id) => id,
        None => venues::create(db, Some(owner), &fields).await?.id,
    })
}

async fn crowd(db: &Db, env: &Env, count: usize, file: PathBuf) -> anyhow::Result<()> {
    let tokens = Tokens::load(&api::signing_key_file(env))?;
    let issued = seed_users(db, &tokens, count, SecretString::from(DEFAULT_PASSWORD)).await?;
    // Whoever reads it is logged in as all of them.
    let mut out = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    out.write_all((issued.join("\n") + "\n").as_bytes())?;
    tracing::info!(users = issued.len(), file = %file.display(), "seeded");
    Ok(())
}
