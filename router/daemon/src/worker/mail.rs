//! What other threads tell a worker: a bounded queue and a waker.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

use crossbeam_channel::{Receiver, Sender, unbounded};
use viaduct_engine::dispatcher::Prober;
use viaduct_engine::{
    AorKey, Change, CommitFault, ConnId, Fact, Flow, Hop, QueryFault, Settings, Token,
};
use viaduct_policy::record::Session;

use super::fast::Given;

/// Mail that may wait for a worker before [`Address::post`] refuses: what is refused there is lost
/// as the network may lose it. Mail that must not be lost is bounded by what the worker has asked
/// for.
const MAILBOX: usize = 65_536;

/// One message.
pub(crate) enum Mail {
    /// A commit has ended; it was handed in at this `mono_us`.
    Committed { token: Token, result: Result<(), CommitFault>, since_us: u64 },
    /// A name was resolved.
    Resolved { token: Token, hops: Vec<Hop> },
    /// A question of a policy's run was answered.
    Answered { token: Token, result: Result<Fact, QueryFault> },
    /// A message that belongs to this worker's transactions came in at another worker.
    Message { flow: Flow, bytes: Box<[u8]> },
    /// A message to send over a connection of this worker, for another worker.
    Send { flow: Flow, bytes: Box<[u8]>, token: Token, from: u8 },
    /// What this worker asked another to send could not be sent.
    SendFailed { token: Token },
    /// A datagram of this worker came back at another.
    Undelivered { flow: Flow, bytes: Box<[u8]> },
    /// The AF_XDP ports of an interface, or `None` where they are to be given up.
    Ports { slot: usize, ports: Option<Given> },
    /// New settings.
    Reconfigure(Arc<Settings>),
    /// Show this recording the messages that pass; none: show them to nobody.
    Tap(Option<Arc<Session>>),
    /// Probe these destinations from now on.
    Probe(Option<Prober>),
    /// Take no new connections.
    Drain,
    /// End now.
    Stop,
}

/// The receiving end; the worker's own.
pub(crate) struct Mailbox {
    pub(crate) receiver: Receiver<Mail>,
    awake: Arc<AtomicBool>,
}

/// The sending end; anybody's.
#[derive(Clone)]
pub(crate) struct Address {
    sender: Sender<Mail>,
    waker: Arc<mio::Waker>,
    /// Set while the worker is going to look at its mail anyway: saves a system call a message.
    awake: Arc<AtomicBool>,
    owner: Arc<std::sync::OnceLock<ThreadId>>,
}

/// Both ends.
pub(crate) fn mailbox(waker: mio::Waker) -> (Mailbox, Address) {
    let (sender, receiver) = unbounded();
    let awake = Arc::new(AtomicBool::new(false));
    let address = Address {
        sender,
        waker: Arc::new(waker),
        awake: Arc::clone(&awake),
        owner: Arc::default(),
    };
    (Mailbox { receiver, awake }, address)
}

impl Mailbox {
    /// Call before the last look at the queue: whoever posts after it wakes the worker.
    pub(crate) fn fall_asleep(&self) {
        self.awake.store(false, Ordering::SeqCst);
    }

    /// Call when the worker's turn begins.
    pub(crate) fn wake_up(&self) {
        self.awake.store(true, Ordering::SeqCst);
    }
}

impl Address {
    /// Says which thread reads the mail; it needs no waking when it writes to itself.
    pub(crate) fn own(&self) {
        let _ = self.owner.set(std::thread::current().id());
    }

    /// Posts unless too much waits already; says whether it did.
    pub(crate) fn post(&self, mail: Mail) -> bool {
        self.sender.len() < MAILBOX && self.post_surely(mail)
    }

    /// Posts what must not be lost. Never blocks; false where the worker has ended.
    pub(crate) fn post_surely(&self, mail: Mail) -> bool {
        let sent = self.sender.send(mail).is_ok();
        if sent {
            self.wake();
        }
        sent
    }

    fn wake(&self) {
        if !self.awake.swap(true, Ordering::SeqCst)
            && self.owner.get() != Some(&std::thread::current().id())
        {
            // A waker fails only when its poll is gone, and then nobody is to be woken.
            let _ = self.waker.wake();
        }
    }
}

/// Where accepted and opened streams are, for all workers: who owns the connection to a peer.
pub(crate) struct Streams {
    by_peer: parking_lot::RwLock<HashMap<SocketAddr, ConnId>>,
    /// AoRs with a binding that ends with its connection, by connection. `None`: bindings outlive
    /// them.
    bound: Option<parking_lot::Mutex<HashMap<ConnId, HashSet<AorKey>>>>,
}

/// AoRs remembered of one connection; a trunk with more keeps those beyond until they expire.
const BOUND_TO_ONE: usize = 4096;

impl Streams {
    /// No connections yet. `drop_bindings`: remember which AoRs end with which.
    pub(crate) fn new(drop_bindings: bool) -> Streams {
        Streams { by_peer: Default::default(), bound: drop_bindings.then(Default::default) }
    }

    /// A connection is established.
    pub(crate) fn opened(&self, flow: &Flow) {
        self.by_peer.write().insert(flow.remote, flow.conn);
        if let Some(bound) = &self.bound {
            bound.lock().entry(flow.conn).or_default();
        }
    }

    /// A connection is gone; the AoRs whose bindings end with it.
    pub(crate) fn closed(&self, flow: &Flow) -> HashSet<AorKey> {
        let mut by_peer = self.by_peer.write();
        if by_peer.get(&flow.remote) == Some(&flow.conn) {
            by_peer.remove(&flow.remote);
        }
        let bound = self.bound.as_ref().and_then(|bound| bound.lock().remove(&flow.conn));
        bound.unwrap_or_default()
    }

    /// Bindings are about to be made; those of a connection that has closed meanwhile are not
    /// remembered, and end by time.
    pub(crate) fn bind(&self, changes: &[Change]) {
        let Some(bound) = &self.bound else { return };
        for change in changes {
            let conns = change.set.bindings.iter().map(|binding| binding.fields().conn);
            for conn in conns.filter(|conn| *conn != ConnId::NONE) {
                let mut bound = bound.lock();
                let keys = bound.get_mut(&conn);
                if let Some(keys) = keys.filter(|keys| keys.len() < BOUND_TO_ONE) {
                    keys.insert(change.key.clone());
                }
            }
        }
    }

    /// AoRs remembered as they end with a connection.
    pub(crate) fn bound(&self) -> usize {
        let Some(bound) = &self.bound else { return 0 };
        bound.lock().values().map(HashSet::len).fold(0, usize::saturating_add)
    }

    /// The connection to a peer.
    pub(crate) fn find(&self, remote: SocketAddr) -> Option<ConnId> {
        self.by_peer.read().get(&remote).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_worker_is_woken_once_and_gets_all_mail() {
        let mut poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let (mailbox, address) = mailbox(waker);
        mailbox.fall_asleep();
        // The waker lives as long as one address does.
        let elsewhere = address.clone();
        let sender = std::thread::spawn(move || {
            for n in 0..3 {
                assert!(elsewhere.post(Mail::SendFailed { token: Token(n) }));
            }
        });
        let mut events = mio::Events::with_capacity(4);
        poll.poll(&mut events, None).unwrap();
        sender.join().unwrap();
        let tokens: Vec<u64> = mailbox
            .receiver
            .try_iter()
            .map(|mail| match mail {
                Mail::SendFailed { token } => token.0,
                _ => panic!("other mail"),
            })
            .collect();
        assert_eq!(tokens, [0, 1, 2]);
    }

    #[test]
    fn a_full_mailbox_refuses_and_says_so() {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let (mailbox, address) = mailbox(waker);
        for _ in 0..MAILBOX {
            assert!(address.post(Mail::Drain));
        }
        assert!(!address.post(Mail::Drain));
        mailbox.receiver.try_recv().unwrap();
        assert!(address.post(Mail::Drain));
    }

    #[test]
    fn an_old_connection_does_not_take_away_its_successor() {
        let flow = |conn| Flow {
            transport: viaduct_engine::Transport::Tcp,
            local: ([127, 0, 0, 1], 5060).into(),
            remote: ([127, 0, 0, 2], 40_000).into(),
            conn: viaduct_engine::ConnId(conn),
        };
        let streams = Streams::new(false);
        streams.opened(&flow(1));
        streams.opened(&flow(2));
        streams.closed(&flow(1));
        assert_eq!(streams.find(flow(2).remote), Some(viaduct_engine::ConnId(2)));
        streams.closed(&flow(2));
        assert_eq!(streams.find(flow(2).remote), None);
    }
}
