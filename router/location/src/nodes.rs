//! Which of the routers that share a store live, and who stands in for one that does not.
//!
//! Each router tells the store every few seconds that it lives, and reads who else did. All use the
//! same rule on the same list, so they agree on who stands in without talking to each other. While
//! their lists differ, which passes within seconds, a contact may be pinged twice or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use viaduct_engine::AorKey;

/// Routers of a cluster that are looked at.
pub(crate) const MOST_NODES: usize = 256;

/// Shared by who reads the list and who asks.
#[derive(Clone, Default)]
pub(crate) struct Nodes {
    heard: Arc<RwLock<Heard>>,
    /// Starts of routers whose names are kept.
    starts: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Heard {
    live: Option<Arc<Live>>,
    at: Option<Instant>,
    /// For so long a list counts: who is cut off from the store stands in for nobody.
    holds: Duration,
}

/// The routers that live, as of a moment.
pub(crate) struct Live {
    me: Box<str>,
    nodes: Vec<Box<str>>,
}

impl Nodes {
    /// Takes a list read just now.
    pub(crate) fn heard(&self, me: &str, nodes: Vec<Box<str>>, holds: Duration) {
        let live = Some(Arc::new(Live { me: me.into(), nodes }));
        *self.heard.write() = Heard { live, at: Some(Instant::now()), holds };
    }

    /// `None`: there is no list, or it is too old.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        let heard = self.heard.read();
        let holds = heard.at.is_some_and(|at| at.elapsed() < heard.holds);
        heard.live.clone().filter(|_| holds)
    }

    /// The list names nobody else.
    pub(crate) fn is_alone(&self) -> bool {
        self.live().is_some_and(|live| live.nodes.iter().all(|node| *node == live.me))
    }

    /// Routers in the list.
    pub(crate) fn len(&self) -> usize {
        self.live().map_or(0, |live| live.nodes.len())
    }

    /// Names of so many starts of routers are kept now.
    pub(crate) fn note_starts(&self, starts: usize) {
        self.starts.store(starts, Ordering::Relaxed);
    }

    /// What was noted last.
    pub(crate) fn starts(&self) -> usize {
        self.starts.load(Ordering::Relaxed)
    }
}

impl Live {
    /// Does this router do for an AoR what `home`, which is dead, cannot do any more? Of those that
    /// live the one with the greatest weight does: when one more dies, only its AoRs move.
    pub(crate) fn stands_in(&self, home: &str, key: &AorKey) -> bool {
        if self.nodes.iter().any(|node| **node == *home) {
            return false;
        }
        let greatest = self.nodes.iter().max_by_key(|node| (weight(node, key), &**node));
        greatest.is_some_and(|node| *node == self.me)
    }
}

/// The same at every router and in every version: FNV-1a of 64 bits, its bits mixed once more.
fn weight(node: &str, key: &AorKey) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let parts = [node.as_bytes(), b"\0", key.table.as_bytes(), b"\0", &key.aor];
    let bytes = parts.into_iter().flatten();
    let hash = bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(me: &str, nodes: &[&str]) -> Live {
        Live { me: me.into(), nodes: nodes.iter().map(|node| (*node).into()).collect() }
    }

    fn key(number: usize) -> AorKey {
        AorKey { table: "location".into(), aor: format!("u{number}@x").into_bytes().into() }
    }

    #[test]
    fn of_those_that_live_exactly_one_stands_in_and_each_for_its_share() {
        let nodes = ["a", "b", "c"];
        let mut shares = [0usize; 3];
        for number in 0..3000 {
            let who: Vec<usize> = (0..3)
                .filter(|n| live(nodes[*n], &nodes).stands_in("dead", &key(number)))
                .collect();
            assert_eq!(who.len(), 1);
            shares[who[0]] += 1;
        }
        assert!(shares.iter().all(|share| (800..1200).contains(share)), "{shares:?}");
    }

    #[test]
    fn nobody_stands_in_for_one_that_lives_and_one_more_death_moves_only_its_own() {
        for number in 0..300 {
            assert!(!live("a", &["a", "b"]).stands_in("b", &key(number)));
            let before = live("a", &["a", "b", "c"]).stands_in("dead", &key(number));
            let after = live("a", &["a", "b"]).stands_in("dead", &key(number));
            assert!(after || !before);
        }
    }

    #[test]
    fn alone_is_who_knows_that_there_is_nobody_else() {
        let nodes = Nodes::default();
        assert!(!nodes.is_alone());
        for (names, alone) in [(&["a"][..], true), (&["b", "a"], false), (&[], true)] {
            let names = names.iter().map(|node| (*node).into()).collect();
            nodes.heard("a", names, Duration::from_secs(3600));
            assert_eq!(nodes.is_alone(), alone);
        }
        nodes.heard("a", vec!["a".into()], Duration::ZERO);
        assert!(!nodes.is_alone());
    }

    #[test]
    fn a_list_counts_for_a_while_only() {
        let nodes = Nodes::default();
        assert!(nodes.live().is_none());
        nodes.heard("a", vec!["a".into()], Duration::from_secs(3600));
        assert!(nodes.live().is_some());
        nodes.heard("a", vec!["a".into()], Duration::ZERO);
        assert!(nodes.live().is_none());
    }
}
