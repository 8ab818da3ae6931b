//! The nodes, which of them are up, and which one a new call goes to.

use std::hash::Hasher as _;
use std::net::SocketAddr;

use siphasher::sip::SipHasher13;

/// A node as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Where it listens for ng commands, UDP.
    pub address: SocketAddr,
    /// Share of new calls, 1 to 1000: one with 2 gets twice as many as one with 1.
    pub weight: u16,
}

/// A node as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// As configured.
    pub config: NodeConfig,
    /// It has answered last; else it is left out.
    pub up: bool,
    /// When it is pinged next, where it is down; milliseconds of the caller's clock.
    pub(super) ping_ms: u64,
    /// A ping is under way.
    pub(super) is_pinged: bool,
    /// When it has answered last.
    pub(super) heard_ms: Option<u64>,
    /// Answers it has given.
    pub answers: u64,
    /// Commands it has not answered.
    pub timeouts: u64,
}

/// All of them.
pub(super) struct Nodes(pub(super) Vec<NodeState>);

impl Nodes {
    pub(super) fn new(configs: &[NodeConfig]) -> Nodes {
        let state = |config: &NodeConfig| NodeState {
            config: *config,
            up: true,
            ping_ms: 0,
            is_pinged: false,
            heard_ms: None,
            answers: 0,
            timeouts: 0,
        };
        Nodes(configs.iter().map(state).collect())
    }

    /// The node a call goes to: the same for all routers with these nodes, and for most calls the
    /// same when a node comes or goes (weighted rendezvous hashing). Those `tried` and those down are
    /// left out; `None`: nobody is left.
    pub(super) fn choose(&self, call_id: &[u8], tried: &[usize]) -> Option<usize> {
        let open = self.0.iter().enumerate();
        let open = open.filter(|(index, node)| node.up && !tried.contains(index));
        let scored = open.map(|(index, node)| (index, score(call_id, &node.config)));
        scored.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index)
    }
}

/// Of all nodes the one with the highest has the call; the logarithm makes shares follow weights.
fn score(call_id: &[u8], node: &NodeConfig) -> f64 {
    // No secret: all routers are to choose alike.
    let mut hasher = SipHasher13::new();
    hasher.write(node.address.to_string().as_bytes());
    hasher.write(&[0]);
    hasher.write(call_id);
    // The upper bits, put between 0 and 1 without touching either.
    let drawn = ((hasher.finish() >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
    -f64::from(node.weight) / drawn.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(weights: &[u16]) -> Nodes {
        let node = |(n, weight): (usize, &u16)| NodeConfig {
            address: ([192, 0, 2, n as u8], 2223).into(),
            weight: *weight,
        };
        Nodes::new(&weights.iter().enumerate().map(node).collect::<Vec<_>>())
    }

    fn shares(nodes: &Nodes) -> Vec<usize> {
        let mut shares = vec![0; nodes.0.len()];
        for n in 0..6_000 {
            shares[nodes.choose(format!("call-{n}").as_bytes(), &[]).unwrap()] += 1;
        }
        shares
    }

    #[test]
    fn calls_are_shared_by_weight() {
        let shares = shares(&nodes(&[1, 2, 3]));
        for (share, wanted) in shares.iter().zip([1_000, 2_000, 3_000]) {
            assert!(share.abs_diff(wanted) < 200, "{shares:?}");
        }
    }

    #[test]
    fn a_node_that_goes_down_takes_only_its_own_calls_elsewhere() {
        let mut nodes = nodes(&[1, 1, 1]);
        let ids: Vec<String> = (0..500).map(|n| format!("call-{n}")).collect();
        let before: Vec<_> = ids.iter().map(|id| nodes.choose(id.as_bytes(), &[])).collect();
        nodes.0[1].up = false;
        for (id, before) in ids.iter().zip(before) {
            let after = nodes.choose(id.as_bytes(), &[]);
            assert!(after == before || before == Some(1) && after != Some(1), "{id}");
            // Whoever is tried and does not answer gives way to the same one.
            nodes.0[1].up = true;
            let tried: Vec<usize> = if before == Some(1) { vec![1] } else { Vec::new() };
            assert_eq!(nodes.choose(id.as_bytes(), &tried), after);
            nodes.0[1].up = false;
        }
        nodes.0.iter_mut().for_each(|node| node.up = false);
        assert_eq!(nodes.choose(b"c", &[]), None);
    }
}
