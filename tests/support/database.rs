//! One Postgres a test process, one database a test.

use std::{
    sync::{LazyLock, Mutex, mpsc},
    thread,
};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage, error::SqlState};
use uuid::Uuid;

use super::postgres::TestPostgres;

/// The server, with every migration run in `evently`, the template of all databases. It runs until this process ends.
static SERVER: LazyLock<TestPostgres> = LazyLock::new(|| TestPostgres::start("postgres"));

/// Drops databases whose tests are over, so that a long run does not fill the disk.
static JANITOR: LazyLock<Mutex<mpsc::Sender<String>>> = LazyLock::new(|| {
    let (sender, names) = mpsc::channel::<String>();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for name in names {
            runtime.block_on(run(&SERVER.url("postgres"), &format!("DROP DATABASE {name} WITH (FORCE)")));
        }
    });
    Mutex::new(sender)
});

/// A migrated database that nobody else uses.
pub struct TestDatabase {
    name: String,
    /// A connection that waits for its next statement: a test that waits for something asks many times.
    idle: Mutex<Option<Client>>,
}

impl TestDatabase {
    pub async fn create() -> Self {
        let server = tokio::task::spawn_blocking(|| LazyLock::force(&SERVER)).await.unwrap();
        let name = format!("test_{}", Uuid::now_v7().simple());
        run(&server.url("postgres"), &format!("CREATE DATABASE {name} TEMPLATE evently STRATEGY FILE_COPY"))
            .await;
        Self { name, idle: Mutex::default() }
    }

    /// Its `DATABASE_URL`.
    pub fn url(&self) -> String {
        SERVER.url(&self.name)
    }

    /// Runs statements, on a connection that nobody else uses meanwhile.
    pub async fn execute(&self, sql: &str) {
        self.rows(sql).await;
    }

    /// Ends every connection and takes no new one, as if the server were gone for this application alone.
    pub async fn refuse(&self) {
        let name = &self.name;
        let postgres = SERVER.url("postgres");
        run(&postgres, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        run(&postgres, &end).await;
    }

    /// Takes connections again after [`TestDatabase::refuse`].
    pub async fn accept(&self) {
        run(&SERVER.url("postgres"), &format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)).await;
    }

    /// The rows of a query, every value as text.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let idle = self.idle.lock().unwrap().take();
        if let Some(client) = idle.filter(|client| !client.is_closed()) {
            match client.simple_query(sql).await {
                Ok(messages) => {
                    *self.idle.lock().unwrap() = Some(client);
                    return rows(messages);
                }
                // The server has ended it, and with it whatever the statement had begun.
                Err(error) if error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN) => {}
                Err(error) => panic!("{sql}: {error:?}"),
            }
        }
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        *self.idle.lock().unwrap() = Some(client);
        rows(messages)
    }

    /// The first value of the first row, as text; `None` when it is null or there is no row.
    pub async fn value(&self, sql: &str) -> Option<String> {
        self.rows(sql).await.into_iter().next()?.into_iter().next()?
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        JANITOR.lock().unwrap().send(std::mem::take(&mut self.name)).unwrap();
    }
}

/// Runs statements on a connection of their own; the rows, every value as text.
pub async fn run(url: &str, sql: &str) -> Vec<Vec<Option<String>>> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    drop(client);
    connection.await.unwrap().unwrap();
    rows(messages)
}

fn rows(messages: Vec<SimpleQueryMessage>) -> Vec<Vec<Option<String>>> {
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    });
    rows.collect()
}
