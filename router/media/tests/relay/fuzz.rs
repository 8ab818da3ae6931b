//! Netlink messages nobody should send, at the module: every one is answered, none hurts it.
//! `VIADUCT_FUZZ` says how many; the seed is printed.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use crate::stage;
use crate::stage::Call;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLA_F_NESTED: u16 = 0x8000;

/// splitmix64: a seed repeats a run anywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// An attribute; now and then its length is a lie.
fn attr(random: &mut Random, kind: u16, value: &[u8]) -> Vec<u8> {
    let mut len = value.len() as u16 + 4;
    if random.below(40) == 0 {
        len = random.next() as u16;
    }
    let mut out = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Attributes of a leg: mostly such as make sense, so that the deeper checks are reached.
fn leg(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for kind in 2..=19u16 {
        // Both local attributes are nearly always there.
        if kind > 3 && random.below(3) == 0 || random.below(30) == 0 {
            continue;
        }
        let value: Vec<u8> = match (kind, random.below(12)) {
            (_, 0) => random.next().to_ne_bytes().repeat(3)[..random.below(24) as usize].to_vec(),
            (2 | 4, 1) => random.next().to_ne_bytes().repeat(2),
            (2 | 4, _) => vec![10, 0, 1 + random.below(2) as u8, random.below(5) as u8],
            (3 | 5 | 13, _) => (30_000 + random.below(8) as u16).to_ne_bytes().to_vec(),
            (9 | 14, _) => vec![random.below(70) as u8],
            (12, _) => vec![0xff; 16],
            _ => (random.next() as u32 >> random.below(32)).to_ne_bytes().to_vec(),
        };
        out.extend(attr(random, kind, &value));
    }
    out
}

fn session(random: &mut Random) -> Vec<u8> {
    let (a, b) = (leg(random), leg(random));
    let mut out = attr(random, 5 | NLA_F_NESTED, &a);
    if random.below(8) != 0 {
        out.extend(attr(random, 6 | NLA_F_NESTED, &b));
    }
    if random.below(2) == 0 {
        let idle = random.below(90_000) as u32;
        out.extend(attr(random, 4, &idle.to_ne_bytes()));
    }
    out
}

fn message(random: &mut Random, family: u16, sequence: u32) -> Vec<u8> {
    // Attaching and detaching come rarely, or nothing else would get far.
    let mut command = [3, 2, 1, 4, 4, 4, 5, 5, 6, 7, 7][random.below(11) as usize];
    if random.below(50) == 0 {
        command = random.next() as u8;
    }
    let mut attrs = Vec::new();
    if command == 2 || random.below(10) == 0 {
        let owner = 1 + random.below(3);
        attrs.extend(attr(random, 3, &owner.to_ne_bytes()));
    }
    let of_session = session(random);
    match command {
        4 => {
            let mut list = attr(random, 1 | NLA_F_NESTED, &of_session);
            for _ in 0..random.below(3) {
                let more = session(random);
                list.extend(attr(random, 2 | NLA_F_NESTED, &more));
            }
            attrs.extend(attr(random, 5 | NLA_F_NESTED, &list));
        }
        _ => attrs.extend(attr(random, 6 | NLA_F_NESTED, &of_session)),
    }
    for _ in 0..random.below(3) {
        let at = random.below(attrs.len().max(1) as u64) as usize;
        if let Some(octet) = attrs.get_mut(at).filter(|_| random.below(3) == 0) {
            *octet ^= 1 << random.below(8);
        }
    }
    let dump = if command == 7 && random.below(4) == 0 { NLM_F_DUMP } else { 0 };
    let flags = NLM_F_REQUEST | NLM_F_ACK | dump;
    let mut out = (20 + attrs.len() as u32).to_ne_bytes().to_vec();
    out.extend([family.to_ne_bytes(), flags.to_ne_bytes()].concat());
    out.extend([sequence.to_ne_bytes(), [0; 4]].concat());
    out.extend([command, 1, 0, 0]);
    out.extend(attrs);
    out
}

/// The number of the family, from the list `genl` keeps.
fn family() -> Result<u16> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut ask = (20u32 + 12).to_ne_bytes().to_vec();
    ask.extend([16u16.to_ne_bytes(), NLM_F_REQUEST.to_ne_bytes()].concat());
    ask.extend([0; 8]);
    ask.extend([3, 1, 0, 0, 12, 0, 2, 0]);
    ask.extend(b"viaduct\0");
    socket.send(&ask, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    // The first attributes are the name and the number.
    let at = answer.windows(4).position(|octets| octets == [6, 0, 1, 0]).context("no number")?;
    Ok(u16::from_ne_bytes([answer[at + 4], answer[at + 5]]))
}

#[test]
fn r_m9_random_and_damaged_messages_are_answered_and_do_no_harm() -> Result<()> {
    let mut stage = stage!(module);
    let call = Call::up(&mut stage)?;
    let inputs = env::var("VIADUCT_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(5_000u32);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    println!("{inputs} messages, seed {seed}");
    // In the namespace of alice, whose legs are not those of the call.
    stage.net.a.enter(move || {
        let family = family()?;
        let mut random = Random(seed);
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        for sequence in 1..=inputs {
            socket.send(&message(&mut random, family, sequence), 0)?;
            answered(&socket, sequence).with_context(|| format!("message {sequence}"))?;
        }
        Ok(())
    })?;
    call.alice_reaches_bob()?;
    assert_eq!(stage.relay.reports()?.len(), 1);
    Ok(())
}

/// Waits for the acknowledgement, the refusal or the end of the dump.
fn answered(socket: &Socket, sequence: u32) -> Result<()> {
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut left = datagram.as_slice();
        while left.len() >= 16 {
            let field = |at: usize| {
                u32::from_ne_bytes([left[at], left[at + 1], left[at + 2], left[at + 3]])
            };
            let kind = u16::from_ne_bytes([left[4], left[5]]);
            if field(8) == sequence && (kind == 2 || kind == 3) {
                return Ok(());
            }
            let len = (field(0) as usize).max(16).next_multiple_of(4);
            left = left.get(len..).unwrap_or_default();
        }
    }
}

#[test]
fn messages_of_the_fuzzer_are_whole() {
    let mut random = Random(1);
    for sequence in 0..500 {
        let message = message(&mut random, 30, sequence);
        assert_eq!(
            u32::from_ne_bytes([message[0], message[1], message[2], message[3]]) as usize,
            message.len()
        );
    }
}
