//! One run of a policy: what it sees and what it stages.
//!
//! Everything a host function may do is a method of [`Run`]; the WebAssembly host only translates.
//! [`effects`] lists what can be staged, the other files hold the methods by subject.

mod auth;
mod dispatcher;
mod edits;
pub mod effects;
mod http;
mod media;
mod nat;
mod path;
mod replay;
mod table;
mod usrloc;

pub use dispatcher::{SelectBy, SelectFault};
pub use edits::ReplyLines;
pub use effects::{
    AddPathMode, EditFault, Effects, HeaderEdit, PathRefusal, StagedPath, StagedReply,
};
pub(crate) use media::tags_of;
pub use media::{MediaAsk, MediaRefusal};
pub use table::Guarded;

pub use replay::{AuthWitness, HttpWitness, RunInputs, Witness};

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use viaduct_message::{ContactPlace, Head, Message, Method, UriPlace};

use crate::flow::{Flow, Transport};
use crate::hook::Phase;
use crate::location::Location;
use crate::query::{Fact, Query};
use crate::settings::Settings;
use crate::time::Now;

/// Yes-or-no facts about a request that policies branch on, computed by the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// To has a tag: the request belongs to a dialog.
    pub in_dialog: bool,
    /// A Route of ours was removed: the rest of the Route set says where it goes.
    pub loose_routed: bool,
    /// Not in a dialog, and Route values of others are left (R-G2).
    pub preloaded_route: bool,
    /// Request-URI is in one of our domains, or names one of our addresses.
    pub uri_is_ours: bool,
    /// Request-URI is ours and has no user: it is meant for the router itself.
    pub uri_is_router: bool,
    /// From's host is one of our domains.
    pub from_is_ours: bool,
    /// The source is a configured trusted peer.
    pub trusted: bool,
    /// One Via: the sender is the UA itself.
    pub first_hop: bool,
    /// Has a Path header.
    pub has_path: bool,
    /// `Supported: path`.
    pub supports_path: bool,
    /// Has a body.
    pub has_body: bool,
    /// The removed Route of ours carried a genuine `received`, or the token of another flow than
    /// the request came by: the next hop is set from it.
    pub by_received: bool,
    /// What [`Run::is_behind_nat`] says, where it was found out on the way: of a REGISTER.
    pub behind_nat: Option<bool>,
}

/// What reading a REGISTER has found and `save` needs, as places in the run's message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// The URI in To.
    pub(crate) to: UriPlace,
    /// The Contact, where there is one alone.
    pub(crate) contact: Option<ContactPlace>,
}

/// The request a response in phase reply belongs to.
pub(crate) struct Original {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) head: Head,
    pub(crate) flow: Flow,
    pub(crate) trusted: bool,
}

impl Original {
    fn message(&self) -> Message<'_> {
        Message::new(&self.bytes, &self.head)
    }
}

/// One run.
pub struct Run {
    pub(crate) bytes: Vec<u8>,
    pub(crate) head: Head,
    pub(crate) settings: Arc<Settings>,
    pub(crate) location: Arc<dyn Location>,
    pub(crate) flow: Flow,
    pub(crate) now: Now,
    pub(crate) seed: u64,
    pub(crate) traits: Traits,
    /// In phase request of a REGISTER that has just come in; else it is read anew.
    pub(crate) reading: Option<Reading>,
    pub(crate) phase: Phase,
    /// In phase reply: the REGISTER, for `save`.
    pub(crate) original: Option<Box<Original>>,
    pub(crate) fix_nat: bool,
    /// Of bindings: to be stored by `save`; in phase branch, of the one it goes to.
    pub(crate) attributes: Vec<u8>,
    /// Best final status, in phase failure.
    pub(crate) status: u16,
    /// Names of location tables in use, kept from message to message.
    pub(crate) tables: SmallVec<[Arc<str>; 2]>,
    /// Variables of the transaction, kept from phase to phase.
    pub(crate) vars: Vec<(Box<str>, Box<str>)>,
    /// Answers to what earlier runs of this request have asked.
    pub(crate) facts: Vec<Fact>,
    /// What this run needs and memory does not have.
    pub(crate) asked: Option<Query>,
    /// The nonce this request has used.
    pub(crate) taken: Option<auth::Taken>,
    /// Nothing it decides takes effect: it uses no nonce either.
    pub(crate) rehearsal: bool,
    /// Notes what the run is told, where it is recorded.
    pub(crate) witness: Option<Box<Witness>>,
    /// What is staged.
    pub effects: Effects,
}

impl Run {
    /// The message the phase is about: the request, or in phase reply the response.
    pub fn message(&self) -> Message<'_> {
        Message::new(&self.bytes, &self.head)
    }
    /// Method of the request.
    pub fn method(&self) -> Method {
        self.message().method()
    }
    /// Status of the response, in phase reply; the best final status, in phase failure; else 0.
    pub fn status(&self) -> u16 {
        if self.status == 0 { self.message().status() } else { self.status }
    }
    /// Facts.
    pub fn traits(&self) -> Traits {
        self.traits
    }
    /// How the message came.
    pub fn flow(&self) -> Flow {
        self.flow
    }
    /// Transport it came by.
    pub fn transport(&self) -> Transport {
        self.flow.transport
    }
    /// Where it came from.
    pub fn source(&self) -> SocketAddr {
        self.flow.remote
    }
    /// Time.
    pub fn now(&self) -> Now {
        self.now
    }
    /// Random number of this run.
    pub fn seed(&self) -> u64 {
        self.seed
    }
    /// Is this host name one of our domains?
    pub fn is_our_domain(&self, host: &str) -> bool {
        self.settings.is_our_domain(host.as_bytes())
    }
    /// A variable of the transaction.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.iter().find(|(n, _)| &**n == name).map(|(_, v)| &**v)
    }
    /// Forgets what was staged: the run has failed, and may be tried by another version.
    pub fn discard(&mut self) {
        self.effects.clear();
        self.fix_nat = false;
        self.attributes.clear();
        self.asked = None;
    }
    /// Answer to the source port in any case.
    pub fn force_rport(&mut self) {
        self.effects.force_rport = true;
    }
    /// Let `save` store where the REGISTER came from, and leave Contact alone.
    pub fn fix_nat_register(&mut self) {
        self.fix_nat = true;
    }
    /// Stages a Record-Route.
    pub fn record_route(&mut self) {
        self.effects.record_route = true;
    }
    /// Stages a Record-Route that names the flow of the caller, of the callee, or of both: later
    /// requests of the dialog reach that side over that flow and no other (RFC 5626 5.3). The
    /// callee's is named where the branch goes straight to a phone: over the flow it registered, or
    /// where a signed `received` or flow token says it is.
    /// False, and nothing staged, where there is no key to sign it with.
    pub fn record_route_flows(&mut self, caller: bool, callee: bool) -> bool {
        if self.settings.path_keys.is_empty() {
            return false;
        }
        self.effects.record_route = true;
        self.effects.caller_flow |= caller;
        self.effects.callee_flow |= callee;
        true
    }
    /// Stages a log line of at most 1 KiB; the 33rd and later ones of a run are dropped.
    pub fn log(&mut self, level: u8, text: &str) {
        const LINES: usize = 32;
        const LINE_BYTES: usize = 1024;
        if self.effects.logs.len() < LINES {
            let end = text.floor_char_boundary(LINE_BYTES);
            let text = text.get(..end).unwrap_or_default();
            // One line stays one line: whoever reads the log must not be fooled by a guest.
            let text = text.replace(|c: char| c.is_control(), " ");
            self.effects.logs.push((level.min(4), text));
        }
    }
    /// Stages an addition to a counter; the 33rd and later ones of a run are dropped.
    pub fn count(&mut self, name: &str, by: u64) {
        const COUNTS: usize = 32;
        const NAME_BYTES: usize = 64;
        if self.effects.counters.len() < COUNTS && name.len() <= NAME_BYTES {
            self.effects.counters.push((name.to_owned(), by));
        }
    }
}

impl Run {
    /// A run outside an engine, for tests of hosts: `bytes` must scan.
    pub fn for_tests(
        settings: Arc<Settings>,
        location: Arc<dyn Location>,
        flow: Flow,
        now: Now,
        bytes: &[u8],
    ) -> Result<Box<Run>, viaduct_message::Fault> {
        let mut run = Run::new(settings, location, flow);
        run.head.scan(bytes, &run.settings.bounds.message)?;
        run.bytes.extend_from_slice(bytes);
        run.now = now;
        Ok(Box::new(run))
    }

    /// In a run for tests: what was asked and answered before it.
    pub fn know(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// In a run for tests: the phase, which an engine sets itself.
    pub fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// A copy with nothing staged, for a policy whose decision will not take effect.
    #[must_use]
    pub fn rehearsal(&self) -> Box<Run> {
        let location = Arc::clone(&self.location);
        let mut copy = Run::new(Arc::clone(&self.settings), location, self.flow);
        copy.bytes.clone_from(&self.bytes);
        // It was scanned before with these bounds, so it scans again.
        let _ = copy.head.scan(&copy.bytes, &self.settings.bounds.message);
        copy.now = self.now;
        copy.seed = self.seed;
        copy.traits = self.traits;
        copy.phase = self.phase;
        copy.original = self.original.as_ref().and_then(|original| {
            let mut head = Head::new();
            head.scan(&original.bytes, &self.settings.bounds.message).ok()?;
            let bytes = original.bytes.clone();
            Some(Box::new(Original { bytes, head, ..**original }))
        });
        copy.status = self.status;
        copy.vars.clone_from(&self.vars);
        copy.facts.clone_from(&self.facts);
        copy.attributes.clone_from(&self.attributes);
        copy.taken = self.taken;
        copy.rehearsal = true;
        Box::new(copy)
    }

    /// An empty run, to be filled for each message.
    pub(crate) fn new(settings: Arc<Settings>, location: Arc<dyn Location>, flow: Flow) -> Run {
        Run {
            bytes: Vec::new(),
            head: Head::new(),
            settings,
            location,
            flow,
            now: Now::default(),
            seed: 0,
            traits: Traits::default(),
            reading: None,
            phase: Phase::Request,
            original: None,
            fix_nat: false,
            attributes: Vec::new(),
            status: 0,
            tables: SmallVec::new(),
            vars: Vec::new(),
            facts: Vec::new(),
            asked: None,
            taken: None,
            rehearsal: false,
            witness: None,
            effects: Effects::default(),
        }
    }
}
