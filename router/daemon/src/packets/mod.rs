//! Who brings packets to the workers: AF_XDP where it can be had, the kernel's sockets always.
//!
//! A thread of its own, `packets`, opens what the listeners wish, hands the ports to the workers by
//! mail, watches interfaces, routes and neighbours, takes away what has failed, and opens it again
//! when it can be had again. Workers lose nothing by that: their kernel sockets are bound to the
//! same addresses all the time. Start reading at [`Packets::start`], then `supervisor`.

mod bans;
mod media;
mod supervisor;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;
use viaduct_transport::xdp::Program;
use viaduct_transport::xdp::layout::Settings;

use crate::config::{Config, XdpWish};
use crate::control::{BanEntry, Refusal};
use crate::privileges::Keeper;
use crate::worker::mail::Address;
pub(crate) use bans::Offences;
use supervisor::Supervisor;

/// Orders that may wait; more than one administrator and all workers have at a time.
const ORDERS: usize = 1024;
/// How long an order may take before its giver is told that it failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the outside tells the thread.
enum Order {
    Ban {
        source: IpAddr,
        seconds: u64,
        answer: Sender<Result<(), String>>,
    },
    Unban {
        source: IpAddr,
        answer: Sender<Result<bool, String>>,
    },
    Bans {
        answer: Sender<Vec<BanEntry>>,
    },
    /// A worker has seen something malformed, or wrong credentials.
    Offence {
        source: IpAddr,
    },
    Stop,
}

/// What the thread shows.
#[derive(Clone, Default)]
struct View {
    /// How packets come in, for people.
    words: String,
    /// Packets in front of the stack, by verdict.
    verdicts: Vec<(&'static str, u64)>,
    /// What is held.
    tables: Tables,
}

/// How full the tables of the thread are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    /// Sources that are kept out.
    pub(crate) bans: usize,
    /// Sources whose offences are counted.
    pub(crate) offenders: usize,
    /// Neighbours whose hardware addresses are known.
    pub(crate) neighbours: usize,
    /// Offences nobody could count, as too many orders waited.
    pub(crate) dropped: u64,
}

/// The running thread; ends with [`Packets::stop`].
pub(crate) struct Packets {
    orders: Sender<Order>,
    offences: Offences,
    waker: Arc<mio::Waker>,
    view: Arc<Mutex<View>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Packets {
    /// Has `keeper` open what is wished, and keep it open from then on; `relay` is to be in front of
    /// the interfaces media come by. `None` where nobody wishes anything; an error where a listener
    /// requires what cannot be had.
    pub(crate) fn start(
        config: &Config,
        workers: &[Address],
        keeper: Keeper,
        relay: Option<viaduct_media::xdp::Program>,
    ) -> anyhow::Result<Option<Packets>> {
        let is_idle = config.packets.wishes.iter().all(|(addr, wish)| is_moot(addr.ip(), *wish));
        if is_idle && relay.is_none() {
            return Ok(None);
        }
        let (orders, received) = bounded(ORDERS);
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), supervisor::WAKE)?);
        let view = Arc::default();
        let mut supervisor =
            Supervisor::new(config, workers.to_vec(), poll, received, Arc::clone(&view))
                .context("no notifications about interfaces from the kernel")?;
        supervisor.relay_media(config, relay);
        let (answer, answered) = bounded(1);
        let thread = keeper.end_with(move || {
            let missing = supervisor.look().into_iter().next();
            let goes_on = missing.is_none();
            if answer.send(missing).is_ok() && goes_on {
                supervisor.run();
            }
        });
        if let Some(reason) = answered.recv().context("the thread for packets has ended")? {
            bail!("{reason}");
        }
        let thread = Mutex::new(Some(thread));
        let offences = Offences::new(orders.clone());
        Ok(Some(Packets { orders, offences, waker, view, thread }))
    }

    /// `xdp copy on eth0, 2 queues`
    pub(crate) fn words(&self) -> String {
        self.view.lock().words.clone()
    }

    /// How full its tables are.
    pub(crate) fn tables(&self) -> Tables {
        Tables { dropped: self.offences.dropped(), ..self.view.lock().tables }
    }

    /// Who knows what became of packets in front of the stack.
    pub(crate) fn verdicts(&self) -> impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static {
        let view = Arc::clone(&self.view);
        move || view.lock().verdicts.clone()
    }

    /// Where workers report offences.
    pub(crate) fn offences(&self) -> Offences {
        self.offences.clone()
    }

    /// Keeps a source out for so many seconds.
    pub(crate) fn ban(&self, source: IpAddr, seconds: u64) -> Result<(), Refusal> {
        let (answer, answered) = bounded(1);
        self.order(Order::Ban { source, seconds, answer })?;
        let done = answered.recv_timeout(PATIENCE).map_err(|_| busy())?;
        done.map_err(Refusal::Failed)
    }

    /// Lets a source in again; says whether it was kept out.
    pub(crate) fn unban(&self, source: IpAddr) -> Result<bool, Refusal> {
        let (answer, answered) = bounded(1);
        self.order(Order::Unban { source, answer })?;
        let done = answered.recv_timeout(PATIENCE).map_err(|_| busy())?;
        done.map_err(Refusal::Failed)
    }

    /// Who is kept out.
    pub(crate) fn bans(&self) -> Result<Vec<BanEntry>, Refusal> {
        let (answer, answered) = bounded(1);
        self.order(Order::Bans { answer })?;
        answered.recv_timeout(PATIENCE).map_err(|_| busy())
    }

    fn order(&self, order: Order) -> Result<(), Refusal> {
        self.orders.try_send(order).map_err(|_| busy())?;
        self.waker.wake().map_err(|error| Refusal::Failed(error.to_string()))
    }

    /// Takes the ports away from the workers, detaches the programs, ends the thread.
    pub(crate) fn stop(&self) {
        if self.orders.send(Order::Stop).is_ok() {
            // A waker fails only when its poll is gone, and then the thread has ended.
            let _ = self.waker.wake();
        }
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!(target: "viaduct::packets", "the thread has panicked");
        }
    }
}

fn busy() -> Refusal {
    Refusal::Failed("the thread for packets does not answer".to_owned())
}

/// Loopback has no other way than the stack; whoever requires it there gets an error.
fn is_moot(ip: IpAddr, wish: XdpWish) -> bool {
    wish == XdpWish::Off || (wish == XdpWish::Auto && ip.is_loopback())
}

/// Has the kernel choose, among the workers' sockets of one port, the one whose worker owns the
/// message. Without it the choice is by a hash of the addresses, and the workers hand over.
pub(crate) fn choose_owners<'a>(
    keeper: &Keeper,
    workers: u8,
    sockets: impl Iterator<Item = BorrowedFd<'a>>,
) {
    let sockets: io::Result<Vec<OwnedFd>> = sockets.map(|fd| fd.try_clone_to_owned()).collect();
    let attached = keeper.run(move || -> anyhow::Result<()> {
        let mut program = Program::load_chooser()?;
        program.set(Settings { workers: workers.into(), ..Settings::default() })?;
        for socket in sockets? {
            program.attach_chooser(socket.as_fd())?;
        }
        Ok(())
    });
    match attached {
        Some(Ok(())) => tracing::debug!(target: "viaduct::packets", "the kernel finds the owner"),
        Some(Err(fault)) => {
            let fault = format!("{fault:#}");
            tracing::info!(target: "viaduct::packets", fault, "workers hand messages over");
        }
        None => tracing::error!(target: "viaduct::packets", "the thread for packets has ended"),
    }
}
