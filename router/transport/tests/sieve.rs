//! The sieve in the kernel: which datagrams it throws away, and that the engine's rule is the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/loaded.rs"]
mod loaded;

use std::net::UdpSocket;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use loaded::loaded;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use viaduct_engine::begins_new;
use viaduct_transport::Sieve;

/// Longest that what must come is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Comes behind what may have been thrown away, and is never.
const MARK: &[u8] = b"SIP/2.0 200 OK\r\n\r\n";

/// A socket with the sieve at it, and one that sends there.
struct Rig {
    sieve: Sieve,
    socket: UdpSocket,
    peer: UdpSocket,
}

impl Rig {
    /// `None` with the reason printed.
    fn open() -> Option<Rig> {
        let sieve = loaded(Sieve::load())?;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.connect(socket.local_addr().unwrap()).unwrap();
        Some(Rig { sieve, socket, peer })
    }

    fn keep(&mut self, thousandths: u16) {
        let sockets: [BorrowedFd<'_>; 1] = [self.socket.as_fd()];
        self.sieve.keep(thousandths, &sockets).unwrap();
    }

    /// Does it come through?
    fn passes(&self, bytes: &[u8]) -> bool {
        self.peer.send(bytes).unwrap();
        self.peer.send(MARK).unwrap();
        let mut room = [0; 4096];
        let first = self.socket.recv(&mut room).unwrap();
        if &room[..first] == MARK {
            return false;
        }
        assert_eq!(&room[..first], bytes);
        let second = self.socket.recv(&mut room).unwrap();
        assert_eq!(&room[..second], MARK);
        true
    }
}

fn request(method: &str, to: &str) -> Vec<u8> {
    format!("{method} sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP x\r\n{to}\r\nCSeq: 1 X\r\n\r\n")
        .into_bytes()
}

#[test]
fn new_requests_are_thrown_away_and_what_belongs_to_a_dialog_or_a_binding_is_not() {
    let Some(mut rig) = Rig::open() else { return };
    rig.keep(0);
    for method in ["INVITE", "MESSAGE", "OPTIONS", "PUBLISH", "REFER", "SUBSCRIBE"] {
        assert!(!rig.passes(&request(method, "To: <sip:a@b>")), "{method}");
        assert!(rig.passes(&request(method, "To: <sip:a@b>;tag=1")), "{method} in a dialog");
    }
    for method in ["REGISTER", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "INVITED"] {
        assert!(rig.passes(&request(method, "To: <sip:a@b>")), "{method}");
    }
    assert!(rig.passes(b"\r\n\r\n") && rig.passes(b"x"));
    assert_eq!(rig.sieve.dropped(), 6);
}

#[test]
fn without_pressure_all_comes_through_again() {
    let Some(mut rig) = Rig::open() else { return };
    let invite = request("INVITE", "To: <sip:a@b>");
    rig.keep(0);
    assert!(!rig.passes(&invite));
    for _ in 0..2 {
        rig.keep(1000);
        assert!(rig.passes(&invite));
    }
    rig.keep(0);
    assert!(!rig.passes(&invite));
}

#[test]
fn the_share_that_is_kept_is_the_one_asked_for() {
    let Some(mut rig) = Rig::open() else { return };
    let invite = request("INVITE", "To: <sip:a@b>");
    rig.keep(250);
    let kept = (0..4_000).filter(|_| rig.passes(&invite)).count();
    // Six standard deviations of the draw.
    assert!((836..=1_164).contains(&kept), "{kept} of 4000 instead of 1000");
}

/// Messages whose To is at any place, in any spelling, folded, cut off, or not there.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![
        Just("INVITE"),
        Just("SUBSCRIBE"),
        Just("OPTIONS"),
        Just("REFER"),
        Just("MESSAGE"),
        Just("PUBLISH"),
        Just("REGISTER"),
        Just("INVITES"),
        Just("SUBSCRIBER"),
        Just("invite"),
        Just(""),
    ];
    let line = prop_oneof![
        3 => "(Via|From|t|T|To|to|tO|Topic|tt|)[ \t]{0,2}:?[ a-zA-Z;=<>@\t]{0,30}(\r\n|\n)",
        2 => "(t|To)[ \t]{0,1}: ?<sip:a@b>;?[ ]?(tag|TAG|tAg|ta|gat|ttag|tatag)?=?1?(\r\n|\n)",
        1 => "[ \t]folded;tag=1\r\n",
        1 => "\r\n",
    ];
    let lines = prop::collection::vec(line, 0..40);
    (method, " ?", lines, any::<prop::sample::Index>(), prop::bool::weighted(0.2)).prop_map(
        |(method, blank, lines, cut, is_cut)| {
            let text = format!("{method}{blank}sip:a@b SIP/2.0\r\n{}", lines.concat());
            let mut bytes = text.into_bytes();
            if is_cut {
                bytes.truncate(cut.index(bytes.len()).max(1));
            }
            bytes
        },
    )
}

#[test]
fn the_engine_and_the_kernel_judge_alike() {
    let Some(mut rig) = Rig::open() else { return };
    rig.keep(0);
    let mut config = ProptestConfig::with_cases(20_000);
    config.failure_persistence = None;
    let mut new = 0;
    let runner = &mut TestRunner::new(config);
    runner
        .run(&messages(), |bytes| {
            // What the kernel does not look at all of is kept there.
            prop_assume!(bytes.len() <= 2048);
            prop_assert_eq!(rig.passes(&bytes), !begins_new(&bytes));
            Ok(())
        })
        .unwrap();
    new += rig.sieve.dropped();
    assert!(new > 1_000, "only {new} new requests were among them");
}
