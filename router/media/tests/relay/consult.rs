//! Steering before the stack: the program in front of it asks the module, and moves packets to the CPU
//! of their rule before PRE_ROUTING has seen them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use viaduct_media::kernel::{Rule, RuleReport, Traffic};
use viaduct_media::session::Counter;
use viaduct_media::xdp::{self, CONSULTED, Mode, Program, XdpFault};
use viaduct_media::{Executor as _, kernel::KernelRelay};
use viaduct_tests::or_skip;

use crate::ingress::{Bare, module};
use crate::packets::rtp;
use crate::phone::Phone;
use crate::stage::PATIENCE;

const PACKETS: u16 = 100;
/// So many are sent before the first is read.
const BURST: u16 = 20;
/// Legs the program itself has room for; it gets none, so that all is the module's.
const LEGS_MAX: u32 = 2;
const SIP: u16 = 5_060;

/// A call through the module, whose rules want all on one CPU, and the program in front of both devices.
struct Asking {
    bare: Bare,
    program: Program,
}

impl Asking {
    fn up(native: bool, cpu: u16) -> Result<Self> {
        let mut bare = Bare::up()?;
        bare.net.ready_for_xdp(native)?;
        let mut program = bare.net.r.enter(|| Ok(xdp::load(LEGS_MAX)?))?.0;
        if native {
            bare.net.r.enter(|| {
                for (name, n) in [("to-a", 1), ("to-b", 2)] {
                    let index = nix::net::if_::if_nametoindex(name)?;
                    program.attach_in_driver(index, [2, 0, 0, 0, n, 0xfe])?;
                }
                Ok(())
            })?;
            ensure!(program.served().all(|(_, mode)| mode == Mode::Native), "{program:?}");
        } else {
            bare.net.attach(&mut program)?;
        }
        for (id, traffic) in [
            (0, Traffic::Rtp),
            (1, Traffic::Sip { udp: true, tcp: true, address: None, ports: SIP..=SIP }),
        ] {
            let cpus = Some(cpu.to_string().parse()?);
            bare.relay.add_rule(id, &Rule { traffic, cpus, priority: None, queue: None })?;
        }
        Ok(Self { bare, program })
    }

    fn consult(&mut self, cpus: &[u16]) -> Result<()> {
        let without = self.program.consult(cpus.iter().copied())?;
        ensure!(without.is_empty(), "this machine has no CPUs {without:?}");
        Ok(())
    }

    /// How often something became of packets at the program.
    fn outcome(&self, name: &str) -> Result<u64> {
        let at = CONSULTED.iter().position(|outcome| *outcome == name).context("an outcome")?;
        Ok(self.program.consulted()?[at])
    }

    /// What the rule for RTP, or that for SIP, has done more than before.
    fn since(&mut self, before: RuleReport) -> Result<RuleReport> {
        let now = report(&mut self.bare.relay, before.id)?;
        Ok(RuleReport {
            id: now.id,
            matched: now.matched - before.matched,
            moved: now.moved - before.moved,
            full: now.full - before.full,
            offline: now.offline - before.offline,
            before_stack: now.before_stack - before.before_stack,
        })
    }

    /// The rule has had nothing to move. What answers a packet that was sent from its CPU comes in there.
    fn all_of_sip_is_in_its_place(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let done = report(&mut self.bare.relay, 1)?;
            let (moved, here) = (self.outcome("steer_moved")?, self.outcome("steer_here")?);
            ensure!(done.moved == 0, "{done:?}");
            if moved == done.before_stack && moved + here == done.matched {
                return Ok(());
            }
            // The last of TCP may still come.
            let all = self.program.consulted()?;
            ensure!(Instant::now() < deadline, "{done:?}, {CONSULTED:?} {all:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// All that alice says arrives, whole and in order. Returns what the rule did with it.
    fn talk(&mut self) -> Result<RuleReport> {
        let before = report(&mut self.bare.relay, 0)?;
        let call = &self.bare.call;
        for first in (0..PACKETS).step_by(BURST.into()) {
            for number in first..first + BURST {
                call.alice.send(call.for_alice, &rtp(number))?;
            }
            for number in first..first + BURST {
                let arrived = call.bob.receive()?;
                ensure!(arrived.data == rtp(number), "another than {number} arrived");
                ensure!(arrived.from == call.for_bob, "it came from {}", arrived.from);
            }
        }
        // A packet is counted when it has been sent.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let done = self.since(before)?;
            if done.matched >= PACKETS.into() {
                return Ok(done);
            }
            ensure!(Instant::now() < deadline, "{done:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn report(relay: &mut KernelRelay, id: u32) -> Result<RuleReport> {
    relay.rules()?.into_iter().find(|rule| rule.id == id).context("the rule")
}

/// What rules do with all of a call's packets: moved by the module, before the stack, or not at all.
fn all(moved: bool, before_stack: bool) -> RuleReport {
    let packets = |are: bool| if are { PACKETS.into() } else { 0 };
    RuleReport {
        matched: PACKETS.into(),
        moved: packets(moved),
        before_stack: packets(before_stack),
        ..RuleReport::default()
    }
}

/// What arrives is of a thread that stays on the first CPU, so it comes in on that.
fn on_the_first_cpu(test: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    thread::scope(|scope| {
        let tested = scope.spawn(|| {
            let mut first = CpuSet::new();
            first.set(0)?;
            sched_setaffinity(Pid::from_raw(0), &first)?;
            test()
        });
        tested.join().unwrap()
    })
}

/// What this needs; the suite in QEMU sees to it that it is there.
fn can_ask() -> Option<()> {
    module().filter(|()| xdp::can_consult() && is_there(1))
}

fn is_there(cpu: u16) -> bool {
    fs::exists(format!("/sys/devices/system/cpu/cpu{cpu}")).unwrap_or(false)
}

const WHY: &str = "only with a kernel module that has types, and two CPUs";

#[test]
fn r_m7_rtp_is_moved_before_the_stack_and_arrives_whole_and_in_order() -> Result<()> {
    or_skip!(can_ask(), "{WHY}");
    on_the_first_cpu(|| {
        for native in [false, true] {
            let mut asking = Asking::up(native, 1)?;
            asking.consult(&[1])?;
            let done = asking.talk()?;
            ensure!(done == all(false, true), "native: {native}, {done:?}");
            ensure!(asking.outcome("steer_moved")? == u64::from(PACKETS));
            let legs = asking.bare.relay.report(asking.bare.call.for_alice)?.legs;
            ensure!(legs[0].counters.get(Counter::Packets) == u64::from(PACKETS));
        }
        Ok(())
    })
}

#[test]
fn r_m7_before_and_after_the_program_asks_the_module_moves_by_its_own_queue() -> Result<()> {
    or_skip!(can_ask(), "{WHY}");
    on_the_first_cpu(|| {
        let mut asking = Asking::up(false, 1)?;
        let done = asking.talk()?;
        ensure!(done == all(true, false), "before it asks: {done:?}");
        for _ in 0..2 {
            asking.consult(&[1])?;
            let done = asking.talk()?;
            ensure!(done == all(false, true), "while it asks: {done:?}");
            asking.program.consult_no_more()?;
            let done = asking.talk()?;
            ensure!(done == all(true, false), "after it has asked: {done:?}");
        }
        Ok(())
    })
}

#[test]
fn sip_over_udp_and_tcp_and_ipv6_is_moved_before_the_stack() -> Result<()> {
    or_skip!(can_ask(), "{WHY}");
    on_the_first_cpu(|| {
        for native in [false, true] {
            let mut asking = Asking::up(native, 1)?;
            asking.consult(&[1])?;
            for (from, to) in
                [("10.0.1.1:5061", "10.0.1.254"), ("[fd00:1::1]:5061", "[fd00:1::fe]")]
            {
                let to: SocketAddr = format!("{to}:{SIP}").parse()?;
                let net = &asking.bare.net;
                let server = net.r.enter(|| Ok(UdpSocket::bind(to)?))?;
                server.set_read_timeout(Some(PATIENCE))?;
                let phone = Phone::new(&net.a, from)?;
                for number in 0..BURST {
                    phone.send(to, &rtp(number))?;
                }
                let mut data = [0; 2_048];
                for number in 0..BURST {
                    let (length, _) = server.recv_from(&mut data)?;
                    ensure!(data[..length] == rtp(number), "another than {number} arrived");
                }
                let moved = asking.outcome("steer_moved")?;
                over_tcp(&asking.bare, to)?;
                ensure!(asking.outcome("steer_moved")? > moved, "TCP was not moved");
            }
            asking.all_of_sip_is_in_its_place()?;
        }
        Ok(())
    })
}

/// A message there and back.
fn over_tcp(bare: &Bare, to: SocketAddr) -> Result<()> {
    let listener = bare.net.r.enter(|| Ok(TcpListener::bind(to)?))?;
    let mut phone = bare.net.a.enter(|| Ok(TcpStream::connect(to)?))?;
    let (mut server, _) = listener.accept()?;
    let message = rtp(1).repeat(100);
    let mut heard = vec![0; message.len()];
    phone.write_all(&message)?;
    server.read_exact(&mut heard)?;
    ensure!(heard == message, "another message");
    server.write_all(&message)?;
    phone.read_exact(&mut heard)?;
    ensure!(heard == message, "another answer");
    Ok(())
}

#[test]
fn what_no_rule_is_about_and_what_is_not_read_goes_up_the_stack() -> Result<()> {
    or_skip!(can_ask(), "{WHY}");
    on_the_first_cpu(|| {
        let mut asking = Asking::up(true, 1)?;
        asking.consult(&[1])?;
        let to: SocketAddr = "10.0.1.254:4444".parse()?;
        let server = asking.bare.net.r.enter(|| Ok(UdpSocket::bind(to)?))?;
        server.set_read_timeout(Some(PATIENCE))?;
        let phone = &asking.bare.call.alice;
        // The second in two fragments.
        let mut data = [0; 2_048];
        for length in [200, 1_700] {
            phone.send(to, &vec![7; length])?;
            ensure!(server.recv_from(&mut data)?.0 == length);
        }
        ensure!(asking.outcome("steer_no_rule")? == 1);
        ensure!(asking.outcome("steer_unread")? == 2);
        // A stranger's packet to a leg is in its place by the same rule, and is refused there.
        let stranger = Phone::new(&asking.bare.net.a, "10.0.1.3:4000")?;
        let leg = asking.bare.call.for_alice;
        stranger.send(leg, &rtp(1))?;
        let deadline = Instant::now() + PATIENCE;
        let foreign = |relay: &mut KernelRelay| -> Result<u64> {
            Ok(relay.report(leg)?.legs[0].counters.get(Counter::Foreign))
        };
        while foreign(&mut asking.bare.relay)? == 0 {
            ensure!(Instant::now() < deadline, "the stranger's packet is not counted");
            thread::sleep(Duration::from_millis(2));
        }
        let done = report(&mut asking.bare.relay, 0)?;
        ensure!((done.moved, done.before_stack) == (0, 1), "{done:?}");
        asking.bare.call.alice_reaches_bob()
    })
}

#[test]
fn a_packet_in_its_place_or_without_a_queue_or_a_checksum_is_the_modules_to_move() -> Result<()> {
    or_skip!(can_ask(), "{WHY}");
    on_the_first_cpu(|| {
        let packets = u64::from(PACKETS);
        let mut asking = Asking::up(true, 0)?;
        asking.consult(&[0])?;
        let done = asking.talk()?;
        ensure!(done == all(false, false), "they are there already: {done:?}");
        ensure!(asking.outcome("steer_here")? == packets);
        drop(asking);

        let mut asking = Asking::up(true, 1)?;
        asking.consult(&[0])?;
        let done = asking.talk()?;
        ensure!(done == all(true, true), "no queue for that CPU: {done:?}");
        ensure!(asking.outcome("steer_no_queue")? == packets);
        asking.consult(&[1])?;
        asking.bare.net.a.ethtool(&["-K", "phone", "tx", "on"])?;
        let done = asking.talk()?;
        ensure!(done == all(true, false), "unfinished checksums: {done:?}");
        ensure!(asking.outcome("steer_checksum")? == packets);
        ensure!(asking.program.consult([9_999])? == [9_999], "there is no such CPU");
        Ok(())
    })
}

/// Puts a CPU on line again, whatever becomes of the test.
struct Offline;

impl Offline {
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";

    fn begin() -> Result<Self> {
        fs::write(Self::SWITCH, "0").context(Self::SWITCH)?;
        Ok(Self)
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        fs::write(Self::SWITCH, "1").unwrap();
    }
}

#[test]
fn a_cpu_that_is_off_line_gets_nothing_and_loses_nothing_when_it_is_back() -> Result<()> {
    or_skip!(can_ask(), "{WHY}");
    on_the_first_cpu(|| {
        let mut asking = Asking::up(false, 1)?;
        asking.consult(&[1])?;
        let offline = Offline::begin()?;
        let done = asking.talk()?;
        let packets = u64::from(PACKETS);
        ensure!((done.offline, done.before_stack) == (packets, 0), "off line: {done:?}");
        ensure!(asking.outcome("steer_no_rule")? == packets);
        drop(offline);
        // The thread of its queue is the kernel's to place; what it brings elsewhere the module moves.
        let done = asking.talk()?;
        ensure!((done.offline, done.before_stack) == (0, packets), "on line again: {done:?}");
        Ok(())
    })
}

#[test]
fn the_module_is_in_use_while_it_is_asked_and_not_for_longer() -> Result<()> {
    or_skip!(can_ask(), "{WHY}");
    let users =
        || -> Result<u64> { Ok(fs::read_to_string("/sys/module/viaduct/refcnt")?.trim().parse()?) };
    let unused = || -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while users()? != 0 {
            ensure!(Instant::now() < deadline, "the module is still in use");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    let mut asking = Asking::up(false, 1)?;
    unused()?;
    for let_go in [false, true] {
        asking.consult(&[1])?;
        let tried = Command::new("rmmod").arg("viaduct").output().context("rmmod")?;
        let said = String::from_utf8_lossy(&tried.stderr);
        ensure!(!tried.status.success() && said.contains("in use"), "it was unloaded: {said}");
        if let_go {
            asking.program.consult_no_more()?;
            unused()?;
        }
    }
    asking.consult(&[1])?;
    drop(asking);
    unused()
}

#[test]
fn a_module_that_cannot_be_asked_moves_by_its_own_queue() -> Result<()> {
    or_skip!(module().filter(|()| is_there(1)), "only with the kernel module, and two CPUs");
    or_skip!((!xdp::can_consult()).then_some(()), "this one can be asked");
    on_the_first_cpu(|| {
        let mut asking = Asking::up(false, 1)?;
        let refused = asking.program.consult([1]);
        ensure!(matches!(refused, Err(XdpFault::NotAsked)), "{refused:?}");
        ensure!(!asking.program.consults());
        let done = asking.talk()?;
        ensure!(done == all(true, false), "{done:?}");
        Ok(())
    })
}
