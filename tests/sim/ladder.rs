//! Who sent what to whom, when: what a person reads of a simulation that failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::text::Sip;

/// Lines kept; the end of a simulation tells more than its beginning.
const MOST: usize = 4_000;

/// Notes in order.
#[derive(Default)]
pub(crate) struct Ladder {
    names: BTreeMap<SocketAddr, String>,
    lines: std::collections::VecDeque<String>,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// On its way.
    Sent,
    /// Lost by the network.
    Lost,
    /// Come to where nobody is, or nobody lets it in.
    Refused,
}

impl Ladder {
    /// An address has a name.
    pub(crate) fn name(&mut self, at: SocketAddr, name: &str) {
        self.names.insert(at, name.to_owned());
    }

    /// Something has happened.
    pub(crate) fn note(&mut self, now_us: u64, text: &str) {
        if self.lines.len() == MOST {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>10.3} {text}", now_us as f64 / 1e6));
    }

    /// A datagram was sent.
    pub(crate) fn message(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        fate: Fate,
    ) {
        // Keepalives would hide the rest.
        let Some(sip) = Sip::read(bytes).ok().filter(|sip| !sip.start.is_empty()) else { return };
        let arrow = match fate {
            Fate::Sent => "->",
            Fate::Lost => "-x",
            Fate::Refused => "-|",
        };
        let (from, to) = (self.of(from), self.of(to));
        self.note(now_us, &format!("{from:>21} {arrow} {to:<21} {}", sip.summary()));
    }

    fn of(&self, at: SocketAddr) -> String {
        self.names.get(&at).cloned().unwrap_or_else(|| at.to_string())
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("   seconds                  from    to\n");
        for line in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}
