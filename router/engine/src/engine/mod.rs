//! The engine itself: one door in ([`Engine::handle_input`]), one door out
//! ([`Engine::poll_output`]).
//!
//! After each input the shell polls until it is told [`Output::Idle`]; a debug assertion holds it
//! to that. One engine belongs to one worker and owns all its transactions.
//!
//! The files follow one message: `inbound` (a request comes in), `gate` and `admission` (is there room
//! for it), `decide` (the policy and its verdict), `fork` (branches go out), `downstream` (responses
//! come back), `respond` (answers go out), `due` (timers), `cancel`, `stray` (requests forwarded without
//! state), `parked` (responses that wait for a commit), `ping` (keep-alives), `taken_back`
//! (REGISTERs that came too late), `media` (orders about media), `media_wait` (messages that wait for a
//! media relay elsewhere).

mod admission;
mod ask;
mod cancel;
mod client;
mod decide;
mod downstream;
mod due;
mod fork;
mod gate;
mod ids;
mod inbound;
mod media;
mod media_wait;
mod parked;
mod ping;
mod respond;
mod server;
mod stray;
mod taken_back;

use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;
use viaduct_message::Edits;

use crate::counters::Counters;
use crate::flow::{ConnId, Flow, Transport};
use crate::hook::Policy;
use crate::io::{Event, Input, Output};
use crate::location::Location;
use crate::outbox::Outbox;
use crate::run::{Run, Traits};
use crate::settings::Settings;
use crate::time::Now;
use crate::timer::Timers;
use crate::transaction::ServerKey;

pub use self::gate::begins_new;
use admission::Admission;
use client::Client;
use ids::{Id, Ticket};
use ping::WaitingPing;
use server::Server;
use stray::Stray;
use taken_back::TakenBack;

/// Runs kept for reuse: more than one only where a reply route runs inside a request's handling.
const SPARE_RUNS: usize = 4;

/// Transactions room is reserved for; tables with a higher bound grow when they pass it.
const MOST_RESERVED: usize = 1 << 20;

/// What an engine holds that grows with what peers send, transactions aside; for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Requests without state that wait for a name.
    pub strays: usize,
    /// Pings that wait for a name.
    pub pings: usize,
    /// REGISTERs that took bindings back, and are remembered for that.
    pub taken_back: usize,
    /// Sources that have transactions.
    pub sources: usize,
    /// Most outputs of one input so far.
    pub outputs: usize,
}

/// The SIP core of one worker.
pub struct Engine<P: Policy> {
    settings: Arc<Settings>,
    location: Arc<dyn Location>,
    policy: P,
    now: Now,
    random: u64,
    generation: u32,
    servers: Slab<Server<P::Version>>,
    clients: Slab<Client>,
    strays: Slab<Stray>,
    pings: Slab<WaitingPing>,
    /// Server transactions by their key (RFC 3261 17.2.3). Client transactions need no index: their
    /// slot is in the branch we wrote.
    keys: HashMap<ServerKey, Id, ahash::RandomState>,
    timers: Timers<u32>,
    taken_back: TakenBack,
    out: Outbox,
    // Boxed, as a run is handed to the policy and back: moving a pointer is cheaper.
    #[allow(clippy::vec_box)]
    runs: Vec<Box<Run>>,
    edits: Edits,
    scratch: Vec<u8>,
    /// Held by each request that waits for an answer: counts them.
    asking: Arc<()>,
    admission: Admission,
    counters: Counters,
    drained: bool,
}

impl<P: Policy> Engine<P> {
    /// An engine without transactions. `seed` makes its random numbers: two engines with the same
    /// seed and the same inputs do the same.
    pub fn new(
        settings: Arc<Settings>,
        location: Arc<dyn Location>,
        policy: P,
        seed: u64,
    ) -> Engine<P> {
        // Room for all from the start: growing would copy hundreds of megabytes between two
        // messages. What is not used yet is address space only.
        let most = settings.bounds.transactions.min(MOST_RESERVED);
        // Keys are keyed hashes already (`ServerKey`); the table's own hasher needs no secret.
        let hasher = ahash::RandomState::with_seeds(seed, 1, 2, 3);
        Engine {
            settings,
            location,
            policy,
            now: Now::default(),
            random: seed,
            generation: 0,
            servers: Slab::with_capacity(most),
            clients: Slab::with_capacity(most),
            strays: Slab::new(),
            pings: Slab::new(),
            keys: HashMap::with_capacity_and_hasher(most, hasher),
            timers: Timers::new(),
            taken_back: TakenBack::default(),
            out: Outbox::default(),
            runs: Vec::new(),
            edits: Edits::new(),
            scratch: Vec::new(),
            asking: Arc::new(()),
            admission: Admission::new(seed),
            counters: Counters::default(),
            drained: true,
        }
    }

    /// Takes one input. `now` may not go back. Poll all outputs before the next one.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) {
        debug_assert!(self.drained, "outputs of the last input were not polled");
        self.drained = false;
        self.now = now;
        match input {
            Input::Message { flow, bytes } => self.on_message(flow, bytes),
            Input::Broken { flow, bytes, fault } => self.on_broken(flow, bytes, fault),
            Input::Tick => self.on_tick(),
            Input::Committed { token, result } => self.on_committed(token, result),
            Input::Answered { token, result } => self.on_answered(token, result),
            Input::Resolved { token, hops } => self.on_resolved(token, hops),
            Input::Ping(ping) => self.on_ping(ping),
            Input::SendFailed { token } => self.on_send_failed(token),
            Input::Undelivered { flow, bytes } => self.on_undelivered(flow, bytes),
        }
    }

    /// Gives the next output; bytes of a transmit are appended to `buffer`. [`Output::Idle`] ends
    /// it.
    pub fn poll_output(&mut self, buffer: &mut Vec<u8>) -> Output {
        if let Some(output) = self.out.pop(buffer) {
            return output;
        }
        self.drained = true;
        Output::Idle { deadline_us: self.timers.next_deadline_us() }
    }

    /// New settings, from the next input on. Transactions under way go on.
    pub fn reconfigure(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Transactions under way, server and client.
    pub fn transactions(&self) -> usize {
        self.servers.len().saturating_add(self.clients.len())
    }

    /// What is held besides transactions.
    pub fn held(&self) -> Held {
        Held {
            strays: self.strays.len(),
            pings: self.pings.len(),
            taken_back: self.taken_back.len(),
            sources: self.admission.sources(),
            outputs: self.out.most(),
        }
    }

    /// Server transactions that have not given their final answer: what a drain waits for.
    pub fn unanswered(&self) -> usize {
        self.servers.iter().filter(|(_, server)| !server.finished).count()
    }

    /// The policy host.
    pub fn policy_mut(&mut self) -> &mut P {
        &mut self.policy
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// SplitMix64: spreads, and is not meant to be secret.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A run to fill: its buffers are reused, so usual messages cost no allocation.
    fn take_run(&mut self) -> Box<Run> {
        let mut run = self.runs.pop().unwrap_or_else(|| {
            let any = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
            let flow =
                Flow { transport: Transport::Udp, local: any, remote: any, conn: ConnId::NONE };
            Box::new(Run::new(Arc::clone(&self.settings), Arc::clone(&self.location), flow))
        });
        if !Arc::ptr_eq(&run.settings, &self.settings) {
            run.settings = Arc::clone(&self.settings);
        }
        run
    }

    fn put_run(&mut self, mut run: Box<Run>) {
        if self.runs.len() < SPARE_RUNS {
            run.bytes.clear();
            run.effects.clear();
            run.vars.clear();
            run.facts.clear();
            run.asked = None;
            run.taken = None;
            run.fix_nat = false;
            run.attributes.clear();
            run.original = None;
            run.reading = None;
            run.traits = Traits::default();
            run.status = 0;
            self.runs.push(run);
        }
    }

    fn event(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    fn server(&mut self, id: Id) -> Option<&mut Server<P::Version>> {
        self.servers.get_mut(id.slot as usize).filter(|server| id.is(server.generation))
    }

    fn client(&mut self, id: Id) -> Option<&mut Client> {
        self.clients.get_mut(id.slot as usize).filter(|client| id.is(client.generation))
    }

    fn remove_server(&mut self, id: Id) {
        if self.server(id).is_some() {
            let server = self.servers.remove(id.slot as usize);
            self.keys.remove(&server.key);
            self.admission.closed(server.flow.remote.ip());
            if server.media.is_some() {
                self.settle_media(server.media, 0);
            }
        }
    }

    fn remove_client(&mut self, id: Id) {
        if self.client(id).is_some() {
            self.clients.remove(id.slot as usize);
        }
    }

    /// A stream could not be opened or written.
    fn on_send_failed(&mut self, token: crate::io::Token) {
        match Ticket::of(token) {
            Some(Ticket::Client(id)) => self.client_event(id, client::ClientEvent::TransportError),
            Some(Ticket::Server(id)) => self.on_response_lost(id),
            _ => {}
        }
    }
}
