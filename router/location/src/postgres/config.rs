//! How the database is reached.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// Environment variable with the password, where no file is named.
const PASSWORD_VARIABLE: &str = "VIADUCT_POSTGRES_PASSWORD";

/// How much of the TLS certificate is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// No TLS. Unix sockets never have any.
    Disable,
    /// Encrypted, to whoever answers.
    Require,
    /// Encrypted, to a server whose certificate names it and is signed by a known authority.
    VerifyFull,
}

/// A database, and this router's name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// Connection string of libpq (`host=db1,db2 user=viaduct dbname=viaduct`) or URL, without a
    /// password. Of several hosts the one that takes writes is used.
    pub connection: String,
    /// File whose first line is the password, read at each connection. `None`: the environment
    /// variable `VIADUCT_POSTGRES_PASSWORD`, or none.
    pub password_file: Option<PathBuf>,
    /// TLS.
    pub tls: Tls,
    /// PEM file with the authorities that are believed; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Name of this router, its own among those that share the database.
    pub node: String,
    /// `host[:port]` at which the other routers reach this one; empty: the address each REGISTER
    /// came in at.
    pub node_address: String,
    /// Longest wait for a connection, all hosts together.
    pub connect_timeout: Duration,
    /// Longest wait for a group of changes.
    pub write_timeout: Duration,
    /// Longest time until a change of another router is looked for without being told of it.
    pub poll_interval: Duration,
    /// How long removals are kept for routers that are not connected. Who was away longer than half
    /// of it reads everything again.
    pub keep_removed: Duration,
    /// A router that has not said for so long that it lives is dead: another pings those of its
    /// contacts that others can reach.
    pub node_dead: Duration,
}

impl PostgresConfig {
    /// For a connection string, with defaults.
    pub fn new(connection: impl Into<String>, node: impl Into<String>) -> PostgresConfig {
        PostgresConfig {
            connection: connection.into(),
            password_file: None,
            tls: Tls::VerifyFull,
            ca_file: None,
            node: node.into(),
            node_address: String::new(),
            connect_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(3),
            poll_interval: Duration::from_millis(500),
            keep_removed: Duration::from_secs(3600),
            node_dead: Duration::from_secs(15),
        }
    }

    /// What is wrong with the connection string; never its text, which may hold a secret.
    pub fn check(&self) -> Result<(), String> {
        self.parse().map(drop)
    }

    /// Hosts and database, for messages.
    pub fn place(&self) -> String {
        let Ok(parsed) = self.parse() else { return "a bad connection string".to_owned() };
        let name = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        let hosts: Vec<String> = parsed.get_hosts().iter().map(name).collect();
        format!("{}/{}", hosts.join(","), parsed.get_dbname().unwrap_or_default())
    }

    fn parse(&self) -> Result<tokio_postgres::Config, String> {
        let mut parsed =
            tokio_postgres::Config::from_str(&self.connection).map_err(|error| describe(&error))?;
        if parsed.get_password().is_some() {
            return Err("it holds a password; put that into password_file".to_owned());
        }
        if parsed.get_hosts().is_empty() {
            return Err("it names no host".to_owned());
        }
        let unix = parsed.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let mode =
            if unix || self.tls == Tls::Disable { SslMode::Disable } else { SslMode::Require };
        parsed
            .ssl_mode(mode)
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .application_name(format!("viaduct {}", self.node))
            .connect_timeout(self.connect_timeout)
            .tcp_user_timeout(self.write_timeout)
            .keepalives_idle(self.write_timeout)
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3);
        Ok(parsed)
    }

    /// The whole, with the password.
    pub(super) fn with_password(&self) -> Result<tokio_postgres::Config, String> {
        let mut parsed = self.parse()?;
        match &self.password_file {
            Some(file) => {
                parsed.password(first_line(file)?);
            }
            None => {
                if let Ok(password) = std::env::var(PASSWORD_VARIABLE) {
                    parsed.password(password);
                }
            }
        }
        Ok(parsed)
    }
}

fn first_line(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("password_file {}: {error}", file.display()))?;
    match text.lines().next().map(str::trim_end).filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => Err(format!("password_file {}: its first line is empty", file.display())),
    }
}

/// An error with its causes, in one line.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(connection: &str) -> String {
        PostgresConfig::new(connection, "a").check().unwrap_err()
    }

    #[test]
    fn a_password_in_the_connection_string_is_refused_without_being_shown() {
        for connection in ["host=h password=hush", "postgres://u:hush@h/d"] {
            let fault = fault(connection);
            assert!(fault.contains("password_file") && !fault.contains("hush"), "{fault}");
        }
        assert!(fault("user=u dbname=d").contains("no host"));
        assert!(fault("host=h sslmoed=x").contains("sslmoed"));
    }

    #[test]
    fn hosts_and_database_are_named() {
        let config = PostgresConfig::new("host=db1,db2 user=u dbname=d", "a");
        assert_eq!(config.place(), "db1,db2/d");
        let parsed = config.with_password().unwrap();
        assert_eq!(parsed.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(parsed.get_ssl_mode(), SslMode::Require);
        let unix = PostgresConfig::new("host=/run/postgresql user=u dbname=d", "a");
        assert_eq!(unix.parse().unwrap().get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn the_password_is_the_first_line_of_its_file() {
        let file = std::env::temp_dir().join(format!("viaduct-password-{}", std::process::id()));
        let mut config = PostgresConfig::new("host=h user=u dbname=d", "a");
        config.password_file = Some(file.clone());
        assert!(config.with_password().unwrap_err().contains("password_file"));
        std::fs::write(&file, "hush \nmore\n").unwrap();
        assert_eq!(config.with_password().unwrap().get_password(), Some(&b"hush"[..]));
        std::fs::write(&file, "\n").unwrap();
        assert!(config.with_password().unwrap_err().contains("empty"));
        std::fs::remove_file(&file).unwrap();
    }
}
