//! Asks an HTTP service where a number is to be reached: number portability, least-cost routing, a
//! customer database. An example of code that reads as if it waited. README.md says what it decides;
//! its tests are in tests.rs.

#[cfg(feature = "tests")]
mod tests;

use viaduct_guest::http::{HttpError, HttpResponse};
use viaduct_guest::prelude::*;

/// Places of one answer that are tried.
const MOST_PLACES: usize = 4;

/// The policy.
struct NumberLookup;

#[viaduct::policy]
impl Policy for NumberLookup {
    fn on_request(request: &Request) -> Verdict {
        if request.in_dialog() {
            return if request.loose_routed() {
                relay()
            } else {
                reply(481, "")
            };
        }
        if (request.preloaded_route() || !request.uri_is_ours()) && !request.trusted() {
            return reply(403, "Relaying Denied");
        }
        if request.uri_is_router() {
            return answer_options("");
        }
        match ask(&request.request_user(), &request.from_user()) {
            Ok(answer) if answer.status == 200 => route(request, &answer.text()),
            Ok(answer) if answer.status == 404 => reply(404, ""),
            Ok(answer) => unavailable(&format!("status {}", answer.status)),
            Err(error) => unavailable(error.name()),
        }
    }
}

/// The run ends here and is made again when the service has answered.
fn ask(number: &str, caller: &str) -> Result<HttpResponse, HttpError> {
    let service = settings::get("service").unwrap_or_default();
    let (number, caller) = (encode(number), encode(caller));
    let mut asked = http::get(&format!("{service}/route?number={number}&caller={caller}"));
    if let Some(patience_ms) = settings::get("patience_ms").and_then(|text| text.parse().ok()) {
        asked = asked.timeout_ms(patience_ms);
    }
    if let (Some(name), Some(key)) = (settings::get("key_header"), settings::get("key")) {
        asked = asked.header(&name, &key);
    }
    asked.send()
}

/// The answer has a SIP URI a line, the one to be tried first on top.
fn route(request: &Request, places: &str) -> Verdict {
    let mut order = 1000;
    for place in places
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(MOST_PLACES)
    {
        if routing::add_target(place, order).is_err() {
            return unavailable("what it names is no SIP URI");
        }
        order -= 100;
    }
    if order == 1000 {
        return reply(404, "");
    }
    if request.method().forms_dialog() {
        routing::record_route();
    }
    relay()
}

fn unavailable(why: &str) -> Verdict {
    log::warn!("no route: {why}");
    metrics::count("lookups_failed");
    if let Err(error) = routing::add_reply_header("Retry-After", "5") {
        log::error!("Retry-After refused: {}", error.name());
    }
    reply(503, "")
}

/// RFC 3986 2.1: all but what never needs it.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
