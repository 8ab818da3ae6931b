//! Datagrams between addresses: weather, cut lines, and NATs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::dice::Dice;
use crate::plan::Weather;

/// A mapping nobody has used for so long is forgotten.
const MAPPING_LIFE_US: u64 = 60_000_000;
/// Least time a datagram takes.
const LEAST_US: u64 = 1_000;

/// A NAT with one phone behind it: endpoint-independent mapping, address-dependent filtering
/// (RFC 4787 4.1, 5).
#[derive(Debug)]
struct Nat {
    outside: IpAddr,
    next_port: u16,
    /// Outside address now, and when it was last used from inside.
    mapping: Option<(SocketAddr, u64)>,
    /// Whom the phone has written to.
    let_in: Vec<IpAddr>,
}

/// Where a datagram is to be delivered, and from where it seems to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

/// The network.
pub(crate) struct Network {
    weather: Weather,
    dice: Dice,
    /// NATs by the address of the phone behind them.
    nats: BTreeMap<SocketAddr, Nat>,
    /// Two addresses that do not reach each other, until then.
    cut: Option<(SocketAddr, SocketAddr, u64)>,
}

impl Network {
    pub(crate) fn new(weather: Weather, dice: Dice) -> Network {
        Network { weather, dice, nats: BTreeMap::new(), cut: None }
    }

    /// Puts a phone behind a NAT.
    pub(crate) fn add_nat(&mut self, phone: SocketAddr, outside: IpAddr) {
        let nat = Nat { outside, next_port: 20_000, mapping: None, let_in: Vec::new() };
        self.nats.insert(phone, nat);
    }

    /// The NAT of a phone forgets its mapping.
    pub(crate) fn rebind(&mut self, phone: SocketAddr) {
        if let Some(nat) = self.nats.get_mut(&phone) {
            nat.mapping = None;
        }
    }

    /// Two addresses lose each other until then.
    pub(crate) fn cut(&mut self, a: SocketAddr, b: SocketAddr, until_us: u64) {
        self.cut = Some((a, b, until_us));
    }

    /// Good weather from now on.
    pub(crate) fn calm_down(&mut self) {
        self.weather = Weather { late_us: 10_000, ..Weather::default() };
        self.cut = None;
    }

    /// When a datagram sent now arrives: not at all, once, or twice.
    pub(crate) fn arrivals(&mut self, now_us: u64, way: Way) -> Vec<u64> {
        if let Some((a, b, until)) = self.cut
            && now_us < until
            && [(a, b), (b, a)].contains(&(way.from, way.to))
        {
            return Vec::new();
        }
        if self.dice.permille(self.weather.lost) {
            return Vec::new();
        }
        let copies = 1 + usize::from(self.dice.permille(self.weather.doubled));
        let late = self.weather.late_us;
        (0..copies).map(|_| now_us + LEAST_US + self.dice.below(late)).collect()
    }

    /// What the NAT in front of the sender makes of a datagram.
    pub(crate) fn outward(&mut self, now_us: u64, way: Way) -> Way {
        let Some(nat) = self.nats.get_mut(&way.from) else { return way };
        let alive = nat.mapping.filter(|(_, used_us)| now_us < used_us + MAPPING_LIFE_US);
        let outside = alive.map_or_else(
            || {
                nat.next_port += 1;
                nat.let_in.clear();
                SocketAddr::new(nat.outside, nat.next_port)
            },
            |(outside, _)| outside,
        );
        nat.mapping = Some((outside, now_us));
        if !nat.let_in.contains(&way.to.ip()) {
            nat.let_in.push(way.to.ip());
        }
        Way { from: outside, to: way.to }
    }

    /// Where a phone's streams seem to come from.
    pub(crate) fn outside(&self, phone: SocketAddr) -> SocketAddr {
        let nat = self.nats.get(&phone);
        nat.map_or(phone, |nat| SocketAddr::new(nat.outside, phone.port()))
    }

    /// The phone behind an outside address, if its NAT lets the sender in; `Err` where the address
    /// is no NAT's.
    pub(crate) fn inward(&self, now_us: u64, way: Way) -> Result<Option<SocketAddr>, ()> {
        let mut of = self.nats.iter().filter(|(_, nat)| nat.outside == way.to.ip()).peekable();
        if of.peek().is_none() {
            return Err(());
        }
        let fits = |nat: &Nat| {
            nat.mapping
                .is_some_and(|(outside, used)| outside == way.to && now_us < used + MAPPING_LIFE_US)
                && nat.let_in.contains(&way.from.ip())
        };
        Ok(of.find(|(_, nat)| fits(nat)).map(|(phone, _)| *phone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nat_lets_in_whom_the_phone_has_written_to_while_its_mapping_lives() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (phone, router, stranger) =
            (at("10.0.0.1:5060"), at("127.0.0.1:5060"), at("9.9.9.9:1"));
        let mut network = Network::new(Weather::default(), Dice::new(1, 1));
        network.add_nat(phone, "198.51.100.1".parse().unwrap());
        let out = network.outward(0, Way { from: phone, to: router });
        assert_eq!(out.from, at("198.51.100.1:20001"));
        let back = |from| Way { from, to: out.from };
        assert_eq!(network.inward(59_000_000, back(router)), Ok(Some(phone)));
        assert_eq!(network.inward(59_000_000, back(stranger)), Ok(None));
        assert_eq!(network.inward(61_000_000, back(router)), Ok(None));
        assert_eq!(network.inward(0, Way { from: router, to: phone }), Err(()));
        let later = network.outward(61_000_000, Way { from: phone, to: router });
        assert_eq!(later.from, at("198.51.100.1:20002"));
    }
}
