//! A message comes in: reading, matching (RFC 3261 17.2.3), validation, route preprocessing.

use viaduct_message::{Fault, HeaderName, Message, Method, check};

use super::Engine;
use super::decide::Incoming;
use super::server::ServerEvent;
use crate::flow::Flow;
use crate::hook::{Phase, Policy};
use crate::io::Event;
use crate::proxy::route::{Routing, preprocess};
use crate::proxy::{loops, validate::validate};
use crate::reject::Reject;
use crate::run::{Run, Traits};
use crate::transaction::ServerKey;

impl<P: Policy> Engine<P> {
    pub(super) fn on_message(&mut self, flow: Flow, bytes: &[u8]) {
        let mut run = self.take_run();
        let scanned = run.head.scan(bytes, &self.settings.bounds.message);
        let message = Message::new(bytes, &run.head);
        if message.is_request() {
            self.counters.request(message.method());
            let fault = scanned.and_then(|()| check::request(message)).err();
            match fault {
                Some(fault) => self.on_malformed(message, flow, fault),
                None => return self.on_request(run, flow, bytes),
            }
        } else {
            match scanned.and_then(|()| check::response(message)) {
                Ok(()) => self.on_response(message, flow),
                Err(fault) => self.drop_malformed(flow, fault),
            }
        }
        self.put_run(run);
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
            self.respond_stateless(message, flow, fault.status(), fault.reason(), b"", false);
        }
        self.drop_malformed(flow, fault);
    }

    fn drop_malformed(&mut self, flow: Flow, fault: Fault) {
        self.counters.malformed = self.counters.malformed.wrapping_add(1);
        self.event(Event::Malformed { fault, source: flow.remote });
    }

    fn on_request(&mut self, run: Box<Run>, flow: Flow, bytes: &[u8]) {
        let message = Message::new(bytes, &run.head);
        let key =
            message.top_via().and_then(|via| ServerKey::of(message, &via, &self.settings.secret));
        let key = match key {
            Ok(key) => key,
            Err(fault) => {
                self.on_malformed(message, flow, fault);
                return self.put_run(run);
            }
        };
        match message.method() {
            Method::Ack => self.on_ack(message, key, flow),
            Method::Cancel => self.on_cancel(message, key, flow),
            _ => {
                if let Some(id) = self.keys.get(&key).copied() {
                    self.counters.absorbed = self.counters.absorbed.wrapping_add(1);
                    self.server_event(id, ServerEvent::Request, &[]);
                } else {
                    return self.on_new_request(run, flow, bytes, key);
                }
            }
        }
        self.put_run(run);
    }

    /// RFC 3261 16.3, 16.4, then the policy.
    fn on_new_request(&mut self, mut run: Box<Run>, flow: Flow, bytes: &[u8], key: ServerKey) {
        let message = Message::new(bytes, &run.head);
        if self.servers.len() >= self.settings.bounds.transactions {
            self.shed(message, flow);
            return self.put_run(run);
        }
        let trusted = self.settings.is_trusted(flow.remote.ip());
        let loop_hash = loops::hash(message, &self.settings.secret);
        let checked = validate(message, &self.settings, loop_hash)
            .and_then(|()| preprocess(message, &self.settings, trusted));
        run.bytes.extend_from_slice(bytes);
        run.flow = flow;
        run.now = self.now;
        run.seed = self.next_random();
        match checked {
            Ok(routing) => {
                run.traits = traits(run.message(), &self.settings, &routing, trusted);
                let incoming = Incoming { flow, key, routing, loop_hash, rounds: 0 };
                let version = self.policy.current();
                let (run, verdict) = self.run_policy(&version, Phase::Request, run);
                self.on_verdict(incoming, version, run, verdict);
            }
            Err(reject) => {
                let routing = Routing::default();
                let incoming = Incoming { flow, key, routing, loop_hash, rounds: 0 };
                self.reject(incoming, run, &reject);
            }
        }
    }

    /// Refuses a new request by the rules, before any policy is asked.
    fn reject(&mut self, incoming: Incoming, run: Box<Run>, reject: &Reject) {
        let version = self.policy.current();
        self.answer(incoming, version, None, run, reject.status, reject.reason, &reject.headers);
    }

    /// Over the bound: 503 without state (RFC 3261 21.5.4). The one case in which an INVITE is
    /// answered statelessly (R-N1).
    fn shed(&mut self, message: Message<'_>, flow: Flow) {
        self.counters.shed = self.counters.shed.wrapping_add(1);
        let headers = b"Retry-After: 10\r\n";
        self.respond_stateless(message, flow, 503, "Service Unavailable", headers, false);
    }
}

/// The yes-or-no facts of a request.
fn traits(
    message: Message<'_>,
    settings: &crate::settings::Settings,
    routing: &Routing,
    trusted: bool,
) -> Traits {
    let text = routing.request_uri.as_deref().unwrap_or(message.request_uri());
    let uri = viaduct_message::Uri::parse(text).ok();
    let uri_is_ours = uri.as_ref().is_some_and(|uri| settings.is_ours(uri));
    let in_dialog = message.to().is_ok_and(|to| to.tag().is_some());
    let from = message.from().and_then(|from| from.parse_uri());
    Traits {
        in_dialog,
        loose_routed: routing.removed > 0 || routing.drop_last,
        preloaded_route: !in_dialog && routing.more_routes,
        uri_is_ours,
        uri_is_router: uri_is_ours && uri.is_some_and(|uri| uri.user.is_none()),
        from_is_ours: from.is_ok_and(|from| settings.is_ours(&from)),
        trusted,
        first_hop: message.values(HeaderName::Via).nth(1).is_none(),
        has_path: message.line(HeaderName::Path).is_some(),
        supports_path: message.has_option(HeaderName::Supported, b"path"),
        has_body: !message.body().is_empty(),
        by_received: routing.received.is_some(),
    }
}
