//! Random traffic against the engine: whatever comes in whatever order, nothing panics, every
//! request gets at most one final answer (but further 2xx to an INVITE), and when the traffic stops
//! everything ends. A failing case prints its seed.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use std::collections::HashMap;

use viaduct_engine::{Input, Phase, Run, Token, Verdict};
use world::{ALICE, BOB, CAROL, Sent, World, request, settings};

/// A small generator with good spread, so that a seed replays a case exactly.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.roll(of.len())) }
    }
}

#[derive(Default)]
struct Seen {
    /// Requests that reached a next hop, to be answered.
    downstream: Vec<Sent>,
    /// Requests of ours, to be sent again or cancelled.
    requests: Vec<String>,
    /// Of them: those young enough for a retransmission, a CANCEL, an ACK.
    young: Vec<String>,
    /// Final statuses by Call-ID and CSeq method.
    finals: HashMap<(String, String), Vec<u16>>,
    tokens: Vec<Token>,
}

impl Seen {
    fn note(&mut self, sent: &[Sent]) {
        for message in sent {
            self.tokens.push(message.token);
            if message.method() == "SIP/2.0" {
                if message.status() >= 200 && message.to == ALICE.parse().unwrap() {
                    let method = message.header("CSeq").split(' ').nth(1).unwrap().to_owned();
                    let key = (message.header("Call-ID").to_owned(), method);
                    let finals = self.finals.entry(key).or_default();
                    if !finals.contains(&message.status()) {
                        finals.push(message.status());
                    }
                }
            } else if message.method() != "ACK" {
                self.downstream.push(message.clone());
            }
        }
    }
}

fn world(mut dice: Dice) -> World {
    let phases = [Phase::Request, Phase::Branch, Phase::Reply, Phase::Failure];
    World::with(settings(), &phases, move |phase, run: &mut Run| match phase {
        // Decided by the message alone: a retransmission of what was answered without state is
        // decided again (RFC 3261 8.2.7).
        Phase::Request => match run.message().call_id().unwrap().last().map_or(0, |c| c % 8) {
            0 => Ok(Verdict::Reply { status: 404, reason: "".into() }),
            1 => Ok(Verdict::Relay),
            n => {
                let q = [1000, 500];
                run.add_target(&format!("sip:bob@{BOB}"), q[n as usize % 2]).unwrap();
                run.add_target(&format!("sip:carol@{CAROL}"), q[n as usize / 4]).unwrap();
                run.record_route();
                Ok(Verdict::Relay)
            }
        },
        Phase::Branch if dice.roll(20) == 0 => Ok(Verdict::Drop),
        Phase::Failure if dice.roll(4) == 0 => {
            run.add_target(&format!("sip:again@{CAROL}"), 1000).unwrap();
            Ok(Verdict::Relay)
        }
        _ => Ok(Verdict::Continue),
    })
}

fn step(world: &mut World, seen: &mut Seen, dice: &mut Dice, n: u32) {
    const ANSWERS: [(u16, &str); 9] = [
        (100, "Trying"),
        (180, "Ringing"),
        (183, "Progress"),
        (200, "OK"),
        (302, "Moved"),
        (407, "Auth"),
        (486, "Busy"),
        (503, "No"),
        (603, "Decline"),
    ];
    let sent = match dice.roll(10) {
        0 | 1 => {
            let method = ["INVITE", "MESSAGE", "OPTIONS"][dice.roll(3)];
            let text = request(method, "sip:bob@example.com", ALICE, &format!("c{n}"), "");
            seen.requests.push(text.clone());
            seen.young.push(text.clone());
            world.udp(ALICE, &text)
        }
        2..=5 => match dice.pick(&seen.downstream).cloned() {
            Some(message) => {
                let (status, reason) = ANSWERS[dice.roll(ANSWERS.len())];
                let from = message.to.to_string();
                world.udp(&from, &message.answer(status, reason, ""))
            }
            None => Vec::new(),
        },
        6 => match dice.pick(&seen.young).cloned() {
            Some(again) => world.udp(ALICE, &again),
            None => Vec::new(),
        },
        7 => match dice.pick(&seen.young).filter(|r| r.starts_with("INVITE")).cloned() {
            Some(invite) => {
                let method = ["CANCEL", "ACK"][dice.roll(2)];
                let text = invite
                    .replacen("INVITE", method, 1)
                    .replace("1 INVITE", &format!("1 {method}"));
                world.udp(ALICE, &text)
            }
            None => Vec::new(),
        },
        8 => match dice.pick(&seen.tokens).copied() {
            Some(token) => world.input(Input::SendFailed { token }),
            None => Vec::new(),
        },
        _ => {
            let ms = [1, 100, 600, 5_000, 40_000][dice.roll(5)];
            if ms > 600 {
                seen.young.clear();
            }
            world.advance(ms)
        }
    };
    seen.note(&sent);
}

#[test]
fn whatever_comes_everything_ends_and_nobody_gets_two_final_answers() {
    for seed in 1..=200u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut world = world(Dice(seed.wrapping_add(0x1234_5678)));
        let mut seen = Seen::default();
        for n in 0..120 {
            step(&mut world, &mut seen, &mut dice, n);
        }
        let sent = world.advance(800_000);
        seen.note(&sent);
        assert_eq!(world.engine.transactions(), 0, "seed {seed}: something never ends");
        for ((call, method), finals) in &seen.finals {
            let failures = finals.iter().filter(|status| **status >= 300).count();
            let successes = finals.len() - failures;
            assert!(failures <= 1, "seed {seed}: {method} {call} ended by {finals:?}");
            assert!(
                failures == 0 || successes == 0,
                "seed {seed}: {method} {call} succeeded and failed: {finals:?}"
            );
        }
        for text in seen.requests.iter().filter(|r| r.starts_with("INVITE")) {
            let call = text.lines().find(|l| l.starts_with("Call-ID")).unwrap();
            let call = call.split(": ").nth(1).unwrap().to_owned();
            let key = (call, "INVITE".to_owned());
            assert!(seen.finals.contains_key(&key), "seed {seed}: {} was never answered", key.0);
        }
    }
}

#[test]
fn mutilated_messages_cause_no_panic_and_no_state_that_stays() {
    for seed in 1..=300u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut world = world(Dice(seed));
        for n in 0..40 {
            let method = ["INVITE", "REGISTER", "ACK", "CANCEL", "BYE", "OPTIONS"][dice.roll(6)];
            let extra = "Route: <sip:192.0.2.1;lr>, <sip:x@192.0.2.9;lr>\r\nContact: <sip:a@b>\r\n";
            let text = request(method, "sip:bob@example.com", ALICE, &format!("m{n}"), extra);
            let mut bytes = text.into_bytes();
            for _ in 0..dice.roll(6) {
                let at = dice.roll(bytes.len());
                match dice.roll(3) {
                    0 => bytes[at] = dice.roll(256) as u8,
                    1 => {
                        bytes.remove(at);
                    }
                    _ => bytes.insert(at, b",;<>\"\r\n:@ %\0"[dice.roll(12)]),
                }
            }
            let flow = World::flow(ALICE, viaduct_engine::Transport::Udp);
            world.input(Input::Message { flow, bytes: &bytes });
        }
        world.advance(800_000);
        assert_eq!(world.engine.transactions(), 0, "seed {seed}");
    }
}
