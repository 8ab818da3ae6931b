//! Ports for legs: random, so that a stranger cannot guess them, and none again too soon.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// How the ports of a stream lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// RTP on an even port, RTCP on the next one (RFC 3550 section 11).
    Pair,
    /// RTP and RTCP on one port (RFC 5761).
    Muxed,
}

/// The ports of a stream at one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Where RTP arrives.
    pub rtp: SocketAddr,
    /// Where RTCP arrives; the same where they share a port.
    pub rtcp: SocketAddr,
}

impl Ports {
    fn count(self) -> u16 {
        if self.rtp == self.rtcp { 1 } else { 2 }
    }
}

/// Why there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// All are in use, or were a moment ago.
    #[error("no free media port on {0}")]
    Exhausted(IpAddr),
    /// The range holds no pair of an even and an odd port.
    #[error("a range of media ports wants an even port and the next one, from 1 on")]
    Range,
}

/// The media ports of one address.
#[derive(Debug)]
pub struct PortPool {
    ip: IpAddr,
    advertised: IpAddr,
    first: u16,
    /// One for each port from `first` on.
    used: Vec<bool>,
    /// Released ports and until when they rest, in the order of release.
    resting: VecDeque<(u64, Ports)>,
    rest_ms: u64,
}

impl PortPool {
    /// Ports of `range` on `ip`. A released port rests for `rest_ms`, so that late packets of its
    /// last call do not end up in the next one.
    ///
    /// # Errors
    /// [`PortError::Range`].
    pub fn new(ip: IpAddr, range: RangeInclusive<u16>, rest_ms: u64) -> Result<Self, PortError> {
        // From an even port to an odd one: whole pairs.
        let first = range.start().checked_next_multiple_of(2).ok_or(PortError::Range)?;
        let even = range.end().is_multiple_of(2);
        let last = if even { range.end().saturating_sub(1) } else { *range.end() };
        if first == 0 || last < first {
            return Err(PortError::Range);
        }
        let used = vec![false; usize::from(last - first) + 1];
        let resting = VecDeque::new();
        Ok(Self { ip, advertised: ip, first, used, resting, rest_ms })
    }

    /// The same, told to peers as another address: that of a NAT before this machine.
    #[must_use]
    pub fn advertised_as(self, ip: IpAddr) -> Self {
        Self { advertised: ip, ..self }
    }

    /// What peers are told.
    #[must_use]
    pub fn advertised(&self) -> IpAddr {
        self.advertised
    }

    /// Whether that is an address peers are told of these ports, in use or not.
    #[must_use]
    pub fn tells(&self, address: SocketAddr) -> bool {
        let ours = address.ip() == self.advertised || address.ip() == self.ip;
        ours && self.place(address.port()).is_some()
    }

    /// Whether they came from here.
    #[must_use]
    pub fn owns(&self, ports: Ports) -> bool {
        ports.rtp.ip() == self.ip && self.place(ports.rtp.port()).is_some()
    }

    fn place(&self, port: u16) -> Option<usize> {
        let place = usize::from(port.checked_sub(self.first)?);
        (place < self.used.len()).then_some(place)
    }

    /// Takes ports. `random` chooses where the search begins.
    ///
    /// # Errors
    /// [`PortError::Exhausted`].
    pub fn allocate(
        &mut self,
        now_ms: u64,
        layout: Layout,
        random: u64,
    ) -> Result<Ports, PortError> {
        self.wake(now_ms);
        let step = if layout == Layout::Pair { 2 } else { 1 };
        let places = self.used.len() / step;
        let begin = usize::try_from(random % places as u64).unwrap_or(0);
        let is_free =
            |at: &usize| self.used.get(*at..*at + step).is_some_and(|ports| !ports.contains(&true));
        let found = (0..places).map(|i| (begin + i) % places * step).find(is_free);
        let at = found.ok_or(PortError::Exhausted(self.ip))?;
        let port = u16::try_from(at).ok().and_then(|at| self.first.checked_add(at));
        let port = port.ok_or(PortError::Range)?;
        let next = if layout == Layout::Pair { port + 1 } else { port };
        let ports =
            Ports { rtp: SocketAddr::new(self.ip, port), rtcp: SocketAddr::new(self.ip, next) };
        self.mark(ports, true);
        Ok(ports)
    }

    /// Takes these, which a call of an earlier process has.
    pub fn reserve(&mut self, ports: Ports) {
        if self.owns(ports) {
            self.mark(ports, true);
        }
    }

    /// Gives ports back. Those of another pool are ignored.
    pub fn release(&mut self, now_ms: u64, ports: Ports) {
        if self.owns(ports) {
            self.resting.push_back((now_ms.saturating_add(self.rest_ms), ports));
            self.wake(now_ms);
        }
    }

    /// How many are neither in use nor resting.
    #[must_use]
    pub fn free(&self) -> usize {
        self.used.iter().filter(|used| !**used).count()
    }

    fn wake(&mut self, now_ms: u64) {
        while let Some(&(until, ports)) = self.resting.front() {
            if until > now_ms {
                return;
            }
            self.resting.pop_front();
            self.mark(ports, false);
        }
    }

    fn mark(&mut self, ports: Ports, used: bool) {
        for offset in 0..ports.count() {
            let port = ports.rtp.port().checked_add(offset);
            let place = port.and_then(|port| self.place(port));
            if let Some(place) = place.and_then(|place| self.used.get_mut(place)) {
                *place = used;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_range_without_a_whole_pair_is_refused() {
        for range in [0..=0, 31_001..=31_002, 65_535..=65_535] {
            assert_eq!(PortPool::new(IP, range, 0).unwrap_err(), PortError::Range);
        }
        assert_eq!(PortPool::new(IP, 65_533..=65_535, 0).unwrap().free(), 2);
    }

    #[test]
    fn a_released_port_rests() {
        let mut pool = PortPool::new(IP, 30_000..=30_001, 1_000).unwrap();
        let ports = pool.allocate(0, Layout::Pair, 5).unwrap();
        pool.release(100, ports);
        assert_eq!(pool.allocate(1_099, Layout::Muxed, 0), Err(PortError::Exhausted(IP)));
        assert_eq!(pool.allocate(1_100, Layout::Pair, 0), Ok(ports));
    }

    proptest! {
        #[test]
        fn no_port_is_given_twice_and_all_can_be_given(
            steps in proptest::collection::vec((any::<u64>(), any::<bool>(), any::<bool>()), 1..200),
        ) {
            let mut pool = PortPool::new(IP, 30_000..=30_063, 0).unwrap();
            let mut held: Vec<Ports> = Vec::new();
            for (random, muxed, give_back) in steps {
                if give_back && !held.is_empty() {
                    let at = usize::try_from(random % held.len() as u64).unwrap();
                    pool.release(0, held.swap_remove(at));
                } else {
                    let layout = if muxed { Layout::Muxed } else { Layout::Pair };
                    if let Ok(ports) = pool.allocate(0, layout, random) {
                        prop_assert!((30_000..=30_063).contains(&ports.rtp.port()));
                        prop_assert!(muxed || ports.rtp.port() % 2 == 0);
                        held.push(ports);
                    } else {
                        prop_assert!(!muxed || pool.free() == 0);
                    }
                }
                let ports: Vec<_> =
                    held.iter().flat_map(|p| HashSet::from([p.rtp, p.rtcp])).collect();
                let distinct: HashSet<_> = ports.iter().collect();
                prop_assert_eq!(distinct.len(), ports.len());
            }
        }
    }
}
