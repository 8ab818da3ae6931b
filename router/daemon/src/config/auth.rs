//! `[auth]`: who the users are and how they prove it.

use std::path::{Path, PathBuf};

use viaduct_engine::auth::Algorithm;
use viaduct_engine::auth::challenge::is_realm;
use viaduct_location::Tls;

use super::location::TLS;
use super::reader::{Section, quoted};
use super::secret::SecretSource;
use super::size;

/// `[auth]`, where it names a source of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// File with users.
    pub users_file: Option<PathBuf>,
    /// File of the router's own users, which `viaduct user` changes.
    pub users_store: Option<PathBuf>,
    /// Database with users.
    pub postgres: Option<PostgresUsersConfig>,
    /// One realm for all domains; `None`: the domain.
    pub realm: Option<Box<str>>,
    /// Most wanted first; at least one.
    pub algorithms: Vec<Algorithm>,
    /// Offer `auth-int` too.
    pub auth_int: bool,
    /// Send Authentication-Info.
    pub info: bool,
    /// How long a nonce is accepted, seconds.
    pub nonce_life_s: u64,
    /// Nonces whose counts are remembered.
    pub nonces: usize,
    /// How long a request waits for its user, milliseconds.
    pub wait_ms: u64,
    /// Requests that wait at a time, all workers together.
    pub waiting: usize,
    /// What is kept of what store and database say.
    pub cache: AuthCacheConfig,
}

/// `[auth]`, keys `cache_...`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthCacheConfig {
    /// Users kept.
    pub users: usize,
    /// For so long, seconds.
    pub users_s: u64,
    /// Names nobody has kept.
    pub absent: usize,
    /// For so long, seconds.
    pub absent_s: u64,
}

/// `[auth.postgres]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresUsersConfig {
    /// Where the connection string is.
    pub url: SecretSource,
    /// TLS; Unix sockets never have any.
    pub tls: Tls,
    /// PEM file with the authorities that are believed; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Users are told apart by domain.
    pub use_domain: bool,
    /// Most connections.
    pub connections: usize,
    /// For a connection, and for an answer, milliseconds.
    pub timeout_ms: u64,
}

impl AuthConfig {
    /// For people.
    pub(super) fn summary(&self) -> String {
        let file = self.users_file.iter().map(|file| file.display().to_string());
        let store = self.users_store.iter().map(|file| file.display().to_string());
        let database = self.postgres.iter().map(|_| "PostgreSQL".to_owned());
        let names: Vec<&str> = self.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        let sources: Vec<String> = file.chain(store).chain(database).collect();
        format!("digest {}, users of {}", names.join(", "), sources.join(" and "))
    }
}

const ALGORITHMS: &str = "a list of \"SHA-256\", \"SHA-512-256\", \"MD5\"";
/// What every phone knows, and what the incumbents' tables of users have hashes for.
const DEFAULT: [Algorithm; 1] = [Algorithm::Md5];

/// `None` where no source of users is named.
pub(super) fn read(top: &mut Section<'_, '_>, folder: &Path) -> Option<AuthConfig> {
    let mut section = top.section("auth");
    let s = &mut section;
    let users_file = s.text("users_file", "", "a path").map(|text| folder.join(text.value));
    let users_store = s.text("users_store", "", "a path").map(|text| folder.join(text.value));
    let realm = s.text_if("realm", "\"\"", "a realm without quotes, or \"\"", |text| {
        text.is_empty() || is_realm(text)
    });
    let algorithms = algorithms(s);
    let auth_int = s.flag("auth_int", false);
    let info = s.flag("authentication_info", false);
    let nonce_life_s = s.number("nonce_life_s", 10..=86_400, 300);
    let nonces = size(s.number("nonces", 1000..=100_000_000, 200_000));
    let wait_ms = s.number("wait_ms", 100..=30_000, 5000);
    let waiting = size(s.number("waiting", 1..=10_000_000, 10_000));
    let cache = AuthCacheConfig {
        users: size(s.number("cache_users", 1..=100_000_000, 100_000)),
        users_s: s.number("cache_users_s", 0..=86_400, 300),
        absent: size(s.number("cache_absent", 1..=100_000_000, 20_000)),
        absent_s: s.number("cache_absent_s", 0..=86_400, 30),
    };
    let postgres = postgres(s, folder);
    section.close();
    if users_file.is_none() && users_store.is_none() && postgres.is_none() {
        return None;
    }
    let realm = realm.filter(|text| !text.value.is_empty()).map(|text| text.value.into());
    Some(AuthConfig {
        users_file,
        users_store,
        postgres,
        realm,
        algorithms,
        auth_int,
        info,
        nonce_life_s,
        nonces,
        wait_ms,
        waiting,
        cache,
    })
}

fn algorithms(section: &mut Section<'_, '_>) -> Vec<Algorithm> {
    let most = Algorithm::ALL.len();
    let default = format!("{:?}", DEFAULT.map(Algorithm::name));
    let Some(texts) = section.texts("algorithms", most, &default, ALGORITHMS) else {
        return DEFAULT.to_vec();
    };
    let mut found = Vec::new();
    for text in &texts {
        match Algorithm::from_name(text.value.as_bytes()) {
            Some(algorithm) if !found.contains(&algorithm) => found.push(algorithm),
            Some(_) => {}
            None => {
                let problem = format!("has {}", quoted(&text.value));
                section.sheet().fault(text.at, &text.key, problem, ALGORITHMS);
            }
        }
    }
    if texts.is_empty() {
        let place = section.place("algorithms");
        section.sheet().fault(place, &section.name("algorithms"), "is empty".into(), ALGORITHMS);
    }
    found
}

fn postgres(auth: &mut Section<'_, '_>, folder: &Path) -> Option<PostgresUsersConfig> {
    let mut section = auth.section("postgres");
    let s = &mut section;
    let file = s.text("url_file", "", "a path");
    let variable = s.text("url_env", "", "the name of an environment variable");
    let tls = s.choice("sslmode", &TLS, ("verify-full", Tls::VerifyFull));
    let ca_file = s.text("ca_file", "", "a path").map(|file| folder.join(file.value));
    let use_domain = s.flag("use_domain", true);
    let connections = size(s.number("connections", 1..=64, 4));
    let timeout_ms = s.number("timeout_ms", 100..=30_000, 4000);
    let file = file.map(|file| SecretSource::File(folder.join(file.value)));
    let url = file.or(variable.map(|name| SecretSource::Variable(name.value)));
    section.close();
    url.map(|url| PostgresUsersConfig { url, tls, ca_file, use_domain, connections, timeout_ms })
}
