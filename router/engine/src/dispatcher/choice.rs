//! Which destination, and which next: the order of a set for one request.

use std::cmp::Reverse;
use std::hash::Hasher;
use std::sync::atomic::Ordering;

use siphasher::sip::SipHasher13;

use super::{Destination, Set, State};

/// How a destination is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn.
    RoundRobin,
    /// By chance, in proportion to the weights.
    Weighted,
    /// The same for the same text, in proportion to the weights. A destination that goes down
    /// moves its own share and no other.
    Hash(u64),
    /// Highest priority first; those of equal priority in the order of the configuration.
    Priority,
}

impl Algorithm {
    /// By a text of the message. The key is fixed, so that all routers with the same configuration
    /// choose alike.
    pub fn of_text(text: &[u8]) -> Algorithm {
        let mut hasher = SipHasher13::new_with_keys(0x7669_6164, 0x7563_7400);
        hasher.write(text);
        Algorithm::Hash(hasher.finish())
    }
}

impl Set {
    /// Destinations that are up, the one to try first at the front. `seed` is the run's.
    pub fn order(&self, algorithm: Algorithm, seed: u64) -> Vec<&Destination> {
        let up = self.destinations.iter().filter(|d| d.state() == State::Up);
        let mut order: Vec<&Destination> = up.collect();
        match algorithm {
            Algorithm::RoundRobin if !order.is_empty() => {
                let turn = self.turn.load(Ordering::Relaxed) % order.len();
                order.rotate_left(turn);
            }
            Algorithm::RoundRobin => {}
            Algorithm::Weighted => by_score(&mut order, seed),
            Algorithm::Hash(key) => by_score(&mut order, key),
            Algorithm::Priority => order.sort_by_key(|d| Reverse(d.config.priority)),
        }
        order
    }
}

/// Weighted rendezvous hashing: each destination draws a number from its own hash of the key, and
/// the best comes first. What one draws does not depend on who else is there.
fn by_score(order: &mut [&Destination], key: u64) {
    let score = |destination: &Destination| {
        let mut hasher = SipHasher13::new_with_keys(key, 0x6469_7370);
        hasher.write(destination.config.uri.as_bytes());
        // 53 bits: what a f64 holds exactly; the half keeps it off 0 and 1.
        let unit = ((hasher.finish() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -unit.ln() / f64::from(destination.config.weight.max(1))
    };
    order.sort_by(|a, b| score(a).total_cmp(&score(b)));
}
