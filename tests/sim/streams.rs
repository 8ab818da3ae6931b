//! Streams between phones and routers: nothing in them is lost, doubled or out of order, until a
//! stream is reset, and then all that was under way is gone.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use viaduct_engine::ConnId;

use crate::dice::Dice;

/// Least time a piece takes.
const LEAST_US: u64 = 1_000;
/// Most it takes.
const MOST_US: u64 = 60_000;

/// Which way a piece goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Towards {
    Router,
    Phone,
}

/// An open stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// No other has it.
    pub(crate) serial: u64,
    /// As the router names it; numbers begin anew with each of its lives.
    pub(crate) conn: ConnId,
    /// Index of the phone.
    pub(crate) phone: usize,
    /// Index of the router.
    pub(crate) router: usize,
    /// The phone's end as the router sees it.
    pub(crate) peer: SocketAddr,
    /// When the last piece arrives, either way: later ones arrive later.
    last_us: [u64; 2],
}

/// All that are open, oldest first.
pub(crate) struct Streams {
    open: Vec<Stream>,
    serial: u64,
    /// Of each router, how many it has had in this life.
    numbers: BTreeMap<usize, u64>,
    dice: Dice,
}

impl Streams {
    pub(crate) fn new(dice: Dice) -> Streams {
        Streams { open: Vec::new(), serial: 0, numbers: BTreeMap::new(), dice }
    }

    /// Opens one. Each time the phone comes from another port of `outside`.
    pub(crate) fn open(&mut self, phone: usize, router: usize, outside: SocketAddr) -> Stream {
        self.serial += 1;
        let number = self.numbers.entry(router).or_default();
        *number += 1;
        let conn = ConnId::new(0, *number);
        // Apart from the ports of datagrams.
        let port = 40_000 + (self.serial % 20_000) as u16;
        let peer = SocketAddr::new(outside.ip(), port);
        let stream = Stream { serial: self.serial, conn, phone, router, peer, last_us: [0; 2] };
        self.open.push(stream);
        stream
    }

    /// The newest between a phone and a router.
    pub(crate) fn between(&self, phone: usize, router: usize) -> Option<Stream> {
        let fits = |stream: &&Stream| stream.phone == phone && stream.router == router;
        self.open.iter().rev().find(fits).copied()
    }

    /// The one that a router knows by its number, or where it has none, by the peer's address.
    pub(crate) fn known(&self, router: usize, conn: ConnId, peer: SocketAddr) -> Option<Stream> {
        let fits = |stream: &&Stream| {
            stream.router == router
                && if conn == ConnId::NONE { stream.peer == peer } else { stream.conn == conn }
        };
        self.open.iter().find(fits).copied()
    }

    /// One that is open still.
    pub(crate) fn get(&self, serial: u64) -> Option<Stream> {
        self.open.iter().find(|stream| stream.serial == serial).copied()
    }

    /// When a piece written now arrives.
    pub(crate) fn arrival(&mut self, serial: u64, towards: Towards, now_us: u64) -> u64 {
        let late_us = LEAST_US + self.dice.below(MOST_US - LEAST_US);
        let Some(stream) = self.open.iter_mut().find(|stream| stream.serial == serial) else {
            return now_us;
        };
        let [to_router, to_phone] = &mut stream.last_us;
        let last_us = if towards == Towards::Router { to_router } else { to_phone };
        *last_us = (now_us + late_us).max(*last_us + 1);
        *last_us
    }

    /// A router has ended, and all its streams with it.
    pub(crate) fn router_ended(&mut self, router: usize) -> Vec<Stream> {
        self.numbers.remove(&router);
        self.reset(|stream| stream.router == router)
    }

    /// Takes away those that `which` names.
    pub(crate) fn reset(&mut self, which: impl Fn(&Stream) -> bool) -> Vec<Stream> {
        self.open.extract_if(.., |stream| which(stream)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_keeps_the_order_and_ends_with_its_reset() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mut streams = Streams::new(Dice::new(1, 1));
        let first = streams.open(0, 1, at("198.51.100.1:5060"));
        let second = streams.open(0, 1, at("198.51.100.1:5060"));
        assert_ne!(first.peer, second.peer);
        let serial = |stream: Option<Stream>| stream.map(|stream| stream.serial);
        assert_eq!(serial(streams.between(0, 1)), Some(second.serial));
        let by_number = streams.known(1, first.conn, at("9.9.9.9:9"));
        assert_eq!(serial(by_number), Some(first.serial));
        let by_peer = streams.known(1, ConnId::NONE, second.peer);
        assert_eq!(serial(by_peer), Some(second.serial));
        let mut last_us = 0;
        for now_us in [0, 1, 2, 50_000, 50_001] {
            let next_us = streams.arrival(first.serial, Towards::Phone, now_us);
            assert!(next_us > last_us && next_us > now_us);
            last_us = next_us;
        }
        assert_eq!(streams.router_ended(1).len(), 2);
        assert!(streams.get(first.serial).is_none() && streams.between(0, 1).is_none());
        let third = streams.open(0, 1, at("198.51.100.1:5060"));
        assert_eq!(third.conn, first.conn);
        assert_eq!(streams.reset(|s| s.phone == 0).len(), 1);
    }
}
