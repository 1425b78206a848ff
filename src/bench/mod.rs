//! `evently bench`: how fast this machine is with Evently, each figure beside a limit of the same machine and run.
//!
//! It starts a system of its own (`evently up`, with every pool and as in production), loads it from one thread of
//! its own, and removes it. A figure that falls short is printed as such; only what did not work is an error.

#![expect(clippy::cast_precision_loss, reason = "figures are floats: what is counted stays far below 2^52")]

mod analytics;
mod bookings;
mod figure;
mod growth;
mod holds;
mod http;
mod jobs;
mod limits;
mod line_limits;
mod load;
mod mails;
mod payments;
mod process;
mod reads;
mod sink;
mod stage;
mod system;
mod times;
mod tools;
mod waitlist;

use std::{io::Write, path::PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use domain::config::Env;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use self::{figure::Figure, limits::Limits, process::Watch, sink::Sink, stage::Stage, system::System};
use crate::telemetry;

/// What to measure, and for how long.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Only these groups of figures; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<Group>,
    /// How long each load runs.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    seconds: f64,
    /// How much is in place when it is shown that cost does not grow, and how many people there are.
    #[arg(long, default_value = "full")]
    size: Size,
    /// Where to write the figures as JSON.
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    json: PathBuf,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.1..=60.0).contains(&seconds) { Ok(seconds) } else { Err("must be 0.1 to 60".to_owned()) }
}

/// How much of everything there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Size {
    /// To see that everything works.
    Small,
    /// What figures are quoted from.
    Full,
}

impl Size {
    const fn people(self) -> usize {
        match self {
            Self::Small => 200,
            Self::Full => 2_000,
        }
    }

    /// How many holds, jobs and bookings are in place first and then.
    const fn in_place(self) -> [u64; 2] {
        match self {
            Self::Small => [100, 2_000],
            Self::Full => [1_000, 1_000_000],
        }
    }

    /// How many holds run out at once.
    const fn overdue(self) -> u64 {
        match self {
            Self::Small => 200,
            Self::Full => 10_000,
        }
    }

    /// How many mails are owed for each second of a load: they are to last about as long.
    const fn mails_a_second(self) -> f64 {
        match self {
            Self::Small => 100.0,
            Self::Full => 800.0,
        }
    }

    /// How many rows the booking log has of which figures are read.
    const fn log_rows(self) -> i64 {
        match self {
            Self::Small => 50_000,
            Self::Full => 10_000_000,
        }
    }

    /// How many come at once.
    const fn crowd(self) -> usize {
        match self {
            Self::Small => 50,
            Self::Full => 1_000,
        }
    }

    /// For how many seats they come.
    const fn seats(self) -> i64 {
        match self {
            Self::Small => 5,
            Self::Full => 100,
        }
    }

    /// How many wait for one ticket type, in a short line and in a long one.
    const fn lines(self) -> [usize; 2] {
        match self {
            Self::Small => [100, 2_000],
            Self::Full => [1_000, 50_000],
        }
    }

    /// From how many connections bookings are made: enough that what is committed together is worth it, and each of
    /// them waits for its answer.
    const fn bookers(self) -> usize {
        match self {
            Self::Small => 16,
            Self::Full => 256,
        }
    }
}

macro_rules! groups {
    ($($(#[$doc:meta])* $name:ident: $measure:expr;)*) => {
        /// Figures that are measured together, in this order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        enum Group { $($(#[$doc])* $name),* }

        impl Group {
            const ALL: &[Self] = &[$(Self::$name),*];

            async fn measure(self, bench: &mut Bench) -> anyhow::Result<()> {
                match self { $(Self::$name => { let measure: Measure = $measure; measure(bench).await })* }
            }
        }
    };
}

type Measure = for<'a> fn(&'a mut Bench) -> BoxFuture<'a, anyhow::Result<()>>;

groups! {
    /// Holds a second, and how long one takes.
    Holds: |bench| Box::pin(holds::measure(bench));
    /// A crowd at once for a few seats.
    Rush: |bench| Box::pin(holds::rush(bench));
    /// An event, and the list of events.
    Reads: |bench| Box::pin(reads::measure(bench));
    /// From a hold to a booking.
    Bookings: |bench| Box::pin(bookings::measure(bench));
    /// Bookings with what the provider's books say of them.
    Payments: |bench| Box::pin(payments::measure(bench));
    /// A crowd that joins a waitlist, and what it costs to serve a long one.
    Waitlist: |bench| Box::pin(waitlist::measure(bench));
    /// Jobs that do nothing.
    Jobs: |bench| Box::pin(jobs::measure(bench));
    /// Confirmations on their way to a mail server.
    Mails: |bench| Box::pin(mails::measure(bench));
    /// The memory of API and workers in all of the above.
    Memory: |bench| Box::pin(process::memory(bench));
    /// How long the API takes to be ready.
    Start: |bench| Box::pin(process::start(bench));
    /// That nothing becomes slower by what is there already.
    Growth: |bench| Box::pin(growth::measure(bench));
    /// A long booking log, rolled up into figures, and how long these take to read.
    Analytics: |bench| Box::pin(analytics::measure(bench));
}

/// A run: what it works with, and the figures so far.
struct Bench {
    stage: Stage,
    limits: Limits,
    watch: Watch,
    figures: Vec<Figure>,
}

impl Bench {
    /// Prints a figure and keeps it.
    fn report(&mut self, figure: Figure) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{}", figure.line())?;
        stdout.flush()?;
        self.figures.push(figure);
        Ok(())
    }
}

/// What the JSON file holds.
#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    /// Whether the figures are those of an optimised build.
    optimised: bool,
    cores: usize,
    seconds: f64,
    size: Size,
    figures: &'a [Figure],
}

/// Measures, prints a line a figure, and writes them all as JSON. Ends whatever it started, also when interrupted.
pub fn main(args: &BenchArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        // As the processes of the system log: jobs that run here pay for their spans as well.
        let logged = [("EVENTLY_LOG", "warn,workers::runtime::dispatch=info")].into_iter().collect::<Env>();
        let _telemetry = telemetry::init(&logged, Vec::new())?;
        telemetry::serve_metrics(([127, 0, 0, 1], 0).into())?;
        tokio::select! {
            ended = run(args) => ended,
            _ = terminate.recv() => anyhow::bail!("interrupted"),
            _ = interrupt.recv() => anyhow::bail!("interrupted"),
        }
    })
}

async fn run(args: &BenchArgs) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("evently: this is no optimised build: its figures say nothing. `make bench` makes one.");
    }
    let sink = Sink::start().await?;
    eprintln!("evently: starting a system of its own");
    // Blocks: this is the main thread, with which the system ends.
    let system = System::start(&sink.url())?;
    let watch = Watch::start(&system)?;
    let stage = Stage::prepare(system, sink, args).await?;
    let mut bench = Bench { stage, limits: Limits::default(), watch, figures: Vec::new() };
    for group in Group::ALL {
        if args.only.is_empty() || args.only.contains(group) {
            group.measure(&mut bench).await.with_context(|| format!("{group:?}"))?;
            bench.stage.settle().await?;
        }
    }
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        optimised: !cfg!(debug_assertions),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        seconds: args.seconds,
        size: args.size,
        figures: &bench.figures,
    };
    if let Some(dir) = args.json.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(&args.json, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("cannot write {}", args.json.display()))?;
    eprintln!("evently: the figures are in {}", args.json.display());
    Ok(())
}
