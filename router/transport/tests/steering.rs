//! The steering programs, run by the kernel on packets of a table: packet in, verdict and owner out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/frame.rs"]
mod frame;
#[path = "support/loaded.rs"]
mod loaded;
#[path = "steering/messages.rs"]
mod messages;
#[path = "steering/table.rs"]
mod table;
#[path = "support/test_run.rs"]
mod test_run;

use std::net::SocketAddr;

use aya::programs::ProgramFd;
use frame::{Frame, MAC};
use loaded::loaded;
use viaduct_engine::shard;
use viaduct_transport::xdp::Program;
use viaduct_transport::xdp::layout::{Settings, VERDICTS};

const WORKERS: u32 = 4;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const V4: &str = "192.0.2.1:5060";
const V6: &str = "[2001:db8::1]:5060";
const TAGGED: &str = "192.0.2.2:5060";

struct Rig {
    program: Program,
    steer: ProgramFd,
    choose: ProgramFd,
}

impl Rig {
    /// The programs in the kernel, or `None` with the reason printed.
    fn open(change: impl FnOnce(&mut Settings)) -> Option<Rig> {
        let mut program = loaded(Program::load())?;
        let mut settings =
            Settings { workers: WORKERS, longest_frame: 1_792, mac: MAC, ..Settings::default() };
        change(&mut settings);
        program.set(settings).unwrap();
        for (addr, vlan) in [(V4, 0), (V6, 0), (TAGGED, 100)] {
            program.listen(addr.parse::<SocketAddr>().unwrap(), vlan).unwrap();
        }
        let (steer, choose) = program.fds().unwrap();
        Some(Rig { program, steer, choose })
    }

    /// Action and verdict of `steer`. Without sockets, what would be redirected is `no_socket`.
    fn steer(&self, packet: &[u8]) -> (u32, &'static str) {
        let before = self.program.verdicts().unwrap();
        let (action, _) = test_run::run(&self.steer, packet, 1).unwrap();
        let after = self.program.verdicts().unwrap();
        let counted: Vec<usize> =
            (0..VERDICTS.len()).filter(|verdict| after[*verdict] != before[*verdict]).collect();
        assert_eq!(counted.len(), 1, "each packet has one verdict: {before:?} {after:?}");
        (action, VERDICTS[counted[0]])
    }

    /// The owner that `choose` names. A test run takes the link layer's header off, so that the
    /// program sees what a socket's program sees: the payload.
    fn owner(&self, payload: &[u8]) -> Option<u8> {
        let packet = [&[0; 12], &[0x08, 0x06][..], payload].concat();
        let (place, _) = test_run::run(&self.choose, &packet, 1).unwrap();
        u8::try_from(place).ok()
    }
}

#[test]
fn each_kind_of_packet_has_its_verdict() {
    let Some(rig) = Rig::open(|_| {}) else { return };
    let cases = table::cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for (what, packet, verdict) in &cases {
        let (action, given) = rig.steer(packet);
        if (action, given) != (XDP_PASS, *verdict) {
            wrong.push(format!("{what}: {given} ({action}), not {verdict}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_for_no_listener_or_no_udp_goes_to_the_next_program_where_there_is_one() {
    let (Some(mut first), Some(second)) = (Rig::open(|_| {}), Rig::open(|_| {})) else { return };
    let media = Frame::new("192.0.2.9:4000", "192.0.2.1:30000", &[0x80; 172]).bytes();
    assert_eq!(first.steer(&media), (XDP_PASS, "not_ours"));
    first.program.chain(&second.steer).unwrap();
    let counts = |rig: &Rig| rig.program.verdicts().unwrap().iter().sum::<u64>();
    let before = [counts(&first), counts(&second)];
    assert_eq!(test_run::run(&first.steer, &media, 1).unwrap().0, XDP_PASS);
    assert_eq!([counts(&first), counts(&second)], [before[0], before[1] + 1]);
    let tcp = Frame::new("192.0.2.9:4000", V4, table::OPTIONS).with(|f| f.protocol = 6).bytes();
    assert_eq!(test_run::run(&first.steer, &tcp, 1).unwrap().0, XDP_PASS);
    assert_eq!([counts(&first), counts(&second)], [before[0], before[1] + 2]);
    let sip = Frame::new("198.51.100.7:5060", V4, table::OPTIONS).bytes();
    assert_eq!(first.steer(&sip), (XDP_PASS, "no_socket"));
}

#[test]
fn damaged_packets_go_up_the_stack_whatever_the_damage() {
    let Some(rig) = Rig::open(|_| {}) else { return };
    let mut random = messages::Random(7);
    for _ in 0..20_000 {
        let mut packet = Frame::new("192.0.2.9:5060", V4, &messages::message(&mut random)).bytes();
        for _ in 0..random.below(4) + 1 {
            let at = random.below(packet.len());
            packet[at] = random.below(256) as u8;
        }
        packet.truncate(packet.len() - random.below(packet.len() - 14));
        assert_eq!(test_run::run(&rig.steer, &packet, 1).unwrap().0, XDP_PASS);
    }
}

#[test]
fn programs_and_engine_name_the_same_owner_of_100_000_messages() {
    let Some(rig) = Rig::open(|_| {}) else { return };
    let mut random = messages::Random(1);
    let (mut named, mut per_worker) = (0u32, [0u32; WORKERS as usize]);
    for n in 0..100_000 {
        let message = messages::message(&mut random);
        let expected = shard::owner(&message, WORKERS as u8);
        let owner = rig.owner(&message);
        let text = String::from_utf8_lossy(&message);
        assert_eq!(owner, expected, "message {n} of {} bytes:\n{text}", message.len());
        if let Some(owner) = owner {
            named += 1;
            per_worker[usize::from(owner)] += 1;
        }
    }
    assert!(named > 50_000, "{named}");
    assert!(per_worker.iter().all(|count| *count > named / 8), "{per_worker:?}");
}

#[test]
fn beyond_2048_bytes_nobody_is_named_and_the_engine_hands_over() {
    let Some(rig) = Rig::open(|_| {}) else { return };
    let long = format!("INVITE sip:a@b SIP/2.0\r\nX: {}\r\nCall-ID: 1\r\n\r\n", "x".repeat(2048));
    assert_eq!(rig.owner(long.as_bytes()), None);
    assert!(shard::owner(long.as_bytes(), WORKERS as u8).is_some());
}

#[test]
fn a_banned_source_is_dropped_until_its_time_is_over() {
    let Some(mut rig) = Rig::open(|settings| settings.banning = 1) else { return };
    let packet = Frame::new("198.51.100.7:5060", V4, table::OPTIONS).bytes();
    let other = Frame::new("198.51.100.8:5060", V4, table::OPTIONS).bytes();
    let source = "198.51.100.7".parse().unwrap();
    rig.program.ban(source, u64::MAX).unwrap();
    assert_eq!(rig.steer(&packet), (XDP_DROP, "banned"));
    assert_eq!(rig.steer(&other), (XDP_PASS, "no_socket"));
    rig.program.ban(source, 1).unwrap();
    assert_eq!(rig.steer(&packet), (XDP_PASS, "no_socket"));
    rig.program.ban(source, u64::MAX).unwrap();
    assert!(rig.program.unban(source).unwrap());
    assert!(!rig.program.unban(source).unwrap());
    assert_eq!(rig.steer(&packet), (XDP_PASS, "no_socket"));
}

#[test]
fn a_source_above_its_rate_is_dropped_and_others_are_not() {
    let slow = |settings: &mut Settings| (settings.per_second, settings.burst) = (1, 3);
    let Some(rig) = Rig::open(slow) else { return };
    for source in ["198.51.100.7:5060", "[2001:db8::9]:5060"] {
        let target = if source.starts_with('[') { V6 } else { V4 };
        let packet = Frame::new(source, target, table::OPTIONS).bytes();
        for _ in 0..3 {
            assert_eq!(rig.steer(&packet), (XDP_PASS, "no_socket"));
        }
        assert_eq!(rig.steer(&packet), (XDP_DROP, "too_fast"));
    }
}
