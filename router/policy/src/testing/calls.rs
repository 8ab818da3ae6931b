//! Every host function of the contract by its name, to be called without a guest.

use wasmtime::Result;

use super::bare::Arguments;
use crate::bindings::policy::viaduct::policy::dispatcher::Algorithm;
use crate::bindings::policy::viaduct::policy::log::Level;
use crate::bindings::policy::viaduct::policy::message::Field;
use crate::bindings::policy::viaduct::policy::path::Mode;
use crate::bindings::policy::viaduct::policy::routing::Sides;
use crate::bindings::policy::viaduct::policy::usrloc::Filter;
use crate::bindings::policy::viaduct::policy::{
    auth, dispatcher, http, log, media, message, metrics, nat, path, routing, settings, table,
    usrloc, vars,
};
use crate::guest::Guest;

/// One call: the arguments are drawn, what it gives is let go.
type Call = fn(&mut Guest, &mut dyn Arguments) -> Result<()>;

/// Names as `interface.function`.
pub(super) const CALLS: &[(&str, Call)] = &[
    ("message.get", |g, a| message::Host::get(g, one_of(a, &FIELDS)).map(drop)),
    ("message.header", |g, a| message::Host::header(g, a.text()).map(drop)),
    ("message.headers", |g, a| message::Host::headers(g, a.text()).map(drop)),
    ("message.body", |g, _| message::Host::body(g).map(drop)),
    ("message.is-our-domain", |g, a| message::Host::is_our_domain(g, a.text()).map(drop)),
    ("message.add-header", |g, a| message::Host::add_header(g, a.text(), a.text()).map(drop)),
    ("message.remove-header", |g, a| message::Host::remove_header(g, a.text()).map(drop)),
    ("message.set-request-uri", |g, a| message::Host::set_request_uri(g, a.text()).map(drop)),
    ("usrloc.save", |g, a| usrloc::Host::save(g, a.text(), a.text(), maybe(a)).map(drop)),
    ("usrloc.set-attributes", |g, a| usrloc::Host::set_attributes(g, a.text()).map(drop)),
    ("usrloc.attributes", |g, _| usrloc::Host::attributes(g).map(drop)),
    ("usrloc.lookup", |g, a| usrloc::Host::lookup(g, a.text(), a.text(), maybe(a)).map(drop)),
    ("usrloc.bindings", |g, a| usrloc::Host::bindings(g, a.text(), a.text(), filter(a)).map(drop)),
    ("usrloc.is-registered", |g, a| {
        usrloc::Host::is_registered(g, a.text(), a.text(), filter(a)).map(drop)
    }),
    ("usrloc.remove", |g, a| usrloc::Host::remove(g, a.text(), a.text(), filter(a)).map(drop)),
    ("path.add", |g, a| path::Host::add(g, one_of(a, &MODES), maybe(a)).map(drop)),
    ("path.add-received", |g, a| {
        path::Host::add_received(g, one_of(a, &MODES), maybe(a)).map(drop)
    }),
    ("path.add-flow", |g, a| path::Host::add_flow(g, one_of(a, &MODES)).map(drop)),
    ("routing.record-route", |g, _| routing::Host::record_route(g)),
    ("routing.record-route-flows", |g, a| routing::Host::record_route_flows(g, sides(a)).map(drop)),
    ("routing.add-target", |g, a| {
        routing::Host::add_target(g, a.text(), short(a.number())).map(drop)
    }),
    ("routing.set-destination", |g, a| routing::Host::set_destination(g, a.text()).map(drop)),
    ("routing.add-reply-header", |g, a| {
        routing::Host::add_reply_header(g, a.text(), a.text()).map(drop)
    }),
    ("routing.add-reply-headers", |g, a| routing::Host::add_reply_headers(g, a.text()).map(drop)),
    ("auth.check", |g, a| auth::Host::check(g, one_of(a, &ROLES), maybe(a)).map(drop)),
    ("auth.challenge", |g, a| {
        auth::Host::challenge(g, one_of(a, &ROLES), maybe(a), a.is_there()).map(drop)
    }),
    ("nat.force-rport", |g, _| nat::Host::force_rport(g)),
    ("nat.fix-register", |g, _| nat::Host::fix_register(g)),
    ("nat.is-behind-nat", |g, _| nat::Host::is_behind_nat(g).map(drop)),
    ("nat.test", |g, a| nat::Host::test(g, a.text()).map(drop)),
    ("nat.fix-contact", |g, _| nat::Host::fix_contact(g).map(drop)),
    ("vars.get", |g, a| vars::Host::get(g, a.text()).map(drop)),
    ("vars.set", |g, a| vars::Host::set(g, a.text(), maybe(a)).map(drop)),
    ("dispatcher.select", |g, a| {
        dispatcher::Host::select(g, a.text(), one_of(a, &ALGORITHMS), whole(a.number())).map(drop)
    }),
    ("dispatcher.next", |g, _| dispatcher::Host::next(g).map(drop)),
    ("dispatcher.report", |g, a| dispatcher::Host::report(g, a.is_there()).map(drop)),
    ("dispatcher.destinations", |g, a| dispatcher::Host::destinations(g, a.text()).map(drop)),
    ("dispatcher.source", |g, a| dispatcher::Host::source(g, a.text()).map(drop)),
    ("table.get", |g, a| table::Host::get(g, a.text(), a.text()).map(drop)),
    ("table.set", |g, a| {
        table::Host::set(g, a.text(), a.text(), maybe(a), whole(a.number())).map(drop)
    }),
    ("table.add", |g, a| {
        let (table, key, by) = (a.text(), a.text(), a.number().cast_signed());
        table::Host::add(g, table, key, by, whole(a.number())).map(drop)
    }),
    ("table.hit", |g, a| table::Host::hit(g, a.text(), a.text(), whole(a.number())).map(drop)),
    ("table.guard", |g, a| {
        let (hits, banned, most) = (a.text(), a.text(), whole(a.number()));
        let (window_s, ban_s) = (whole(a.number()), whole(a.number()));
        table::Host::guard(g, hits, banned, most, window_s, ban_s).map(drop)
    }),
    ("media.manage", |g, a| media::Host::manage(g, a.text()).map(drop)),
    ("media.offer", |g, a| media::Host::offer(g, a.text()).map(drop)),
    ("media.answer", |g, a| media::Host::answer(g, a.text()).map(drop)),
    ("media.delete", |g, _| media::Host::delete(g).map(drop)),
    ("media.query", |g, _| media::Host::query(g).map(drop)),
    ("http.send", |g, a| http::Host::send(g, request(a)).map(drop)),
    ("log.write", |g, a| log::Host::write(g, one_of(a, &LEVELS), a.text())),
    ("metrics.add", |g, a| metrics::Host::add(g, a.text(), a.number())),
    ("settings.get", |g, a| settings::Host::get(g, a.text()).map(drop)),
];

const FIELDS: [Field; 19] = [
    Field::Method,
    Field::RequestUri,
    Field::RequestUser,
    Field::RequestHost,
    Field::FromUri,
    Field::FromUser,
    Field::FromHost,
    Field::FromTag,
    Field::ToUri,
    Field::ToUser,
    Field::ToHost,
    Field::ToTag,
    Field::CallId,
    Field::Cseq,
    Field::UserAgent,
    Field::SourceIp,
    Field::LocalIp,
    Field::Status,
    Field::Reason,
];
const MODES: [Mode; 3] = [Mode::UaSupported, Mode::Always, Mode::Require];
const ROLES: [auth::Role; 2] = [auth::Role::Registrar, auth::Role::Proxy];
const LEVELS: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
const METHODS: [http::Method; 6] = [
    http::Method::Get,
    http::Method::Head,
    http::Method::Post,
    http::Method::Put,
    http::Method::Patch,
    http::Method::Delete,
];
const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::RoundRobin,
    Algorithm::Weighted,
    Algorithm::Priority,
    Algorithm::CallId,
    Algorithm::From,
    Algorithm::To,
    Algorithm::RequestUri,
    Algorithm::AuthUser,
];

/// Most header lines drawn for an HTTP request: one more than a guest may send.
const MOST_LINES: u64 = 33;

/// A case of an enum.
fn one_of<T: Copy, const N: usize>(of: &mut dyn Arguments, cases: &[T; N]) -> T {
    let at = usize::try_from(of.number()).unwrap_or(usize::MAX).checked_rem(N).unwrap_or(0);
    match cases.get(at) {
        Some(case) => *case,
        None => unreachable!("a remainder is below what it was divided by"),
    }
}

fn maybe(of: &mut dyn Arguments) -> Option<String> {
    of.is_there().then(|| of.text())
}

fn filter(of: &mut dyn Arguments) -> Filter {
    Filter {
        contact: maybe(of),
        next_hop: maybe(of),
        instance: maybe(of),
        call_id: maybe(of),
        source_ip: maybe(of),
    }
}

fn sides(of: &mut dyn Arguments) -> Sides {
    let one = |is: bool, side| if is { side } else { Sides::empty() };
    one(of.is_there(), Sides::CALLER) | one(of.is_there(), Sides::CALLEE)
}

fn request(of: &mut dyn Arguments) -> http::Request {
    let (method, url) = (one_of(of, &METHODS), of.text());
    let lines = of.number().min(MOST_LINES);
    let headers = (0..lines).map(|_| http::Header { name: of.text(), value: of.text() }).collect();
    let body = of.text().into_bytes();
    let timeout_ms = of.is_there().then(|| whole(of.number()));
    http::Request { method, url, headers, body, timeout_ms }
}

/// Lower half: an argument of 32 bits.
fn whole(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Lowest quarter: an argument of 16 bits.
pub(super) fn short(number: u64) -> u16 {
    u16::try_from(number & u64::from(u16::MAX)).unwrap_or(u16::MAX)
}
