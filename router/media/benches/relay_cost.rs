//! What a relayed packet costs: through an empty hop, plain forwarding, the relay in user space, the
//! kernel module where it is loaded, at PRE_ROUTING and at the devices' ingress and with a steering rule,
//! also asked for it before the stack, and the XDP program, in the kernel and in the drivers; with one
//! session, and with many that take turns.
//!
//! One thread sends a batch from one namespace and then reads it in another, so that the time from
//! first to last packet is the work of all that lies between, on a machine with one CPU. Under
//! QEMU's instruction counting (`make -C kmod qemu-bench`) a nanosecond is one instruction, and a
//! second run gives the same numbers; on a real machine they are only worth as much as it is quiet.
//!
//! `VIADUCT_BENCH_MODULE=1`: the module must be there, and neither it nor the program may be dearer than
//! plain forwarding by more than a fifth. `VIADUCT_BENCH_ABOVE_HOP`: what the module may cost above the
//! hop with one session at ingress. `VIADUCT_BENCH_PACKETS`: how many a figure is taken from. Arguments
//! name what is measured besides the hop and forwarding: `user`, `module`, `xdp`; without any, all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a measurement that goes wrong ends

#[path = "../tests/relay/namespace.rs"]
#[allow(dead_code)] // the tests use more of it
mod namespace;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use viaduct_media::Executor;
use viaduct_media::kernel::{KernelRelay, Owner, Rule, Traffic};
use viaduct_media::session::{Leg, Session};
use viaduct_media::userspace::UserspaceRelay;
use viaduct_media::xdp::{self, Mode, XdpRelay};

use crate::namespace::Net;

const PACKETS: usize = 20_000;
/// Sent before any is read.
const BATCH: usize = 32;
const MANY: usize = 20_000;
const FIRST_PORT: usize = 10_000;
/// How long a packet that must come is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the module may cost, in percent of plain forwarding.
const REACH_PERCENT: f64 = 120.0;

struct Bench {
    net: Net,
    /// In `a`.
    alice: UdpSocket,
    /// In `b`.
    bob: UdpSocket,
    packets: usize,
    /// Of one packet over one hop.
    hop_ns: f64,
}

impl Bench {
    fn new() -> Result<Self> {
        let net = Net::new()?;
        let alice = net.a.enter(|| Ok(UdpSocket::bind("10.0.1.1:4000")?))?;
        let bob = net.b.enter(|| Ok(UdpSocket::bind("10.0.2.1:5000")?))?;
        let packets = env::var("VIADUCT_BENCH_PACKETS").ok().map(|n| n.parse()).transpose()?;
        Ok(Self { net, alice, bob, packets: packets.unwrap_or(PACKETS), hop_ns: 0.0 })
    }

    /// Nanoseconds a packet from alice to one of `to` in turn, as it arrives at `sink`.
    fn cost(&self, to: &[SocketAddr], sink: &UdpSocket) -> Result<f64> {
        sink.set_read_timeout(Some(PATIENCE))?;
        // Each way once: routes, neighbours and the first packet's events are not what is measured.
        self.send_all(to, sink, to.len())?;
        let packets = self.packets.max(to.len());
        let started = Instant::now();
        self.send_all(to, sink, packets)?;
        Ok(started.elapsed().as_nanos() as f64 / packets as f64)
    }

    fn send_all(&self, to: &[SocketAddr], sink: &UdpSocket, packets: usize) -> Result<()> {
        let mut rtp = [0; 172];
        let mut got = [0; 256];
        rtp[0] = 0x80;
        let mut sent = 0;
        while sent < packets {
            let batch = BATCH.min(packets - sent);
            for number in sent..sent + batch {
                rtp[2..4].copy_from_slice(&(number as u16).to_be_bytes());
                self.alice.send_to(&rtp, to[number % to.len()])?;
            }
            for _ in 0..batch {
                let len = sink.recv(&mut got).context("a packet was lost on the way")?;
                ensure!(len == rtp.len(), "another packet arrived");
            }
            sent += batch;
        }
        Ok(())
    }

    fn row(&self, path: &str, sessions: usize, ns: f64) {
        println!("{path:<28} {sessions:>8} {ns:>9.0} {:>9.0}", ns - self.hop_ns);
    }

    /// That is no more than plain forwarding and a fifth.
    fn reaches(&self, ns: f64, forwarding_ns: f64) -> bool {
        let percent = 100.0 * ns / forwarding_ns;
        let met = percent <= REACH_PERCENT;
        println!("  {percent:.0} % of plain forwarding{}", if met { "" } else { ": MISSED" });
        met
    }

    /// That it is above the hop by no more than the environment says.
    fn near_hop(&self, ns: f64) -> Result<bool> {
        let Ok(most) = env::var("VIADUCT_BENCH_ABOVE_HOP") else { return Ok(true) };
        let met = ns - self.hop_ns <= most.parse()?;
        println!("  may be {most} above the hop{}", if met { "" } else { ": MISSED" });
        Ok(met)
    }

    fn hop(&mut self) -> Result<()> {
        let relay: SocketAddr = "10.0.1.254:5000".parse()?;
        let sink = self.net.r.enter(|| Ok(UdpSocket::bind(relay)?))?;
        self.hop_ns = self.cost(&[relay], &sink)?;
        self.row("one hop, nothing between", 0, self.hop_ns);
        Ok(())
    }

    fn forwarding(&self) -> Result<f64> {
        let forward = |on: &'static str| {
            self.net.r.enter(move || Ok(fs::write("/proc/sys/net/ipv4/ip_forward", on)?))
        };
        forward("1")?;
        let ns = self.cost(&["10.0.2.1:5000".parse()?], &self.bob)?;
        forward("0")?;
        self.row("plain forwarding (ip_forward)", 0, ns);
        Ok(ns)
    }

    /// Adds sessions until there are so many, then sends through each in turn.
    fn relay(&self, path: &str, relay: &mut dyn Executor, sessions: usize) -> Result<f64> {
        let have = relay.reports()?.len();
        let all: Vec<_> = (0..sessions).map(session).collect::<Result<_>>()?;
        for some in all[have..].chunks(256) {
            relay.add(some)?;
        }
        let to: Vec<_> = all.iter().map(|session| session.legs[0].local).collect();
        let ns = self.cost(&to, &self.bob)?;
        self.row(path, sessions, ns);
        Ok(ns)
    }

    fn user_space(&self) -> Result<()> {
        // Two sockets a session.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard.max(2 * MANY as u64 + 1000), hard.max(50_000))
            .context("more open files")?;
        self.net.r.enter(|| {
            let mut relay = UserspaceRelay::start()?;
            for sessions in [1, MANY] {
                self.relay("user space", &mut relay, sessions)?;
            }
            Ok(())
        })
    }

    /// Whether it reaches what it is to reach.
    fn module(&self, forwarding_ns: f64) -> Result<bool> {
        let owner = Owner { id: 77, grace_s: 1 };
        let mut relay = self.net.r.enter(|| Ok(KernelRelay::attach(owner)?))?;
        let devices =
            ["to-a", "to-b"].map(|device| self.net.r.enter(move || Ok(if_nametoindex(device)?)));
        let [a, b] = devices;
        let (devices, mut met) = ([a?, b?], true);
        for sessions in [1, MANY] {
            let ns = self.relay("module, PRE_ROUTING", &mut relay, sessions)?;
            met &= self.reaches(ns, forwarding_ns);
            devices.into_iter().try_for_each(|index| relay.add_device(index))?;
            let ns = self.relay("module, ingress", &mut relay, sessions)?;
            met &= self.reaches(ns, forwarding_ns);
            met &= sessions > 1 || self.near_hop(ns)?;
            devices.into_iter().try_for_each(|index| relay.remove_device(index))?;
        }
        let rule = Rule {
            traffic: Traffic::Rtp,
            cpus: Some("0".parse()?),
            priority: Some(6),
            queue: None,
        };
        relay.add_rule(1, &rule)?;
        let ns = self.relay("module, a rule for RTP", &mut relay, MANY)?;
        met &= self.reaches(ns, forwarding_ns);
        self.asked(&mut relay)?;
        relay.detach()?;
        // It frees them after a while, and that is no part of what comes next.
        thread::sleep(Duration::from_secs(2));
        Ok(met)
    }

    /// What it costs that the program asks the module before the stack, about packets that are on their
    /// CPU already: what is to be compared is the program that asks nobody.
    fn asked(&self, relay: &mut KernelRelay) -> Result<()> {
        if !xdp::can_consult() {
            println!("module, asked before the stack: not measured, as it has no types");
            return Ok(());
        }
        self.net.ready_for_xdp(false)?;
        let (mut program, _table) = self.net.r.enter(|| Ok(xdp::load(2)?))?;
        self.net.attach(&mut program)?;
        self.relay("module behind the program", relay, MANY)?;
        program.consult([0])?;
        self.relay("module, asked before", relay, MANY)?;
        let here = xdp::CONSULTED.iter().position(|outcome| *outcome == "steer_here");
        let asked = program.consulted()?[here.context("outcomes")?];
        ensure!(asked >= self.packets as u64, "it was asked about {asked} packets only");
        self.net.detach(&mut program);
        Ok(())
    }

    /// The same for the program; what is compared is measured anew, as the phones' machines work otherwise.
    fn xdp(&mut self, native: bool) -> Result<bool> {
        self.net.ready_for_xdp(native)?;
        println!("{}", if native { "XDP in the drivers" } else { "XDP in the kernel" });
        self.hop()?;
        let forwarding_ns = self.forwarding()?;
        // That has taken leave to ask for routes away again.
        self.net.ready_for_xdp(native)?;
        let legs = u32::try_from(2 * MANY)?;
        let loaded = self.net.r.enter(|| Ok(xdp::load(legs)))?;
        let (mut program, table) = loaded.context("the XDP program")?;
        let wanted = if native { Mode::Native } else { Mode::Generic };
        let modes = self.net.attach(&mut program)?;
        if modes.iter().any(|mode| *mode != wanted) {
            println!("XDP: not measured, as it runs as {modes:?} here");
            self.net.detach(&mut program);
            return Ok(true);
        }
        let mut met = true;
        self.net.r.enter(|| {
            let mut relay = XdpRelay::over(Box::new(UserspaceRelay::start()?), table);
            for sessions in [1, MANY] {
                let before = relayed(&program)?;
                let ns = self.relay("XDP", &mut relay, sessions)?;
                let by_program = relayed(&program)? - before;
                ensure!(by_program >= self.packets as u64, "it relayed {by_program} packets only");
                met &= self.reaches(ns, forwarding_ns);
            }
            Ok(())
        })?;
        self.net.detach(&mut program);
        Ok(met)
    }
}

/// Packets the program has relayed.
fn relayed(program: &xdp::Program) -> Result<u64> {
    let at =
        xdp::OUTCOMES.iter().position(|outcome| *outcome == "media_relayed").context("outcomes")?;
    Ok(program.outcomes()?[at])
}

/// All between the same two phones.
fn session(number: usize) -> Result<Session> {
    let port = u16::try_from(FIRST_PORT + number)?;
    let leg = |ip: [u8; 4], peer: &str| -> Result<Leg> {
        Ok(Leg::new(SocketAddr::from((ip, port)), Some(peer.parse()?)))
    };
    let legs = [leg([10, 0, 1, 254], "10.0.1.1:4000")?, leg([10, 0, 2, 254], "10.0.2.1:5000")?];
    Ok(Session { id: number as u64, idle_s: 0, legs })
}

fn main() -> Result<()> {
    let wants_module = env::var("VIADUCT_BENCH_MODULE").is_ok_and(|module| module == "1");
    // Cargo has arguments of its own.
    let only: Vec<_> = env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let wanted = |part: &str| only.is_empty() || only.iter().any(|one| one == part);
    let mut bench = Bench::new().context("network namespaces")?;
    println!("{:<28} {:>8} {:>9} {:>9}", "ns a packet", "sessions", "all", "above hop");
    bench.hop()?;
    let forwarding_ns = bench.forwarding()?;
    let mut met = true;
    if wanted("user") {
        bench.user_space()?;
    }
    if wants_module && wanted("module") {
        met &= bench.module(forwarding_ns)?;
    } else {
        println!("kernel module: not measured, it is not said to be loaded, or not asked for");
    }
    if wanted("xdp") {
        for native in [false, true] {
            met &= bench.xdp(native)?;
        }
    }
    ensure!(met || !wants_module, "dearer than {REACH_PERCENT} % of plain forwarding");
    Ok(())
}
