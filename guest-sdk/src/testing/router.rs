//! The router a test talks to: its clock, its location service, its configuration.

use core::time::Duration;

use super::bindings::viaduct::policy::router as host;
use super::{Outcome, Sent};

/// What one run of the policy decided and staged, in words.
pub use host::Run;

/// An HTTP request of the policy.
pub use host::HttpRequest;

/// Binds a contact to an AoR (`user@host`) in the table `location`, without a REGISTER.
pub fn bind(aor: &str, contact: &str) {
    host::set_binding(aor, contact, "", 3_600);
}

/// [`bind`] with a Path, `<sip:a;lr>, <sip:b;lr>`, topmost first.
pub fn bind_with_path(aor: &str, contact: &str, path: &str) {
    host::set_binding(aor, contact, path, 3_600);
}

/// Contacts bound to an AoR now.
pub fn contacts(aor: &str) -> Vec<String> {
    host::contacts(aor)
}

/// Gives a user of `example.com` a password. With the first one authentication is on.
pub fn set_password(user: &str, password: &str) {
    host::set_password(user, "example.com", Some(password));
}

/// [`set_password`] in another realm.
pub fn set_password_in(realm: &str, user: &str, password: &str) {
    host::set_password(user, realm, Some(password));
}

/// The world is slow from now on: each question the router asks, about a user or by HTTP, is answered
/// so much later ([`advance`] moves the clock).
pub fn answer_after(time: Duration) {
    host::answer_after(Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
}

/// The world does not answer any more.
pub fn answer_never() {
    host::answer_after(None);
}

/// Trusts a peer (`192.0.2.9`) or a network (`192.0.2.0/28`).
pub fn trust(network: &str) {
    host::add_trusted(network);
}

/// Makes a domain ours, beside `example.com`.
pub fn add_domain(domain: &str) {
    host::add_domain(domain);
}

/// Puts a destination into a dispatcher set: it is up, and weighs 1.
pub fn destination(set: &str, uri: &str) {
    host::set_destination(set, uri, 1, 0, true);
}

/// [`destination`] with its weight (1 to 1000), its priority (0 to 1000), and whether it is up.
pub fn destination_with(set: &str, uri: &str, weight: u16, priority: u16, up: bool) {
    host::set_destination(set, uri, weight, priority, up);
}

/// A GET of that URL has status 200 and this body from now on.
pub fn http_get(url: &str, body: &str) {
    http("GET", url, 200, &[], body);
}

/// Requests with that method and URL are answered so from now on; headers are `name: value`. Those
/// nobody has said anything about are `unreachable`.
pub fn http(method: &str, url: &str, status: u16, headers: &[&str], body: &str) {
    let headers = headers.iter().map(|line| (*line).to_owned()).collect();
    let body = body.as_bytes().to_vec();
    let answer = host::HttpAnswer {
        status,
        headers,
        body,
    };
    host::set_http(method, url, Ok(&answer));
}

/// Requests with that method and URL fail so from now on: `timeout`, `unreachable`, `too-large`,
/// `busy`.
pub fn http_fails(method: &str, url: &str, error: &str) {
    host::set_http(method, url, Err(error));
}

/// HTTP requests the policy sent since the last call of this.
pub fn http_requests() -> Vec<HttpRequest> {
    host::http_requests()
}

/// URIs of a dispatcher set's destinations that are up.
pub fn destinations_up(set: &str) -> Vec<String> {
    host::destinations_up(set)
}

/// Gives one of the manifest's settings another value for this test.
pub fn set(name: &str, value: &str) {
    host::set_setting(name, Some(value));
}

/// Takes one of the manifest's settings away for this test.
pub fn unset(name: &str) {
    host::set_setting(name, None);
}

/// Hands in a message as it stands, from `source` (`IP:PORT`).
pub fn receive(source: &str, message: &str) -> Outcome {
    let (start_line, _) = message.split_once("\r\n").unwrap_or((message, ""));
    let what = format!("{start_line} from {source}");
    Outcome::new(
        what,
        host::receive(source, message)
            .into_iter()
            .map(Sent::from)
            .collect(),
    )
}

/// Moves the clock; what timers made the router send.
pub fn advance(time: Duration) -> Outcome {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let sent = host::advance(milliseconds);
    Outcome::new(
        format!("{time:?} later"),
        sent.into_iter().map(Sent::from).collect(),
    )
}

/// Runs of the policy since the last call of this.
pub fn runs() -> Vec<Run> {
    host::runs()
}
