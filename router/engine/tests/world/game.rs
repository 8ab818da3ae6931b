//! A game with the engine: requests, answers, retransmissions, CANCEL, ACK, lost packets and time in
//! an order that chance or a fuzzer decides.

use std::collections::HashMap;

use viaduct_engine::{Input, Phase, Run, Token, Verdict};

use super::{ALICE, BOB, CAROL, Sent, World, request, settings};

/// What decides: a small generator with good spread, so that a seed replays a game exactly, or the
/// bytes of a fuzzer.
pub enum Dice {
    Seed(u64),
    Bytes(std::vec::IntoIter<u8>),
}

impl Dice {
    /// 0 to `sides` - 1. Bytes that are used up give 0.
    pub fn roll(&mut self, sides: usize) -> usize {
        match self {
            Dice::Seed(seed) => {
                *seed ^= *seed << 13;
                *seed ^= *seed >> 7;
                *seed ^= *seed << 17;
                (*seed >> 11) as usize % sides
            }
            Dice::Bytes(bytes) => usize::from(bytes.next().unwrap_or(0)) % sides,
        }
    }

    /// Has a fuzzer nothing more to say?
    pub fn is_used_up(&self) -> bool {
        matches!(self, Dice::Bytes(bytes) if bytes.len() == 0)
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.roll(of.len())) }
    }
}

/// What was seen of a game.
#[derive(Default)]
pub struct Seen {
    /// Requests that reached a next hop, to be answered.
    pub downstream: Vec<Sent>,
    /// Requests of ours, to be sent again or cancelled.
    pub requests: Vec<String>,
    /// Of them: those young enough for a retransmission, a CANCEL, an ACK.
    pub young: Vec<String>,
    /// Time since the young were forgotten.
    pub passed_ms: u64,
    /// Final statuses by Call-ID and CSeq method.
    pub finals: HashMap<(String, String), Vec<u16>>,
    pub tokens: Vec<Token>,
}

impl Seen {
    pub fn note(&mut self, sent: &[Sent]) {
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

/// An engine to play with.
pub fn world(mut dice: Dice) -> World {
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

/// One move.
pub fn step(world: &mut World, seen: &mut Seen, dice: &mut Dice, n: u32) {
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
            seen.passed_ms += ms;
            if seen.passed_ms > 600 {
                seen.passed_ms = 0;
                seen.young.clear();
            }
            world.advance(ms)
        }
    };
    seen.note(&sent);
}

/// Time passes until nothing can be left, and what was seen is judged. `what` names the game.
pub fn finish(world: &mut World, seen: &mut Seen, what: &str) {
    let sent = world.advance(800_000);
    seen.note(&sent);
    assert_eq!(world.engine.transactions(), 0, "{what}: something never ends");
    for ((call, method), finals) in &seen.finals {
        let failures = finals.iter().filter(|status| **status >= 300).count();
        let successes = finals.len() - failures;
        assert!(failures <= 1, "{what}: {method} {call} ended by {finals:?}");
        assert!(
            failures == 0 || successes == 0,
            "{what}: {method} {call} succeeded and failed: {finals:?}"
        );
    }
    for text in seen.requests.iter().filter(|r| r.starts_with("INVITE")) {
        let call = text.lines().find(|l| l.starts_with("Call-ID")).unwrap();
        let call = call.split(": ").nth(1).unwrap().to_owned();
        let key = (call, "INVITE".to_owned());
        assert!(seen.finals.contains_key(&key), "{what}: {} was never answered", key.0);
    }
}
