//! A message comes in: reading, matching (RFC 3261 17.2.3), validation, route preprocessing.

use viaduct_message::{Essentials, Fault, HeaderName, Host, Message, Method, Uri, UriPlace, check};

use super::Engine;
use super::admission::Admitted;
use super::decide::Incoming;
use super::respond::{Answer, Back};
use super::server::ServerEvent;
use crate::flow::Flow;
use crate::hook::{Phase, Policy};
use crate::io::Event;
use crate::proxy::route::{Routing, preprocess};
use crate::proxy::validate::{require, validate};
use crate::reject::Reject;
use crate::run::{Reading, Run, Traits};
use crate::settings::Settings;
use crate::transaction::ServerKey;

/// What reading a request came to. Moving the large variant costs less than an allocation for each
/// message.
#[allow(clippy::large_enum_variant)]
enum Examined {
    /// It is dealt with: an ACK, a retransmission, a refusal without state.
    Done,
    /// A CANCEL of a request we have.
    Cancel(Box<Incoming>),
    /// It begins a transaction: refused by the rules, or to be decided by the policy.
    New(Box<Incoming>, Result<Found, Reject>),
}

/// What was found out about a request that the policy is to decide.
struct Found {
    traits: Traits,
    reading: Option<Reading>,
}

impl<P: Policy> Engine<P> {
    pub(super) fn on_message(&mut self, flow: Flow, bytes: &[u8]) {
        if self.is_dropped_unread(flow, bytes) {
            self.counters.ignored = self.counters.ignored.wrapping_add(1);
            return;
        }
        let mut run = self.take_run();
        let scanned = run.head.scan(bytes, &self.settings.bounds.message);
        let message = Message::new(bytes, &run.head);
        if !message.is_request() {
            match scanned.and_then(|()| check::response(message)) {
                Ok(via) => self.on_response(message, &via, flow),
                Err(fault) => self.drop_malformed(flow, fault),
            }
            return self.put_run(run);
        }
        self.counters.request(message.method());
        let examined = match scanned.and_then(|()| check::request(message)) {
            Ok(read) => self.examine(message, &read, flow),
            Err(fault) => {
                self.on_malformed(message, flow, fault);
                Examined::Done
            }
        };
        match examined {
            Examined::Done => self.put_run(run),
            Examined::Cancel(incoming) => {
                run.bytes.clear();
                run.bytes.extend_from_slice(bytes);
                self.on_cancel(incoming, run);
            }
            Examined::New(incoming, found) => {
                run.bytes.clear();
                run.bytes.extend_from_slice(bytes);
                run.flow = flow;
                run.now = self.now;
                run.seed = self.next_random();
                self.begin(incoming, found, run);
            }
        }
    }

    /// A stream that cannot be framed any more; it is closed after the answer.
    pub(super) fn on_broken(&mut self, flow: Flow, bytes: &[u8], fault: Fault) {
        let mut run = self.take_run();
        // The head is read as far as it goes; what the fault is we know already.
        let _ = run.head.scan(bytes, &self.settings.bounds.message);
        let message = Message::new(bytes, &run.head);
        if message.is_request() {
            self.on_malformed(message, flow, fault);
        } else {
            self.drop_malformed(flow, fault);
        }
        self.put_run(run);
    }

    /// A request we cannot read gets 400 (or 505, 513) where its Via says whom to tell; ACK gets
    /// nothing (RFC 3261 17.1.1.3). No state is kept for it.
    fn on_malformed(&mut self, message: Message<'_>, flow: Flow, fault: Fault) {
        if message.method() != Method::Ack && message.line(HeaderName::Via).is_some() {
            self.respond_rough(message, flow, &Answer::new(fault.status(), fault.reason()));
        }
        self.drop_malformed(flow, fault);
    }

    fn drop_malformed(&mut self, flow: Flow, fault: Fault) {
        self.counters.malformed = self.counters.malformed.wrapping_add(1);
        self.event(Event::Malformed { fault, source: flow.remote });
    }

    /// Matches a request to its transaction (RFC 3261 17.2.3); a new one is validated (16.3) and
    /// its Route set preprocessed (16.4).
    fn examine(&mut self, message: Message<'_>, read: &Essentials<'_>, flow: Flow) -> Examined {
        let key = match ServerKey::of(message, &read.via, &self.settings.secret) {
            Ok(key) => key,
            Err(fault) => {
                self.on_malformed(message, flow, fault);
                return Examined::Done;
            }
        };
        match message.method() {
            Method::Ack => self.on_ack(message, key, flow),
            method => match self.keys.get(&key).copied() {
                Some(id) => {
                    self.counters.absorbed = self.counters.absorbed.wrapping_add(1);
                    self.server_event(id, ServerEvent::Request, &[]);
                }
                None if method == Method::Cancel => {
                    let routing = Routing::default();
                    let back = Back::new(read, &key, flow, &self.settings);
                    if key.cancelled().any(|key| self.keys.contains_key(&key)) {
                        let incoming = Incoming { flow, back, key, routing, rounds: 0 };
                        return Examined::Cancel(Box::new(incoming));
                    }
                    // Without state, or 481 where it is meant for us (RFC 3261 16.10, 9.2).
                    self.forward_stray(message, flow);
                }
                None => match self.admitted(message, read, flow) {
                    Admitted::Yes => return self.admit(message, read, flow, key),
                    Admitted::No => self.shed(message, flow),
                    Admitted::Silent => {
                        self.counters.ignored = self.counters.ignored.wrapping_add(1);
                    }
                },
            },
        }
        Examined::Done
    }

    fn admit(
        &mut self,
        message: Message<'_>,
        read: &Essentials<'_>,
        flow: Flow,
        key: ServerKey,
    ) -> Examined {
        let settings = &*self.settings;
        let trusted = settings.is_trusted(flow.remote.ip());
        let checked = match self.taken_back.overtook(message, &settings.secret, self.now.mono_us) {
            true => Err(Reject::new(400, "CSeq Out Of Order")), // R-S5
            false => validate(message, read, settings)
                .and_then(|()| preprocess(message, read, settings, trusted, &flow)),
        };
        let back = Back::new(read, &key, flow, settings);
        let incoming = |routing| Box::new(Incoming { flow, back, key, routing, rounds: 0 });
        match checked {
            Ok(routing) => {
                let behind_nat = behind_nat(read, flow);
                let facts = traits(message, read, settings, &routing, trusted);
                let for_us = facts.uri_is_router && !facts.preloaded_route && !facts.in_dialog;
                let allowed = if for_us { require(message, settings) } else { Ok(()) };
                let traits = Traits { behind_nat, ..facts };
                let reading = reading(message, read);
                Examined::New(incoming(routing), allowed.map(|()| Found { traits, reading }))
            }
            Err(reject) => Examined::New(incoming(Routing::default()), Err(reject)),
        }
    }

    /// Asks the policy, or refuses by the rules before any policy is asked.
    fn begin(&mut self, incoming: Box<Incoming>, found: Result<Found, Reject>, mut run: Box<Run>) {
        let version = self.policy.choose(&run);
        match found {
            Ok(Found { traits, reading }) => {
                run.traits = traits;
                run.reading = reading;
                let (run, verdict) = self.run_policy(&version, Phase::Request, run);
                self.on_verdict(incoming, version, None, run, verdict);
            }
            Err(Reject { status, reason, headers }) => {
                let answer = Answer { status, reason, headers: &headers };
                self.answer(incoming, version, None, run, &answer);
            }
        }
    }

    /// Not let in: 503 without state (RFC 3261 21.5.4). The one case in which an INVITE is answered
    /// statelessly (R-N1). Those who are sent away together do not come back together.
    fn shed(&mut self, message: Message<'_>, flow: Flow) {
        self.counters.shed = self.counters.shed.wrapping_add(1);
        let headers = format!("Retry-After: {}\r\n", 5 + self.next_random() % 11);
        let answer = Answer { status: 503, reason: "", headers: headers.as_bytes() };
        self.respond_rough(message, flow, &answer);
    }
}

/// What `save` would read again.
fn reading(message: Message<'_>, read: &Essentials<'_>) -> Option<Reading> {
    (message.method() == Method::Register).then(|| Reading {
        to: UriPlace::locate(message.bytes(), &read.to_uri),
        contact: read.contact,
    })
}

/// Does the topmost Via, or the first Contact, name another host than the one the request came
/// from? Only where the Contact has been read.
fn behind_nat(read: &Essentials<'_>, flow: Flow) -> Option<bool> {
    let source = Host::Ip(flow.remote.ip());
    let contact = read.contact_host?;
    Some(read.via.host != source || contact != source)
}

/// The yes-or-no facts of a request.
pub(super) fn traits(
    message: Message<'_>,
    read: &Essentials<'_>,
    settings: &Settings,
    routing: &Routing,
    trusted: bool,
) -> Traits {
    let replaced = routing.request_uri.as_deref().and_then(|text| Uri::parse(text).ok());
    let uri = replaced.unwrap_or(read.uri);
    let uri_is_ours = settings.is_ours(&uri);
    let in_dialog = read.to_tag.is_some();
    Traits {
        in_dialog,
        loose_routed: routing.removed > 0 || routing.drop_last,
        preloaded_route: !in_dialog && routing.more_routes,
        uri_is_ours,
        uri_is_router: uri_is_ours && uri.user.is_none(),
        from_is_ours: settings.is_ours(&read.from_uri),
        trusted,
        first_hop: !read.more_vias,
        has_path: message.line(HeaderName::Path).is_some(),
        supports_path: message.has_option(HeaderName::Supported, b"path"),
        has_body: !message.body().is_empty(),
        by_received: routing.is_known(),
        behind_nat: None,
    }
}
