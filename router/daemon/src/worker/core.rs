//! The engine of a worker and what its outputs become: messages into the send batch, commits to the
//! location service, names to the resolver, events to whoever counts and shows.

use std::sync::Arc;
use std::time::Instant;

use viaduct_engine::dispatcher::Prober;
use viaduct_engine::{
    Change, CommitFault, ConnId, Engine, Event, Fact, Flow, Input, Now, Output, Query, QueryFault,
    Token, Transport, shard,
};
use viaduct_location::LocationService;
use viaduct_media::ng::NgRelay;
use viaduct_message::framing::{Datagram, datagram};
use viaduct_message::{Fault, stun};
use viaduct_policy::PolicyHost;
use viaduct_policy::record::Session;
use viaduct_transport::SendBatch;

use super::mail::{Address, Mail, Streams};
use super::pings::Pings;
use crate::credentials::Users;
use crate::http::HttpClient;
use crate::metrics::{Counter, Gauge, WorkerStats};
use crate::packets::Offences;
use crate::resolve::Resolver;

/// Two clocks read together: the timers' and the calendar's.
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// Counts from now.
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    /// The moment.
    pub(crate) fn now(&self) -> Now {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Now {
            mono_us: self.start.elapsed().as_micros() as u64,
            unix_ms: unix.unwrap_or_default().as_millis() as u64,
        }
    }
}

/// What a worker reaches outside of itself.
pub(crate) struct Surroundings {
    pub(crate) index: u8,
    /// All workers' addresses, this one's own included.
    pub(crate) workers: Arc<[Address]>,
    pub(crate) location: Arc<LocationService>,
    pub(crate) resolver: Resolver,
    /// Who answers questions about users; `None`: nobody is to be authenticated.
    pub(crate) users: Option<Arc<Users>>,
    /// Who sends HTTP requests.
    pub(crate) http: HttpClient,
    /// Who asks media nodes; `None`: media are not relayed elsewhere.
    pub(crate) nodes: Option<Arc<NgRelay>>,
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) streams: Arc<Streams>,
    /// Where events go: logs, and people who watch.
    pub(crate) events: crossbeam_channel::Sender<Event>,
    /// Who hears of sources that misbehave, where somebody can keep them out.
    pub(crate) offences: Option<Offences>,
}

/// Engine, send batch and surroundings.
pub(crate) struct Core {
    pub(crate) engine: Engine<PolicyHost>,
    pub(crate) send: SendBatch,
    pub(crate) around: Surroundings,
    pub(crate) now: Now,
    /// When the engine wants its next tick.
    pub(crate) deadline_us: Option<u64>,
    /// Keep-alives, where there are any.
    pub(crate) pings: Option<Pings>,
    /// Probes of destinations, on one worker.
    pub(crate) prober: Option<Prober>,
    /// Who is shown the messages that pass, while that is wanted.
    pub(crate) tap: Option<Arc<Session>>,
    /// Commits that were decided at once, to be told when the engine has been drained.
    decided: Vec<(Token, Result<(), CommitFault>)>,
}

impl Core {
    pub(crate) fn new(
        engine: Engine<PolicyHost>,
        around: Surroundings,
        pings: Option<Pings>,
        now: Now,
    ) -> Core {
        let (send, decided) = (SendBatch::new(), Vec::new());
        Core {
            engine,
            send,
            around,
            now,
            deadline_us: None,
            pings,
            prober: None,
            tap: None,
            decided,
        }
    }

    /// One datagram: keep-alives go nowhere, another worker's message goes to it.
    pub(crate) fn datagram(&mut self, flow: Flow, bytes: &[u8]) {
        match datagram(bytes) {
            Datagram::Message(message) => self.message(flow, message),
            Datagram::KeepAlive => {}
            Datagram::Stun(request) => {
                // The answer is no larger than twice the request, and goes to where that came from.
                if stun::answer(request, flow.remote, self.send.buffer()) {
                    self.send.commit(flow, Token::default());
                }
            }
        }
    }

    /// One message of any transport.
    pub(crate) fn message(&mut self, flow: Flow, bytes: &[u8]) {
        let workers = self.around.workers.len() as u8;
        let owner = shard::owner(bytes, workers).unwrap_or(self.around.index);
        if owner == self.around.index {
            return self.own_message(flow, bytes);
        }
        let mail = Mail::Message { flow, bytes: bytes.into() };
        let posted = self.around.workers.get(usize::from(owner)).is_some_and(|w| w.post(mail));
        let counter = if posted { Counter::HandedOver } else { Counter::HandOverDropped };
        self.around.stats.add(counter, 1);
    }

    /// A message of this worker's own.
    pub(crate) fn own_message(&mut self, flow: Flow, bytes: &[u8]) {
        self.around.stats.received(bytes);
        if self.tap.is_some() {
            self.show(true, flow, bytes);
        }
        self.input(Input::Message { flow, bytes });
    }

    /// A datagram that came back; the worker that sent it is told.
    pub(crate) fn undelivered(&mut self, flow: Flow, bytes: &[u8]) {
        let workers = self.around.workers.len() as u8;
        let Some(sender) = shard::sender(bytes, workers) else { return };
        if sender == self.around.index {
            return self.input(Input::Undelivered { flow, bytes });
        }
        let mail = Mail::Undelivered { flow, bytes: bytes.into() };
        if let Some(sender) = self.around.workers.get(usize::from(sender)) {
            // Where it does not get there, the timers of the branch tell.
            sender.post(mail);
        }
    }

    /// A stream that cannot be framed any more: 400 where its head says whom to tell.
    pub(crate) fn broken_stream(&mut self, flow: Flow, bytes: &[u8], fault: Fault) {
        self.input(Input::Broken { flow, bytes, fault });
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        if self.deadline_us.is_some_and(|deadline| deadline <= self.now.mono_us) {
            self.input(Input::Tick);
        }
    }

    /// Something could not be sent; whoever asked is told.
    pub(crate) fn send_failed(&mut self, token: Token) {
        if token != Token::default() {
            self.input(Input::SendFailed { token });
        }
    }

    /// One input, and all that comes of it.
    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(self.now, input);
        loop {
            match self.engine.poll_output(self.send.buffer()) {
                Output::Transmit { flow, token, may_open } => self.transmit(flow, token, may_open),
                Output::Commit { token, changes } => self.commit(token, changes),
                Output::Resolve { token, question } => {
                    let me = self.around.workers.get(usize::from(self.around.index));
                    if let Some(me) = me.cloned() {
                        self.around.resolver.ask(me, token, question);
                    }
                }
                Output::Pong { id, status } => self.pong(id, status),
                Output::Ask { token, query } => self.ask(token, query),
                Output::Event(event) => self.event(event),
                Output::Idle { deadline_us } => {
                    self.deadline_us = deadline_us;
                    // What was decided without the store goes on at once.
                    let Some((token, result)) = self.decided.pop() else { return };
                    self.around.stats.committed(&result, 0);
                    self.engine.handle_input(self.now, Input::Committed { token, result });
                }
            }
        }
    }

    /// Shows a message to whoever traces. A recording that is over is shown nothing.
    #[cold]
    fn show(&self, came: bool, flow: Flow, bytes: &[u8]) {
        if let Some(tap) = &self.tap {
            tap.passed(came, flow, bytes, self.now.unix_ms, self.now.mono_us);
        }
    }

    /// Makes the bytes just written a message to send, by this worker or by the one that owns the
    /// connection.
    fn transmit(&mut self, mut flow: Flow, token: Token, may_open: bool) {
        self.around.stats.sent(self.send.uncommitted());
        if self.tap.is_some() {
            self.show(false, flow, self.send.uncommitted());
        }
        if flow.transport == Transport::Udp {
            return self.send.commit(flow, token);
        }
        if flow.conn == ConnId::NONE {
            // A connection with that very address and port, whoever opened it: phones on TCP name
            // the port they speak from in Contact. Nobody else can have it, unlike the port of a
            // Via, whose reuse RFC 5923 binds to an identity.
            match self.around.streams.find(flow.remote) {
                Some(conn) => flow.conn = conn,
                None if may_open => return self.send.commit(flow, token),
                None => return self.unsendable(token),
            }
        }
        let owner = flow.conn.worker();
        if owner == self.around.index {
            return self.send.commit(flow, token);
        }
        let bytes = self.send.uncommitted().into();
        self.send.abandon();
        let mail = Mail::Send { flow, bytes, token, from: self.around.index };
        let posted = self.around.workers.get(usize::from(owner)).is_some_and(|w| w.post(mail));
        if !posted {
            self.around.stats.add(Counter::HandOverDropped, 1);
            self.unsendable(token);
        }
    }

    /// No connection to send over, and none may be opened (R-P9). The engine is told by mail, as it
    /// takes no input before its outputs are drained.
    fn unsendable(&mut self, token: Token) {
        self.send.abandon();
        if let Some(me) = self.around.workers.get(usize::from(self.around.index)) {
            me.post_surely(Mail::SendFailed { token });
        }
    }

    fn commit(&mut self, token: Token, changes: Vec<Change>) {
        self.around.streams.bind(&changes);
        let since_us = self.now.mono_us;
        let me = self.around.workers.get(usize::from(self.around.index));
        let Some(me) = me else { return };
        let decided = self.around.location.commit_or_queue(changes, || {
            let me = me.clone();
            Box::new(move |result| {
                me.post_surely(Mail::Committed { token, result, since_us });
            })
        });
        self.decided.extend(decided.map(|result| (token, result)));
    }

    fn ask(&mut self, token: Token, query: Query) {
        let me = self.around.workers.get(usize::from(self.around.index));
        let Some(me) = me.cloned() else { return };
        let around = &self.around;
        match (query, &around.users, &around.nodes) {
            (Query::Http(request), ..) => around.http.answer(me, token, request),
            (Query::Credentials(account), Some(users), _) => {
                users.answer(me, token, account, self.now.unix_ms);
            }
            (Query::Media(order), _, Some(nodes)) => {
                let tell = move |result| Mail::Answered { token, result: Ok(Fact::Media(result)) };
                nodes.answer(
                    &order,
                    Box::new(move |result| {
                        me.post_surely(tell(result));
                    }),
                );
            }
            (Query::MediaCall(dialog), _, Some(nodes)) => {
                let about = Arc::clone(&dialog);
                let tell =
                    move |call| Mail::Answered { token, result: Ok(Fact::MediaCall(about, call)) };
                nodes.answer_call(
                    &dialog,
                    Box::new(move |call| {
                        me.post_surely(tell(call));
                    }),
                );
            }
            (Query::Credentials(_), None, _) | (Query::Media(_) | Query::MediaCall(_), _, None) => {
                let result = Err(QueryFault::Unavailable);
                me.post_surely(Mail::Answered { token, result });
            }
        }
    }

    fn event(&mut self, event: Event) {
        self.around.stats.event(&event);
        if let Event::Malformed { source, .. } | Event::AuthRefused { source, .. } = &event
            && let Some(offences) = &self.around.offences
        {
            offences.report(source.ip());
        }
        if matches!(event, Event::PolicyCount { .. }) {
            return; // counted; there is nothing to show
        }
        if self.around.events.try_send(event).is_err() {
            self.around.stats.add(Counter::EventsDropped, 1);
        }
    }

    /// Gauges and counters for who scrapes; a few stores a turn.
    pub(crate) fn publish(&mut self, connections: usize) {
        let stats = &self.around.stats;
        stats.set(Gauge::Transactions, self.engine.transactions() as u64);
        stats.set(Gauge::Connections, connections as u64);
        stats.take_held(&self.engine.held());
        stats.take_counters(self.engine.counters());
    }
}
