//! Calls that are begun at a rate, whatever becomes of them, or kept at a number. Whoever is let in
//! goes through with his call: the callee repeats its 200 until it is acknowledged (RFC 3261
//! 13.3.1.4), the caller his BYE until it is answered (17.1.2.2). An INVITE is sent once; who is not
//! let in is gone.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use viaduct_tests::support::kamailio::DOMAIN;
use viaduct_tests::support::net::own_address;

use super::invites::Invites;
use crate::call::{Dialog, response};
use crate::single::next_sequence;
use crate::wire::{connected, header, slot_and_sequence, status};

/// Sources of the calls: each has an address of its own.
const SOURCES: usize = 8;
/// What is unanswered is sent again after this long, and given up after so many times.
const RESEND_AFTER: Duration = Duration::from_millis(500);
const MOST_RESENDS: u8 = 7;
/// Datagrams taken from a socket before the others have their turn.
const TURN: usize = 256;

/// How calls are begun.
#[derive(Clone, Copy)]
pub(super) enum Pace {
    /// So many are up at any time.
    Outstanding(usize),
    /// So many begin each second.
    Rate(f64),
}

/// What became of calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// INVITEs sent.
    pub(super) begun: u64,
    /// Calls that ended with a BYE that was answered.
    pub(super) completed: u64,
    /// INVITEs answered 503.
    pub(super) refused: u64,
    /// INVITEs without an answer; counted where calls are kept at a number.
    pub(super) unanswered: u64,
    /// Calls that were let in and got stuck.
    pub(super) stuck: u64,
    /// Messages within calls sent again.
    pub(super) resent: u64,
}

/// What waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Waiting {
    /// The INVITE for any answer.
    Invite(u32),
    /// The callee's 200 for its ACK.
    Answer(u32),
    /// The BYE for its 200.
    Bye(u32),
}

pub(super) struct Generator {
    /// INVITEs are sent by these, in batches.
    sources: Vec<(UdpSocket, Invites)>,
    /// Everything else of the callers.
    caller: UdpSocket,
    callee: UdpSocket,
    contact: SocketAddr,
    waiting: HashMap<Waiting, (Vec<u8>, u8)>,
    due: VecDeque<(Instant, Waiting)>,
    /// Calls whose INVITE was answered 200.
    taken: HashSet<u32>,
    /// Calls that are up, where they are kept at a number.
    up: usize,
    next_source: usize,
    buffer: Vec<u8>,
    pub(super) counts: Counts,
}

impl Generator {
    /// Calls to users who are registered at `callee`.
    pub(super) fn new(server: SocketAddr, callee: SocketAddr) -> Result<Self> {
        let mut sources = Vec::new();
        for _ in 0..SOURCES {
            let socket = connected((own_address(), 5060).into(), server)?;
            let invites = Invites::new(socket.local_addr()?)?;
            // One system call for a batch: the kernel cuts it into datagrams of this length.
            let length = i32::try_from(invites.length())?;
            setsockopt(&socket, sockopt::UdpGsoSegment, &length).context("UDP_SEGMENT")?;
            sources.push((socket, invites));
        }
        Ok(Self {
            sources,
            caller: connected((own_address(), 5060).into(), server)?,
            callee: connected(callee, server)?,
            contact: callee,
            waiting: HashMap::new(),
            due: VecDeque::new(),
            taken: HashSet::new(),
            up: 0,
            next_source: 0,
            buffer: vec![0; 4_096],
            counts: Counts::default(),
        })
    }

    /// Goes on for so long; what became of calls meanwhile.
    pub(super) fn run(&mut self, pace: Pace, length: Duration) -> Result<Counts> {
        let (began, before) = (Instant::now(), self.counts);
        let mut asked = 0;
        while began.elapsed() < length {
            match pace {
                Pace::Outstanding(most) => {
                    let missing = most.saturating_sub(self.up);
                    self.begin(missing, true)?;
                }
                Pace::Rate(per_s) => {
                    let due = (began.elapsed().as_secs_f64() * per_s) as usize;
                    let now = due.saturating_sub(asked).min(Invites::MOST);
                    self.begin(now, false)?;
                    asked += now;
                }
            }
            self.receive()?;
            self.resend()?;
        }
        Ok(self.counts.since(&before))
    }

    /// Every call is given up that is still under way: what comes of it is not looked at.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.due.clear();
        self.up = 0;
    }

    /// Begins `count` calls; `watched`: whether each gets an answer is looked at.
    fn begin(&mut self, count: usize, watched: bool) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let index = self.next_source % self.sources.len();
        self.next_source += 1;
        let (socket, invites) = self.sources.get_mut(index).context("no source")?;
        let count = count.min(Invites::MOST);
        let numbers: Vec<u32> = (0..count).map(|_| next_sequence()).collect();
        let sent = socket.send(invites.batch(index, &numbers));
        // A full buffer of our own: those calls were asked for, and did not get far.
        if sent.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock) {
            anyhow::bail!("sending to the server");
        }
        self.counts.begun += count as u64;
        if watched {
            self.up += count;
            for number in numbers {
                self.wait_for(Waiting::Invite(number), Vec::new());
            }
        }
        Ok(())
    }

    fn wait_for(&mut self, what: Waiting, bytes: Vec<u8>) {
        self.due.push_back((Instant::now() + RESEND_AFTER, what));
        self.waiting.insert(what, (bytes, 0));
    }

    fn receive(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..TURN {
            let Some(request) = next(&self.callee, &mut buffer)? else { break };
            self.called(request)?;
        }
        for _ in 0..TURN {
            let Some(answer) = next(&self.caller, &mut buffer)? else { break };
            if let (Some((_, call)), Some(200)) = (number(answer), status(answer))
                && self.waiting.remove(&Waiting::Bye(call)).is_some()
            {
                self.counts.completed += 1;
                self.up = self.up.saturating_sub(1);
            }
        }
        for source in 0..self.sources.len() {
            for _ in 0..TURN {
                let Some((socket, _)) = self.sources.get(source) else { break };
                let Some(answer) = next(socket, &mut buffer)? else { break };
                self.answered(answer)?;
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    /// The callee gets a request.
    fn called(&mut self, request: &[u8]) -> Result<()> {
        let Some((_, call)) = number(request) else { return Ok(()) };
        let contact = format!("sip:callee@{}", self.contact);
        if request.starts_with(b"ACK ") {
            self.waiting.remove(&Waiting::Answer(call));
        } else if request.starts_with(b"INVITE ") {
            let answer = response(request, "200 OK", call, &contact)?.into_bytes();
            self.callee.send(&answer).context("sending to the server")?;
            if !self.waiting.contains_key(&Waiting::Answer(call)) {
                self.wait_for(Waiting::Answer(call), answer);
            }
        } else if request.starts_with(b"BYE ") {
            let answer = response(request, "200 OK", call, &contact)?;
            self.callee.send(answer.as_bytes()).context("sending to the server")?;
        }
        Ok(())
    }

    /// A caller gets an answer to an INVITE.
    fn answered(&mut self, answer: &[u8]) -> Result<()> {
        let (Some((_, call)), Some(code)) = (number(answer), status(answer)) else { return Ok(()) };
        let watched = self.waiting.remove(&Waiting::Invite(call)).is_some();
        match code {
            100..200 => {}
            503 => {
                self.counts.refused += 1;
                self.up = self.up.saturating_sub(usize::from(watched));
            }
            200 => {
                let ack = self.within(call, "ACK", 1, answer)?;
                self.caller.send(ack.as_bytes()).context("sending to the server")?;
                if self.taken.insert(call) {
                    let bye = self.within(call, "BYE", 2, answer)?.into_bytes();
                    self.caller.send(&bye).context("sending to the server")?;
                    self.wait_for(Waiting::Bye(call), bye);
                }
            }
            _ => ensure!(false, "a wrong answer:\n{}", String::from_utf8_lossy(answer)),
        }
        Ok(())
    }

    /// A request within the dialog that `answer` has made.
    fn within(&self, call: u32, method: &str, cseq: u32, answer: &[u8]) -> Result<String> {
        let mut dialog = Dialog::default();
        dialog.learn(answer)?;
        let text = |name| Ok::<_, anyhow::Error>(std::str::from_utf8(value(answer, name)?)?);
        let (from, call_id, at) = (text("From:")?, text("Call-ID:")?, self.caller.local_addr()?);
        let Dialog { to, routes, target } = dialog;
        Ok(format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKo{call}{method};rport\r\n\
             Max-Forwards: 70\r\n{routes}From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n"
        ))
    }

    fn resend(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some((_, what)) = self.due.pop_front_if(|(at, _)| *at <= now) {
            let Some((bytes, tries)) = self.waiting.get_mut(&what) else { continue };
            *tries += 1;
            let gone = *tries > MOST_RESENDS;
            match what {
                Waiting::Invite(_) => self.counts.unanswered += 1,
                _ if gone => self.counts.stuck += 1,
                Waiting::Answer(_) => send(&self.callee, bytes, &mut self.counts)?,
                Waiting::Bye(_) => send(&self.caller, bytes, &mut self.counts)?,
            }
            if gone || matches!(what, Waiting::Invite(_)) {
                self.waiting.remove(&what);
                self.up = self.up.saturating_sub(usize::from(!matches!(what, Waiting::Answer(_))));
            } else {
                self.due.push_back((now + RESEND_AFTER, what));
            }
        }
        Ok(())
    }
}

impl Counts {
    fn since(&self, before: &Self) -> Self {
        Self {
            begun: self.begun - before.begun,
            completed: self.completed - before.completed,
            refused: self.refused - before.refused,
            unanswered: self.unanswered - before.unanswered,
            stuck: self.stuck - before.stuck,
            resent: self.resent - before.resent,
        }
    }
}

fn send(socket: &UdpSocket, bytes: &[u8], counts: &mut Counts) -> Result<()> {
    counts.resent += 1;
    socket.send(bytes).map(drop).context("sending to the server")
}

/// The next datagram that is there already.
fn next<'a>(socket: &UdpSocket, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
    match socket.recv(buffer) {
        Ok(length) => Ok(buffer.get(..length)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("receiving from the server"),
    }
}

fn number(message: &[u8]) -> Option<(usize, u32)> {
    slot_and_sequence(message, Invites::MARKER)
}

fn value<'a>(message: &'a [u8], name: &str) -> Result<&'a [u8]> {
    header(message, name).with_context(|| format!("no {name} in an answer to {DOMAIN}"))
}
