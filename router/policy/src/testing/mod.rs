//! Runs the tests of a policy: a component of world `policy-tests`, made from the policy's own test
//! functions, drives a whole router with the policy in it.
//!
//! This module has the sandbox of the tests ([`TestRunner`]), the router's side as a trait
//! ([`RouterUnderTest`]) that the daemon implements with a real engine, and [`Recording`], which
//! notes what each run of the policy decided. [`BareGuest`] is for tests of the host itself.

mod bare;
mod calls;
mod recording;
mod runner;

pub use bare::{Arguments, BareGuest, Script, host_functions};
pub use recording::{Probe, RecordedRun, Recording};
pub use runner::{Outcome, TestError, TestResult, TestRunner, selected};

use std::net::SocketAddr;
use std::sync::Arc;

use viaduct_engine::dispatcher::DestinationConfig;
use viaduct_engine::http::{HttpMethod, HttpRequest, HttpResult};

/// A message the router has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentMessage {
    /// `udp:IP:PORT`
    pub to: String,
    /// The message; bytes that are no UTF-8 become U+FFFD.
    pub text: String,
}

/// How a phone answers a challenge.
#[derive(Clone, Copy, Debug)]
pub struct ChallengeAnswer<'a> {
    /// The 401 or 407.
    pub challenge: &'a str,
    /// User name.
    pub user: &'a str,
    /// Password.
    pub password: &'a str,
    /// `MD5`, `SHA-256` or `SHA-512-256`.
    pub algorithm: &'a str,
    /// Nonce-count.
    pub count: u32,
}

/// A router with the policy under test, an in-memory location service and a virtual clock: what a
/// test may do with it. An error ends the test as failed, with that text.
pub trait RouterUnderTest {
    /// Binds a contact to an AoR, `expires_s` seconds from now. `path`: Route values, or empty.
    fn set_binding(
        &mut self,
        aor: &str,
        contact: &str,
        path: &str,
        expires_s: u32,
    ) -> Result<(), String>;
    /// Contacts bound to an AoR now.
    fn contacts(&mut self, aor: &str) -> Result<Vec<String>, String>;
    /// Gives a user a password, and switches authentication on; `None`: the user is gone.
    fn set_password(
        &mut self,
        user: &str,
        realm: &str,
        password: Option<&str>,
    ) -> Result<(), String>;
    /// Questions are answered after so many milliseconds, or never.
    fn answer_after(&mut self, milliseconds: Option<u64>) -> Result<(), String>;
    /// A request with credentials for the challenge of a 401 or 407.
    fn authorize(&mut self, request: &str, answer: &ChallengeAnswer<'_>) -> Result<String, String>;
    /// Makes a network (`10.0.0.0/8`, or one address) trusted.
    fn add_trusted(&mut self, network: &str) -> Result<(), String>;
    /// Makes a host one of our domains.
    fn add_domain(&mut self, domain: &str) -> Result<(), String>;
    /// Adds a destination to a dispatcher set, or changes one.
    fn set_destination(&mut self, config: DestinationConfig, up: bool) -> Result<(), String>;
    /// HTTP requests with that method and URL are answered so from now on.
    fn set_http(&mut self, method: HttpMethod, url: &str, answer: HttpResult)
    -> Result<(), String>;
    /// HTTP requests since the last call of this.
    fn http_requests(&mut self) -> Vec<Arc<HttpRequest>>;
    /// URIs of a set's destinations that are up.
    fn destinations_up(&mut self, set: &str) -> Vec<String>;
    /// Another value for a key of the manifest's `[settings]`, from the next message on; `None`
    /// removes it. See [`Probe::set_setting`].
    fn set_setting(&mut self, name: &str, value: Option<&str>) -> Result<(), String>;
    /// Hands in one datagram; what the router sent in answer.
    fn receive(&mut self, source: SocketAddr, message: &[u8]) -> Result<Vec<SentMessage>, String>;
    /// Moves the clock; what timers made the router send.
    fn advance(&mut self, milliseconds: u64) -> Result<Vec<SentMessage>, String>;
    /// Runs of the policy since the last call of this.
    fn runs(&mut self) -> Vec<RecordedRun>;
}
