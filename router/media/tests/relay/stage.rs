//! Namespaces, a subject, and what tests ask of it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Result, bail};
use nix::net::if_::if_nametoindex;
use viaduct_media::kernel::{KernelRelay, Owner};
use viaduct_media::session::{Counter, Event, Learn, Leg, Rank, Report, Session};
use viaduct_media::userspace::UserspaceRelay;
use viaduct_media::xdp::{self, Program, XdpFault, XdpRelay};
use viaduct_media::{Executor, ExecutorError};
use viaduct_tests::support::skip::skipped;

use crate::namespace::Net;
use crate::packets::rtp;
use crate::phone::Phone;
use crate::within::Within;

/// How long an event that must come is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Stage {
    pub(crate) net: Net,
    pub(crate) relay: Box<dyn Executor>,
    /// Of the relay in XDP, attached to both interfaces.
    pub(crate) program: Option<Program>,
}

/// What is tested.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Userspace,
    Module,
    /// In the drivers, or in the kernel.
    Xdp {
        native: bool,
    },
}

impl Subject {
    fn named() -> Self {
        match env::var("VIADUCT_RELAY").as_deref() {
            Ok("module") => Self::Module,
            Ok("xdp") => Self::Xdp { native: true },
            Ok("xdp-generic") => Self::Xdp { native: false },
            _ => Self::Userspace,
        }
    }
}

/// Legs the program has room for.
const LEGS_MAX: u32 = 2_048;

/// Which owner a test's sessions have where it does not matter.
pub(crate) const OWNER: Owner = Owner { id: 77, grace_s: 30 };

impl Stage {
    /// `None` after saying why it cannot be set up here.
    pub(crate) fn new() -> Result<Option<Self>> {
        Self::of(Subject::named())
    }

    /// For what only the module does.
    pub(crate) fn module() -> Result<Option<Self>> {
        if Subject::named() == Subject::Module {
            return Self::new();
        }
        skipped("only with the kernel module");
        Ok(None)
    }

    /// For what only the program does; in the drivers if nothing else is named.
    pub(crate) fn xdp() -> Result<Option<Self>> {
        match Subject::named() {
            Subject::Module => {
                skipped("only in front of user space");
                Ok(None)
            }
            Subject::Userspace => Self::of(Subject::Xdp { native: true }),
            named => Self::of(named),
        }
    }

    fn of(subject: Subject) -> Result<Option<Self>> {
        let net = match Net::new() {
            Ok(net) => net,
            Err(error) => {
                skipped(&format!("no network namespaces here: {error:#}"));
                return Ok(None);
            }
        };
        let namespace = net.r.file()?;
        let relay = || UserspaceRelay::start();
        let (relay, program): (Box<dyn Executor>, _) = match subject {
            Subject::Module => (Box::new(net.r.enter(module)?), None),
            Subject::Userspace => (Box::new(Within { relay: relay()?, namespace }), None),
            Subject::Xdp { native } => {
                net.ready_for_xdp(native)?;
                let loaded = net.r.enter(|| Ok(xdp::load(LEGS_MAX)))?;
                let Some((mut program, table)) = loaded_or_skipped(loaded)? else {
                    return Ok(None);
                };
                net.attach(&mut program)?;
                let relay = XdpRelay::over(Box::new(relay()?), table);
                (Box::new(Within { relay, namespace }), Some(program))
            }
        };
        Ok(Some(Self { net, relay, program }))
    }

    /// How often something became of packets at the program.
    pub(crate) fn outcome(&self, name: &str) -> u64 {
        let at = xdp::OUTCOMES.iter().position(|outcome| *outcome == name).unwrap();
        self.program.as_ref().map_or(0, |program| program.outcomes().unwrap()[at])
    }

    pub(crate) fn report(&mut self, local: SocketAddr) -> Report {
        self.relay.report(local).unwrap()
    }

    /// A counter of the leg with this local address.
    pub(crate) fn count(&mut self, local: SocketAddr, counter: Counter) -> u64 {
        let report = self.report(local);
        let leg = report.legs.iter().find(|leg| leg.local == local).unwrap();
        leg.counters.get(counter)
    }

    /// Waits until a counter has come to a value, and no further.
    pub(crate) fn counted(&mut self, local: SocketAddr, counter: Counter, n: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let count = self.count(local, counter);
            if count == n {
                return Ok(());
            }
            if count > n || Instant::now() > deadline {
                bail!("{counter:?} is {count} instead of {n}: {:#?}", self.report(local));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for an event that fits.
    pub(crate) fn event(&mut self, fits: impl Fn(&Event) -> bool) -> Result<Event> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            for event in self.relay.events()? {
                if fits(&event) {
                    return Ok(event);
                }
                seen.push(event);
            }
            if Instant::now() > deadline {
                bail!("no such event; there were {seen:#?}");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Adds one session of two legs.
    pub(crate) fn add(&mut self, legs: [Leg; 2]) -> Result<(), ExecutorError> {
        self.relay.add(&[Session { id: 1, idle_s: 0, legs }])
    }
}

/// With the packets of both devices taken at their ingress where the environment says so.
fn module() -> Result<KernelRelay> {
    let mut relay = KernelRelay::attach(OWNER)?;
    if env::var("VIADUCT_INGRESS").is_ok_and(|ingress| ingress == "1") {
        for device in ["to-a", "to-b"] {
            relay.add_device(if_nametoindex(device)?)?;
        }
    }
    Ok(relay)
}

type Loaded = Result<(Program, xdp::Table), XdpFault>;

fn loaded_or_skipped(loaded: Loaded) -> Result<Option<(Program, xdp::Table)>> {
    match loaded {
        Ok(loaded) => Ok(Some(loaded)),
        Err(XdpFault::Absent) => {
            skipped(&XdpFault::Absent.to_string());
            Ok(None)
        }
        Err(XdpFault::Kernel(what, error)) if error.kind() == ErrorKind::PermissionDenied => {
            skipped(&format!("the kernel lets us load no BPF program: {what}: {error}"));
            Ok(None)
        }
        Err(fault) => Err(fault.into()),
    }
}

/// A call between a phone in `a` and one in `b`.
pub(crate) struct Call {
    pub(crate) alice: Phone,
    pub(crate) bob: Phone,
    /// Where the relay is for alice.
    pub(crate) for_alice: SocketAddr,
    /// Where the relay is for bob.
    pub(crate) for_bob: SocketAddr,
}

impl Call {
    /// The phones and the addresses, without a session.
    pub(crate) fn new(stage: &Stage) -> Result<Self> {
        Ok(Self {
            alice: Phone::new(&stage.net.a, "10.0.1.1:4000")?,
            bob: Phone::new(&stage.net.b, "10.0.2.1:5000")?,
            for_alice: "10.0.1.254:30000".parse()?,
            for_bob: "10.0.2.254:30002".parse()?,
        })
    }

    /// The legs as signalling would have them; nothing to learn.
    pub(crate) fn legs(&self) -> [Leg; 2] {
        [
            Leg::new(self.for_alice, Some(self.alice.address)),
            Leg::new(self.for_bob, Some(self.bob.address)),
        ]
    }

    /// With a session.
    pub(crate) fn up(stage: &mut Stage) -> Result<Self> {
        let call = Self::new(stage)?;
        stage.add(call.legs())?;
        Ok(call)
    }

    /// With a session whose leg at alice is this, bob's as signalled.
    pub(crate) fn with(stage: &mut Stage, change: impl FnOnce(&mut Leg)) -> Result<Self> {
        let call = Self::new(stage)?;
        let mut legs = call.legs();
        change(&mut legs[0]);
        stage.add(legs)?;
        Ok(call)
    }

    /// A packet from alice arrives at bob, and nothing arrived before it.
    pub(crate) fn alice_reaches_bob(&self) -> Result<()> {
        passes(&self.alice, self.for_alice, &self.bob, self.for_bob)
    }

    /// The same the other way.
    pub(crate) fn bob_reaches_alice(&self) -> Result<()> {
        passes(&self.bob, self.for_bob, &self.alice, self.for_alice)
    }
}

/// `from` sends a packet to `to`; it is the next that arrives at `at`, from `via`.
pub(crate) fn passes(from: &Phone, to: SocketAddr, at: &Phone, via: SocketAddr) -> Result<()> {
    let packet = rtp(4711);
    from.send(to, &packet)?;
    let arrived = at.receive()?;
    anyhow::ensure!(arrived.data == packet, "another packet arrived first: {arrived:?}");
    anyhow::ensure!(arrived.from == via, "it came from {}", arrived.from);
    Ok(())
}

/// As [`passes`], but copies of `earlier` may still be under way.
pub(crate) fn passes_after(
    earlier: &[u8],
    (from, to): (&Phone, SocketAddr),
    (at, via): (&Phone, SocketAddr),
) -> Result<()> {
    let packet = rtp(4712);
    from.send(to, &packet)?;
    loop {
        let arrived = at.receive()?;
        anyhow::ensure!(arrived.from == via, "it came from {}", arrived.from);
        if arrived.data == packet {
            return Ok(());
        }
        anyhow::ensure!(arrived.data == earlier, "another packet arrived first: {arrived:?}");
    }
}

/// Learning in a window.
pub(crate) fn learn(window_ms: u32, settle_ms: u32) -> Learn {
    Learn { window_ms, settle_ms, lowest: Rank::Any }
}

/// The stage, or a return where there is none.
#[macro_export]
macro_rules! stage {
    ($make:ident) => {
        match $crate::stage::Stage::$make()? {
            Some(stage) => stage,
            None => return Ok(()),
        }
    };
}
