//! The client of the ng protocol, without a socket or a clock: commands and datagrams go in,
//! datagrams and outcomes come out.
//!
//! A command is a cookie, a space, and a dictionary. It is sent again with the same cookie until its
//! answer comes, and a node that has seen the cookie gives the answer it gave before. A cookie is a
//! random number, and an answer counts only where it comes from the node that was asked: nobody who
//! cannot see the commands can answer them.
//!
//! A node that does not answer in time is left out, and pinged until it is back. A command for a new
//! call then goes to the next node; all others are for the node that has the call. One command that
//! gets no answer is no proof: its datagram may be too large for the network, and whoever sends large
//! descriptions must not take nodes away from others. So a ping goes with the second try, and a node
//! that has answered anything meanwhile is up.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;

use super::bencode::{Dict, MOST_BYTES, Value};
use super::nodes::{NodeConfig, NodeState, Nodes};
use crate::service::Draw;

/// Commands under way at a time; more are refused as busy.
pub const MOST_COMMANDS: usize = 20_000;
/// Commands nobody waits for any more whose late answer would have to be undone.
const MOST_LATE: usize = 4_096;
/// Octets of a cookie and the space behind it.
const COOKIE: usize = 17;
/// How long such an answer is reckoned with, milliseconds.
const LATE_MS: u64 = 30_000;
/// Longest reason of a node that is told on, characters.
const MOST_REASON: usize = 200;

/// How nodes are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// At least one.
    pub nodes: Vec<NodeConfig>,
    /// A command without an answer is sent again after so many milliseconds.
    pub timeout_ms: u64,
    /// So often; then its node is down.
    pub retries: u32,
    /// A node that is down is left out for so many milliseconds, then pinged, and so on.
    pub down_ms: u64,
}

/// Which node a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Of a new call: for the node that its Call-ID says, or the next one.
    Any,
    /// For that one only.
    Node(usize),
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Names it in [`Output::Done`]; 0: nobody wants to know.
    pub ticket: u64,
    /// Who gets it.
    pub route: Route,
    /// Call-ID: what [`Route::Any`] goes by.
    pub call_id: Box<[u8]>,
    /// What is said, without the cookie.
    pub text: Vec<u8>,
    /// What is said to a node that takes it when it has gone elsewhere already; empty: nothing.
    pub undo: Vec<u8>,
}

/// Why a command came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Its node, or every node, does not answer.
    #[error("no media node answers")]
    Silent,
    /// Too many commands are under way.
    #[error("too many commands to media nodes")]
    Busy,
    /// It does not fit a datagram.
    #[error("too large for a media node")]
    TooLarge,
    /// A node takes no more calls, and there is no other.
    #[error("the media nodes are full")]
    Full,
    /// The node said no.
    #[error("{0}")]
    Refused(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram.
    Send {
        /// To this node.
        to: SocketAddr,
        /// The whole of it.
        bytes: Vec<u8>,
    },
    /// A command has ended.
    Done {
        /// From [`Command`].
        ticket: u64,
        /// The node that answered, or was asked last.
        node: Option<usize>,
        /// Its answer.
        result: Result<Dict, Failure>,
    },
    /// A node has gone down, or come back.
    Turned {
        /// Which.
        node: usize,
        /// It is up.
        up: bool,
    },
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands, pings left out.
    pub commands: u64,
    /// Datagrams that were sent again.
    pub resent: u64,
    /// Commands a node did not answer in time.
    pub timeouts: u64,
    /// Commands that went to another node.
    pub moved: u64,
    /// Answers that came too late, or twice.
    pub late: u64,
    /// Datagrams that are no answer to anything, or from somebody else.
    pub stray: u64,
    /// Answers that cannot be read.
    pub malformed: u64,
}

/// A command under way.
struct Waiting {
    command: Command,
    node: usize,
    tried: Vec<usize>,
    sent: u32,
    begun_ms: u64,
    due_ms: u64,
    /// Nobody's: it only asks whether the node lives.
    is_ping: bool,
    /// A node has said that it is full.
    full: bool,
}

struct Late {
    node: usize,
    call_id: Box<[u8]>,
    undo: Vec<u8>,
    until_ms: u64,
}

/// All commands and nodes.
pub struct Client {
    config: ClientConfig,
    nodes: Nodes,
    waiting: HashMap<u64, Waiting>,
    /// When what is due, and the cookie it is about.
    due: BTreeSet<(u64, u64)>,
    late: HashMap<u64, Late>,
    /// Their cookies, the oldest first.
    late_order: VecDeque<u64>,
    draw: Draw,
    outputs: VecDeque<Output>,
    counts: Counts,
}

impl Client {
    /// Nothing under way, all nodes up. `draw` gives numbers nobody can foresee.
    #[must_use]
    pub fn new(config: ClientConfig, draw: Draw) -> Client {
        Client {
            nodes: Nodes::new(&config.nodes),
            config,
            waiting: HashMap::new(),
            due: BTreeSet::new(),
            late: HashMap::new(),
            late_order: VecDeque::new(),
            draw,
            outputs: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a command. [`Output::Done`] tells how it ended, in every case and once.
    pub fn submit(&mut self, now_ms: u64, command: Command) {
        self.counts.commands += 1;
        if self.waiting.len() >= MOST_COMMANDS {
            return self.done(command.ticket, None, Err(Failure::Busy));
        }
        if command.text.len() + COOKIE > MOST_BYTES {
            return self.done(command.ticket, None, Err(Failure::TooLarge));
        }
        let node = match command.route {
            Route::Any => self.nodes.choose(&command.call_id, &[]),
            Route::Node(node) => Some(node).filter(|node| *node < self.nodes.0.len()),
        };
        match node {
            Some(node) => self.begin(now_ms, node, command, Vec::new(), false),
            None => self.done(command.ticket, None, Err(Failure::Silent)),
        }
    }

    /// Takes a datagram that came.
    pub fn datagram(&mut self, now_ms: u64, from: SocketAddr, bytes: &[u8]) {
        let Some((cookie, text)) = split(bytes) else {
            self.counts.stray += 1;
            return;
        };
        let asked = self.waiting.get(&cookie).map(|waiting| waiting.node);
        let late = self.late.get(&cookie).map(|late| late.node);
        let Some(node) = asked.or(late).filter(|node| self.address(*node) == Some(from)) else {
            self.counts.stray += 1;
            return;
        };
        let Ok(Value::Dict(answer)) = Value::read(text) else {
            // It is asked again, and perhaps says something better then.
            self.counts.malformed += 1;
            return;
        };
        self.heard(now_ms, node);
        match asked {
            Some(_) => self.answered(now_ms, cookie, answer),
            None => self.answered_late(now_ms, cookie, &answer),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        while let Some(&(due_ms, cookie)) = self.due.first() {
            if due_ms > now_ms {
                break;
            }
            self.due.pop_first();
            self.overdue(now_ms, cookie);
        }
        let due = |node: &NodeState| !node.up && node.ping_ms <= now_ms;
        let down = self.nodes.0.iter().enumerate().filter(|(_, node)| due(node));
        let down: Vec<usize> = down.map(|(node, _)| node).collect();
        for node in down {
            self.ping(now_ms, node);
        }
        while let Some(cookie) = self.late_order.front() {
            if self.late.get(cookie).is_some_and(|late| late.until_ms > now_ms) {
                break;
            }
            self.late.remove(cookie);
            self.late_order.pop_front();
        }
    }

    /// When to come again with [`Client::tick`], in milliseconds; `None`: nothing is awaited.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        let due = self.due.first().map(|(due_ms, _)| *due_ms);
        let down = self.nodes.0.iter().filter(|node| !node.up && !node.is_pinged);
        let down = down.map(|node| node.ping_ms);
        due.into_iter().chain(down).min()
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The nodes in the order they are configured in.
    #[must_use]
    pub fn nodes(&self) -> &[NodeState] {
        &self.nodes.0
    }

    /// What has been counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Commands under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.waiting.len()
    }

    fn address(&self, node: usize) -> Option<SocketAddr> {
        self.nodes.0.get(node).map(|node| node.config.address)
    }

    fn begin(
        &mut self,
        now_ms: u64,
        node: usize,
        command: Command,
        tried: Vec<usize>,
        is_ping: bool,
    ) {
        let mut cookie = (self.draw)();
        while self.waiting.contains_key(&cookie) || self.late.contains_key(&cookie) {
            cookie = (self.draw)();
        }
        let (begun_ms, due_ms, sent, full) = (now_ms, 0, 0, false);
        let waiting = Waiting { command, node, tried, sent, begun_ms, due_ms, is_ping, full };
        self.waiting.insert(cookie, waiting);
        self.send(now_ms, cookie);
    }

    fn send(&mut self, now_ms: u64, cookie: u64) {
        let due_ms = now_ms.saturating_add(self.config.timeout_ms.max(1));
        let Some(waiting) = self.waiting.get_mut(&cookie) else { return };
        waiting.sent += 1;
        waiting.due_ms = due_ms;
        let mut bytes = format!("{cookie:016x} ").into_bytes();
        bytes.extend_from_slice(&waiting.command.text);
        let node = waiting.node;
        self.due.insert((due_ms, cookie));
        if let Some(to) = self.address(node) {
            self.outputs.push_back(Output::Send { to, bytes });
        }
    }

    fn take(&mut self, cookie: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&cookie)?;
        self.due.remove(&(waiting.due_ms, cookie));
        Some(waiting)
    }

    fn overdue(&mut self, now_ms: u64, cookie: u64) {
        let Some(waiting) = self.waiting.get(&cookie) else { return };
        let (node, is_first) = (waiting.node, waiting.sent == 1 && !waiting.is_ping);
        if waiting.sent <= self.config.retries {
            self.counts.resent += u64::from(!waiting.is_ping);
            self.send(now_ms, cookie);
            if is_first {
                self.ping(now_ms, node);
            }
            return;
        }
        let Some(waiting) = self.take(cookie) else { return };
        self.silent(now_ms, &waiting);
        if waiting.is_ping {
            return;
        }
        self.counts.timeouts += 1;
        if !waiting.command.undo.is_empty() {
            self.reckon_with(now_ms, cookie, &waiting);
        }
        self.elsewhere(now_ms, waiting, Failure::Silent);
    }

    /// Its node has not taken it: another one may, where it is of a new call.
    fn elsewhere(&mut self, now_ms: u64, waiting: Waiting, failure: Failure) {
        let Waiting { command, node, mut tried, full, .. } = waiting;
        tried.push(node);
        let next = match command.route {
            Route::Any => self.nodes.choose(&command.call_id, &tried),
            Route::Node(_) => None,
        };
        match next {
            Some(next) => {
                self.counts.moved += 1;
                self.begin(now_ms, next, command, tried, false);
            }
            None => {
                let failure = if full { Failure::Full } else { failure };
                self.done(command.ticket, Some(node), Err(failure));
            }
        }
    }

    fn reckon_with(&mut self, now_ms: u64, cookie: u64, waiting: &Waiting) {
        if self.late_order.len() >= MOST_LATE
            && let Some(oldest) = self.late_order.pop_front()
        {
            self.late.remove(&oldest);
        }
        let until_ms = now_ms.saturating_add(LATE_MS);
        let Command { call_id, undo, .. } = waiting.command.clone();
        self.late.insert(cookie, Late { node: waiting.node, call_id, undo, until_ms });
        self.late_order.push_back(cookie);
    }

    fn answered(&mut self, now_ms: u64, cookie: u64, answer: Dict) {
        let Some(mut waiting) = self.take(cookie) else { return };
        if waiting.is_ping {
            return self.pinged(waiting.node);
        }
        let text = |key: &[u8]| answer.get(key).map(Value::bytes).unwrap_or_default();
        let result = match text(b"result") {
            b"ok" | b"pong" => Ok(answer),
            b"load limit" | b"load_limit" => {
                waiting.full = true;
                return self.elsewhere(now_ms, waiting, Failure::Full);
            }
            _ => Err(Failure::Refused(reason(text(b"error-reason")))),
        };
        self.done(waiting.command.ticket, Some(waiting.node), result);
    }

    /// A node has taken a command that went elsewhere, or to nobody, meanwhile.
    fn answered_late(&mut self, now_ms: u64, cookie: u64, answer: &Dict) {
        self.counts.late += 1;
        // It stays in the order, which is looked through when its time is up.
        let Some(late) = self.late.remove(&cookie) else { return };
        if answer.get(&b"result"[..]).map(Value::bytes) == Some(b"ok") {
            let Late { node, call_id, undo, .. } = late;
            let (ticket, route, none) = (0, Route::Node(node), Vec::new());
            self.submit(now_ms, Command { ticket, route, call_id, text: undo, undo: none });
        }
    }

    fn done(&mut self, ticket: u64, node: Option<usize>, result: Result<Dict, Failure>) {
        if ticket != 0 {
            self.outputs.push_back(Output::Done { ticket, node, result });
        }
    }

    fn heard(&mut self, now_ms: u64, node: usize) {
        let Some(state) = self.nodes.0.get_mut(node) else { return };
        state.answers += 1;
        state.heard_ms = Some(now_ms);
        if !state.up {
            state.up = true;
            self.outputs.push_back(Output::Turned { node, up: true });
        }
    }

    /// A command has got no answer.
    fn silent(&mut self, now_ms: u64, waiting: &Waiting) {
        let node = waiting.node;
        if waiting.is_ping {
            self.pinged(node);
        }
        let Some(state) = self.nodes.0.get_mut(node) else { return };
        state.timeouts += 1;
        if state.heard_ms.is_some_and(|heard_ms| heard_ms >= waiting.begun_ms) {
            return; // It lives.
        }
        state.ping_ms = now_ms.saturating_add(self.config.down_ms.max(1));
        if state.up {
            state.up = false;
            self.outputs.push_back(Output::Turned { node, up: false });
        }
    }

    /// Asks a node whether it lives, unless that is being asked.
    fn ping(&mut self, now_ms: u64, node: usize) {
        let Some(state) = self.nodes.0.get_mut(node).filter(|state| !state.is_pinged) else {
            return;
        };
        state.is_pinged = true;
        let command = Command {
            ticket: 0,
            route: Route::Node(node),
            call_id: Box::default(),
            text: b"d7:command4:pinge".to_vec(),
            undo: Vec::new(),
        };
        self.begin(now_ms, node, command, Vec::new(), true);
    }

    fn pinged(&mut self, node: usize) {
        if let Some(state) = self.nodes.0.get_mut(node) {
            state.is_pinged = false;
        }
    }
}

/// The cookie and what follows it.
fn split(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (cookie, rest) = bytes.split_at_checked(16)?;
    let text = rest.strip_prefix(b" ")?;
    let is_ours = |c: &u8| c.is_ascii_digit() || (b'a'..=b'f').contains(c);
    let cookie = std::str::from_utf8(cookie).ok().filter(|c| c.bytes().all(|c| is_ours(&c)))?;
    Some((u64::from_str_radix(cookie, 16).ok()?, text))
}

/// Why a node refuses, as it says itself.
fn reason(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let text: String = text.chars().filter(|c| !c.is_control()).take(MOST_REASON).collect();
    if text.is_empty() { "the media node gave no reason".to_owned() } else { text }
}

#[cfg(test)]
mod tests;
