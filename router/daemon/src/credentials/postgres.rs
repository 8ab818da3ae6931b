//! Users in PostgreSQL, in the table `subscriber` as Kamailio and OpenSIPS have it.
//!
//! A small pool of connections, made when they are needed. Where a connection cannot be made, the
//! next tries wait longer and longer, and meanwhile every question fails at once: a request gets
//! its 503 instead of waiting for a database that is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Timeouts,
};
use parking_lot::Mutex;
use tokio_postgres::Row;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use viaduct_engine::auth::digest::Hash;
use viaduct_engine::auth::{Account, Algorithm, Secrets};
use viaduct_location::{Tls, describe, tls_connector};

use crate::config::PostgresUsersConfig;

/// First and longest wait after a failed connection.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// OpenSIPS has a column an algorithm.
const ALL_COLUMNS: &str = "SELECT password, ha1, ha1_sha256, ha1_sha512t256 FROM subscriber \
                           WHERE username = $1 AND domain = $2 LIMIT 1";
const ALL_COLUMNS_ANY_DOMAIN: &str = "SELECT password, ha1, ha1_sha256, ha1_sha512t256 \
                                      FROM subscriber WHERE username = $1 LIMIT 1";
/// Kamailio has MD5 alone.
const MD5_COLUMNS: &str = "SELECT password, ha1 FROM subscriber \
                           WHERE username = $1 AND domain = $2 LIMIT 1";
const MD5_COLUMNS_ANY_DOMAIN: &str =
    "SELECT password, ha1 FROM subscriber WHERE username = $1 LIMIT 1";

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseFault {
    #[error("the database cannot be reached; trying again later")]
    Waiting,
    #[error("no connection to the database: {0}")]
    Connect(String),
    #[error("the database does not answer in time")]
    Late,
    #[error("the database says: {0}")]
    Query(String),
}

/// The way to the table.
pub(super) struct Database {
    pool: Pool,
    place: String,
    use_domain: bool,
    timeout: Duration,
    /// The table has no columns for the SHA algorithms.
    md5_only: AtomicBool,
    gate: Mutex<Gate>,
}

/// When the next connection may be tried.
struct Gate {
    until: Option<Instant>,
    wait: Duration,
}

impl Gate {
    fn is_closed(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn failed(&mut self, now: Instant) {
        self.until = Some(now + self.wait);
        self.wait = self.wait.saturating_mul(2).min(LONGEST_WAIT);
    }

    fn worked(&mut self) {
        *self = Gate::default();
    }
}

impl Default for Gate {
    fn default() -> Gate {
        Gate { until: None, wait: FIRST_WAIT }
    }
}

impl Database {
    /// Reads the connection string from its file or from the environment; connects later.
    pub(super) fn new(config: &PostgresUsersConfig) -> anyhow::Result<Database> {
        let text = config.url.read()?;
        // The parser's fault may quote the text, which holds the password.
        let mut postgres: tokio_postgres::Config =
            text.trim().parse().ok().with_context(|| {
                format!("{} holds no connection string of PostgreSQL", config.url)
            })?;
        let unix = postgres.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        postgres.ssl_mode(match config.tls {
            _ if unix => SslMode::Disable,
            Tls::Disable if postgres.get_ssl_mode() == SslMode::Require => {
                bail!("{}: sslmode=require in it, and \"disable\" in sslmode", config.url)
            }
            Tls::Disable => SslMode::Disable,
            Tls::Require | Tls::VerifyFull => SslMode::Require,
        });
        let connector = tls_connector(config.tls, config.ca_file.as_deref());
        let connector = connector.map_err(|problem| anyhow!("{problem}"))?;
        let timeout = Duration::from_millis(config.timeout_ms);
        postgres.connect_timeout(timeout);
        if postgres.get_application_name().is_none() {
            postgres.application_name("viaduct");
        }
        // So that what we have given up does not go on there.
        let limit = format!("-c statement_timeout={}", config.timeout_ms);
        let options = match postgres.get_options() {
            Some(options) => format!("{options} {limit}"),
            None => limit,
        };
        postgres.options(&options);
        let place = place(&postgres);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(postgres, connector, recycling);
        let pool = Pool::builder(manager)
            .max_size(config.connections)
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(timeout),
                create: Some(timeout),
                recycle: Some(timeout),
            })
            .build()?;
        Ok(Database {
            pool,
            place,
            use_domain: config.use_domain,
            timeout,
            md5_only: AtomicBool::new(false),
            gate: Mutex::default(),
        })
    }

    /// Where it is, for people; without user and password.
    pub(super) fn describe(&self) -> String {
        let down = self.gate.lock().is_closed(Instant::now());
        format!("{}{}", self.place, if down { ", down" } else { "" })
    }

    /// The table may have got more columns.
    pub(super) fn forget_schema(&self) {
        self.md5_only.store(false, Ordering::Relaxed);
    }

    /// A user's secrets; `None` where there is no such user.
    pub(super) async fn find(&self, account: &Account) -> Result<Option<Secrets>, DatabaseFault> {
        if self.gate.lock().is_closed(Instant::now()) {
            return Err(DatabaseFault::Waiting);
        }
        let client = match self.pool.get().await {
            Ok(client) => client,
            Err(fault) => return Err(self.no_connection(&fault)),
        };
        self.gate.lock().worked();
        match tokio::time::timeout(self.timeout, self.query(&client, account)).await {
            Ok(Ok(row)) => Ok(row.map(|row| secrets(&row, account))),
            // A connection that broke is not used again: the pool looks.
            Ok(Err(fault)) => Err(DatabaseFault::Query(words(&fault))),
            Err(_) => {
                // The next question would wait behind this one.
                drop(Object::take(client));
                Err(DatabaseFault::Late)
            }
        }
    }

    fn no_connection(&self, fault: &PoolError) -> DatabaseFault {
        match fault {
            // All connections are busy: that says nothing against a new one.
            PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => DatabaseFault::Late,
            fault => {
                self.gate.lock().failed(Instant::now());
                DatabaseFault::Connect(match fault {
                    PoolError::Backend(fault) => words(fault),
                    fault => fault.to_string(),
                })
            }
        }
    }

    async fn query(
        &self,
        client: &Object,
        account: &Account,
    ) -> Result<Option<Row>, tokio_postgres::Error> {
        if !self.md5_only.load(Ordering::Relaxed) {
            let (text, any) = (ALL_COLUMNS, ALL_COLUMNS_ANY_DOMAIN);
            match self.run(client, text, any, account).await {
                Err(fault) if fault.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
                    self.md5_only.store(true, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        self.run(client, MD5_COLUMNS, MD5_COLUMNS_ANY_DOMAIN, account).await
    }

    async fn run(
        &self,
        client: &Object,
        in_domain: &str,
        any_domain: &str,
        account: &Account,
    ) -> Result<Option<Row>, tokio_postgres::Error> {
        if self.use_domain {
            let statement = client.prepare_cached(in_domain).await?;
            client.query_opt(&statement, &[&&*account.user, &&*account.realm]).await
        } else {
            let statement = client.prepare_cached(any_domain).await?;
            client.query_opt(&statement, &[&&*account.user]).await
        }
    }
}

/// Hosts and database.
fn place(config: &tokio_postgres::Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts: Vec<String> = hosts.collect();
    format!("PostgreSQL {} at {}", config.get_dbname().unwrap_or("?"), hosts.join(", "))
}

/// What the database or the connection says; neither holds a secret of a user.
fn words(fault: &tokio_postgres::Error) -> String {
    match fault.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        // Its causes too, such as a certificate that is not believed.
        None => describe(fault),
    }
}

/// A hash where its column has one, else that of the password where there is one: operators keep
/// either.
fn secrets(row: &Row, account: &Account) -> Secrets {
    let text = |column: &str| -> Option<String> {
        let value: Option<Option<String>> = row.try_get(column).ok();
        value.flatten().filter(|value| !value.is_empty())
    };
    let mut secrets = match text("password") {
        Some(password) => Secrets::of_password(&account.user, &account.realm, &password),
        None => Secrets::default(),
    };
    for (column, algorithm) in [
        ("ha1", Algorithm::Md5),
        ("ha1_sha256", Algorithm::Sha256),
        ("ha1_sha512t256", Algorithm::Sha512_256),
    ] {
        if let Some(hash) = text(column).and_then(|hex| Hash::from_hex(algorithm, hex.trim())) {
            secrets.set(algorithm, hash);
        }
    }
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretSource;
    use crate::scratch::Scratch;

    fn config(file: std::path::PathBuf) -> PostgresUsersConfig {
        PostgresUsersConfig {
            url: SecretSource::File(file),
            tls: Tls::Disable,
            ca_file: None,
            use_domain: true,
            connections: 2,
            timeout_ms: 1000,
        }
    }

    fn open(text: &str) -> anyhow::Result<Database> {
        let scratch = Scratch::new();
        let file = scratch.path().join("url");
        std::fs::write(&file, text).unwrap();
        crate::config::make_private(&file);
        Database::new(&config(file))
    }

    #[test]
    fn a_wrong_connection_string_is_refused_without_being_quoted() {
        let fault = open("postgres://viaduct:hunter2@:x:/").err().unwrap();
        let text = format!("{fault:#}");
        assert!(text.contains("no connection string") && !text.contains("hunter2"), "{text}");
        let fault = open("host=db sslmode=require password=hunter2").err().unwrap();
        assert!(format!("{fault:#}").contains("sslmode=require"));
    }

    #[test]
    fn people_see_where_it_is_and_no_password() {
        let database = open("host=/run/postgresql user=v password=hunter2 dbname=sip").unwrap();
        assert_eq!(database.describe(), "PostgreSQL sip at /run/postgresql");
    }

    #[test]
    fn after_failures_the_next_try_waits_longer_each_time() {
        let mut gate = Gate::default();
        let now = Instant::now();
        assert!(!gate.is_closed(now));
        gate.failed(now);
        assert!(gate.is_closed(now) && !gate.is_closed(now + FIRST_WAIT));
        (0..20).for_each(|_| gate.failed(now));
        assert!(gate.is_closed(now + LONGEST_WAIT - FIRST_WAIT));
        assert!(!gate.is_closed(now + LONGEST_WAIT));
        gate.worked();
        assert!(!gate.is_closed(now));
    }

    #[tokio::test]
    async fn a_database_that_is_gone_fails_at_once() {
        let scratch = Scratch::new();
        let text = format!("host={} user=v dbname=sip", scratch.path().display());
        let database = open(&text).unwrap();
        let account = Account { realm: "example.com".into(), user: "alice".into() };
        let first = database.find(&account).await.err().unwrap();
        assert!(matches!(first, DatabaseFault::Connect(_)), "{first}");
        let second = database.find(&account).await.err().unwrap();
        assert!(matches!(second, DatabaseFault::Waiting), "{second}");
        assert!(database.describe().ends_with(", down"));
    }
}
