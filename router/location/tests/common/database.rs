//! What the tests with a real PostgreSQL share.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use viaduct_engine::registrar::BindingSet;
use viaduct_location::{Backend, Config, LocationService, Mode, PostgresConfig};
use viaduct_tests::support::postgres::{NO_POSTGRES, Postgres};
use viaduct_tests::support::skip::skipped;

use super::set;

/// A change of another router is seen within this time; on a busy machine it may take longer than
/// the second that is promised.
pub const SOON: Duration = Duration::from_secs(60);

/// Starts a server, or says why the test is skipped.
pub fn server() -> Option<Postgres> {
    let server = Postgres::start(&[]).unwrap();
    if server.is_none() {
        skipped(NO_POSTGRES);
    }
    server
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

pub fn postgres(server: &Postgres, node: &str) -> PostgresConfig {
    PostgresConfig {
        poll_interval: Duration::from_millis(100),
        write_timeout: Duration::from_secs(10),
        ..PostgresConfig::new(server.connection(), node)
    }
}

pub fn config(server: &Postgres, node: &str) -> Config {
    let backend = Backend::Postgres(Box::new(postgres(server, node)));
    Config { mode: Mode::WriteThrough(backend), ..Config::default() }
}

pub fn open(server: &Postgres, node: &str) -> LocationService {
    LocationService::open(&config(server, node), now_ms()).unwrap()
}

/// Contacts that live an hour.
pub fn live(contacts: &[&str]) -> Arc<BindingSet> {
    let expires_ms = now_ms() + 3_600_000;
    set(&contacts.iter().map(|contact| (*contact, expires_ms)).collect::<Vec<_>>())
}

#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
