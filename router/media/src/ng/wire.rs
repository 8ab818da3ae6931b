//! The relay on its sockets. A worker that has something to say sends it itself and goes on; a thread
//! reads what comes, and looks after what is due.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use viaduct_engine::Now;
use viaduct_engine::media::{
    CallView, Handled, Media, MediaDialog, MediaFault, MediaFlags, MediaMessage, MediaOrder, Order,
    Tags,
};

use super::bencode::MOST_BYTES;
use super::client::Counts;
use super::command;
use super::nodes::NodeState;
use super::relay::{Act, CallReply, Config, Relay, Reply};
use crate::service::{CallEntry, Journal, Numbers, Sink, system_draw};

/// How often calls are looked after.
const TURN: Duration = Duration::from_secs(1);
/// Datagrams read before what is due is looked at again.
const BATCH: usize = 256;
const WAKE: Token = Token(2);

/// Tells the time.
pub type Clock = Box<dyn Fn() -> Now + Send + Sync>;

/// Where calls are kept for the next process, and what is there of the one before: keys, values.
pub type Kept = (Arc<dyn Journal>, Vec<(Vec<u8>, Vec<u8>)>);

/// What a relay by nodes has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NgNumbers {
    /// Of calls.
    pub calls: Numbers,
    /// Of commands.
    pub commands: Counts,
    /// Commands under way.
    pub under_way: usize,
    /// The nodes as they stand.
    pub nodes: Vec<NodeState>,
}

/// Media nodes, for all workers.
pub struct NgRelay {
    relay: Mutex<Relay>,
    /// Of IPv4 and of IPv6, where there are nodes of that family.
    sockets: [Option<UdpSocket>; 2],
    waker: Waker,
    clock: Clock,
}

impl NgRelay {
    /// Opens the sockets and starts the thread, which ends with the relay. `sink` is told of each
    /// call that has ended. With `kept`, it goes on with the calls an earlier process has kept, and
    /// keeps them from now on.
    ///
    /// # Errors
    /// No socket, or no thread.
    pub fn start(
        config: Config,
        clock: Clock,
        sink: Sink,
        kept: Option<Kept>,
    ) -> io::Result<Arc<NgRelay>> {
        let poll = Poll::new()?;
        let has = |ipv6| config.client.nodes.iter().any(|n| n.address.is_ipv6() == ipv6);
        let mut sockets = [None, None];
        let any = [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), (Ipv6Addr::UNSPECIFIED, 0).into()];
        for ((index, any), socket) in any.into_iter().enumerate().zip(&mut sockets) {
            if has(any.is_ipv6()) {
                let mut opened = UdpSocket::bind(any)?;
                poll.registry().register(&mut opened, Token(index), Interest::READABLE)?;
                *socket = Some(opened);
            }
        }
        let waker = Waker::new(poll.registry(), WAKE)?;
        let mut relay = Relay::new(config, system_draw(), sink);
        if let Some((journal, kept)) = kept {
            relay.keep_in(clock(), journal, kept);
        }
        let relay = Arc::new(NgRelay { relay: Mutex::new(relay), sockets, waker, clock });
        let weak = Arc::downgrade(&relay);
        std::thread::Builder::new().name("media-nodes".into()).spawn(move || run(poll, &weak))?;
        Ok(relay)
    }

    /// Answers [`viaduct_engine::Query::Media`]: `reply` is called once, from any thread.
    pub fn answer(&self, order: &Arc<MediaOrder>, reply: Reply) {
        self.with(|relay, now| relay.ask(now, order, reply));
    }

    /// Answers [`viaduct_engine::Query::MediaCall`] in the same way.
    pub fn answer_call(&self, dialog: &MediaDialog, reply: CallReply) {
        self.with(|relay, now| relay.ask_about(now, dialog, reply));
    }

    /// All calls, the oldest first; at most `most`. Their streams as the node told last.
    #[must_use]
    pub fn list(&self, most: usize) -> Vec<CallEntry> {
        self.lock().list((self.clock)(), most)
    }

    /// Calls with this Call-ID, as their node knows them. Waits for it: not for workers.
    #[must_use]
    pub fn show(&self, call_id: &[u8]) -> Vec<CallEntry> {
        let calls = self.lock().show((self.clock)(), call_id);
        for call in calls {
            let tags =
                Tags { call_id, from: call.caller_tag.as_bytes(), to: call.callee_tag.as_bytes() };
            let (told, heard) = mpsc::channel();
            self.answer_call(
                &MediaDialog::new(tags),
                Box::new(move |_| {
                    let _ = told.send(());
                }),
            );
            // An answer comes in any case; where the relay ends meanwhile, the sender is gone.
            let _ = heard.recv();
        }
        self.lock().show((self.clock)(), call_id)
    }

    /// Ends the media of calls with this Call-ID; how many.
    pub fn kill(&self, call_id: &[u8]) -> usize {
        self.with(|relay, now| relay.kill(now, call_id))
    }

    /// Counters and gauges.
    #[must_use]
    pub fn numbers(&self) -> NgNumbers {
        let relay = self.lock();
        let client = relay.client();
        NgNumbers {
            calls: relay.numbers(),
            commands: client.counts(),
            under_way: client.under_way(),
            nodes: client.nodes().to_vec(),
        }
    }

    /// Does something, and what follows from it.
    fn with<T>(&self, work: impl FnOnce(&mut Relay, Now) -> T) -> T {
        let now = (self.clock)();
        let (done, acts, is_earlier) = {
            let mut relay = self.lock();
            let before = relay.deadline_ms();
            let done = work(&mut relay, now);
            let acts = relay.take_acts(now);
            let after = relay.deadline_ms();
            (done, acts, after.is_some_and(|after| before.is_none_or(|before| after < before)))
        };
        for act in acts {
            match act {
                Act::Send(to, bytes) => self.send(to, &bytes),
                Act::Tell(tell) => tell(),
            }
        }
        if is_earlier {
            // It fails only when the thread is gone, and then nothing is awaited.
            let _ = self.waker.wake();
        }
        done
    }

    /// What is not sent is sent again, as if the network had lost it.
    fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let socket = self.sockets.get(usize::from(to.is_ipv6())).and_then(Option::as_ref);
        if let Some(Err(error)) = socket.map(|socket| socket.send_to(bytes, to)) {
            tracing::debug!(target: "viaduct::media", node = %to, %error, "not sent");
        }
    }

    /// Reads what has come. False: there may be more.
    fn receive(&self, buffer: &mut [u8]) -> bool {
        let mut left = BATCH;
        for socket in self.sockets.iter().flatten() {
            loop {
                match socket.recv_from(buffer) {
                    Ok((len, from)) => {
                        let bytes = buffer.get(..len).unwrap_or_default();
                        self.with(|relay, now| relay.datagram(now, from, bytes));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        tracing::debug!(target: "viaduct::media", %error, "not received");
                    }
                }
                left -= 1;
                if left == 0 {
                    return false;
                }
            }
        }
        true
    }

    /// How long nothing is due.
    fn rest(&self) -> Duration {
        let now_ms = (self.clock)().mono_us / 1_000;
        let due = self.lock().deadline_ms();
        let rest = due.map(|due| Duration::from_millis(due.saturating_sub(now_ms)));
        rest.map_or(TURN, |rest| rest.min(TURN))
    }

    /// Nobody panics while holding it; if somebody did, the tables are still whole.
    fn lock(&self) -> MutexGuard<'_, Relay> {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NgRelay {
    fn drop(&mut self) {
        let _ = self.waker.wake();
    }
}

fn run(mut poll: Poll, relay: &Weak<NgRelay>) {
    let mut events = Events::with_capacity(8);
    // One octet more than may be, so that a longer one is seen to be so.
    let mut buffer = vec![0; MOST_BYTES + 1];
    let mut drained = true;
    let mut looked_us = 0;
    loop {
        let Some(rest) = relay.upgrade().map(|relay| relay.rest()) else { return };
        let rest = if drained { rest } else { Duration::ZERO };
        if let Err(error) = poll.poll(&mut events, Some(rest))
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(target: "viaduct::media", %error, "media nodes are heard no more");
            return;
        }
        let Some(relay) = relay.upgrade() else { return };
        drained = relay.receive(&mut buffer);
        let now = (relay.clock)();
        let is_time = now.mono_us.saturating_sub(looked_us) >= TURN.as_micros() as u64;
        if is_time {
            looked_us = now.mono_us;
        }
        relay.with(|relay, now| {
            relay.tick(now);
            if is_time {
                relay.end_old(now);
            }
        });
    }
}

impl Media for NgRelay {
    fn handle(
        &self,
        _: Now,
        order: &Order,
        message: &MediaMessage<'_>,
    ) -> Result<Handled, MediaFault> {
        self.with(|relay, now| relay.handle(now, order, message))
    }

    fn refused(&self, _: Now, tags: Tags<'_>, branch: Option<u32>) {
        self.with(|relay, now| relay.refused(now, tags, branch));
    }

    fn query(&self, _: Now, tags: Tags<'_>) -> Option<CallView> {
        self.with(|relay, now| relay.query(now, tags))
    }

    fn is_elsewhere(&self, tags: Tags<'_>) -> bool {
        self.with(|relay, now| relay.query(now, tags)).is_some()
    }

    fn check(&self, flags: &MediaFlags) -> Result<(), String> {
        let one = flags.inside.is_some() != flags.outside.is_some();
        if one && command::both(flags).is_none() {
            return Err("media nodes want both in-iface= and out-iface=, or neither".to_owned());
        }
        Ok(())
    }
}
