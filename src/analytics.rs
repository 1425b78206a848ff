//! `evently analytics`: compares the figures with a recount of the booking log, or counts them anew.

use anyhow::bail;
use domain::{
    analytics,
    config::Env,
    db::{Db, DbConfig},
};

/// What to do about the figures.
#[derive(Debug, clap::Args)]
pub struct AnalyticsArgs {
    #[command(subcommand)]
    pub command: AnalyticsCommand,
}

#[derive(Debug, clap::Subcommand)]
pub enum AnalyticsCommand {
    /// Count the whole booking log and all holds anew. Readers see the old figures until it is done.
    Rebuild,
    /// Compare the figures with a recount, and fail if they differ.
    Check,
}

pub async fn run(args: AnalyticsArgs, env: &Env) -> anyhow::Result<()> {
    let db = Db::new(&DbConfig::from_env(env)?);
    match args.command {
        AnalyticsCommand::Rebuild => {
            let rows = analytics::rebuild(&db).await?;
            eprintln!("{rows} rows of the booking log counted");
        }
        AnalyticsCommand::Check => {
            let differences = analytics::check(&db).await?;
            if differences.total() > 0 {
                bail!(
                    "the figures of {} events, {} of their days, {} of their months and {} days of totals differ from a \
                     recount; \
                     `evently analytics rebuild` counts them anew",
                    differences.events,
                    differences.days,
                    differences.months,
                    differences.totals
                );
            }
            eprintln!("the figures equal a recount of the booking log");
        }
    }
    Ok(())
}
