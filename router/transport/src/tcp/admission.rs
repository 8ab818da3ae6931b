//! Who may connect: a bound in all, and one for each source.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// The answer to a peer that has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Welcome,
    TooMany,
    TooManyFromSource,
}

/// Counts accepted connections by source. The keys are chosen by peers, hence the default hasher.
pub(super) struct Admissions {
    per_source: u32,
    sources: HashMap<IpAddr, u32>,
}

impl Admissions {
    pub(super) fn new(per_source: u32) -> Admissions {
        Admissions { per_source, sources: HashMap::new() }
    }

    /// Counts one more connection of `peer`, if it may have one.
    pub(super) fn enter(&mut self, peer: IpAddr, room: bool) -> Admission {
        if !room {
            return Admission::TooMany;
        }
        let count = self.sources.entry(source(peer)).or_insert(0);
        if *count >= self.per_source {
            if *count == 0 {
                self.sources.remove(&source(peer));
            }
            return Admission::TooManyFromSource;
        }
        *count += 1;
        Admission::Welcome
    }

    /// A connection that had entered is gone.
    pub(super) fn leave(&mut self, peer: IpAddr) {
        let key = source(peer);
        if let Some(count) = self.sources.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.sources.remove(&key);
            }
        }
    }
}

/// One customer: an IPv4 address, or the /64 that an IPv6 host can choose addresses from freely.
fn source(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_the_places_of_others() {
        let mut admissions = Admissions::new(2);
        let (crowd, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert_eq!(admissions.enter(crowd, true), Admission::Welcome);
        assert_eq!(admissions.enter(crowd, true), Admission::Welcome);
        assert_eq!(admissions.enter(crowd, true), Admission::TooManyFromSource);
        assert_eq!(admissions.enter(other, true), Admission::Welcome);
        assert_eq!(admissions.enter(other, false), Admission::TooMany);
        admissions.leave(crowd);
        assert_eq!(admissions.enter(crowd, true), Admission::Welcome);
    }

    #[test]
    fn a_network_of_64_bits_is_one_source_and_nothing_stays_behind() {
        let mut admissions = Admissions::new(1);
        let (one, two) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff:2".parse().unwrap());
        assert_eq!(admissions.enter(one, true), Admission::Welcome);
        assert_eq!(admissions.enter(two, true), Admission::TooManyFromSource);
        admissions.leave(two);
        assert!(admissions.sources.is_empty());
    }
}
