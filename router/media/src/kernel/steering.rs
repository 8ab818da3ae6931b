//! What the module is to do with packets on their way in besides relaying them: which devices it takes
//! them at, and which CPUs and queues SIP and RTP go to. `kmod/uapi/viaduct.h` says what a rule can do.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::names::*;
use super::wire::{Attrs, Received};

/// The highest CPU the module can be told, and one more.
const CPUS: u16 = 1024;
/// As many octets hold them.
const CPU_OCTETS: usize = 128;

/// Rules a network namespace has room for.
pub const RULES_MAX: usize = 32;

/// All that the module is asked for by a router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// Names of devices whose packets are taken at their ingress, before the IP layer.
    pub ingress: Vec<Box<str>>,
    /// The first that fits a packet counts. Their numbers are their places in this list.
    pub rules: Vec<Rule>,
    /// The program in front of the stack asks them too, and moves packets there.
    pub before_stack: bool,
}

impl Steering {
    /// The CPUs of all rules, each once.
    #[must_use]
    pub fn cpus(&self) -> Vec<u16> {
        let named =
            |cpu: &u16| self.rules.iter().flat_map(|rule| &rule.cpus).any(|set| set.contains(*cpu));
        (0..CPUS).filter(named).collect()
    }
}

/// One rule; it must ask for something: CPUs, a priority or a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is about.
    pub traffic: Traffic,
    /// Where it is handled, one of them for each flow; `None`: where it came in.
    pub cpus: Option<Cpus>,
    /// Of the packet, as queueing disciplines see it; `None`: as it is.
    pub priority: Option<u32>,
    /// The transmit queue RTP leaves by, up to 65,534; `None`: the kernel's choice.
    pub queue: Option<u16>,
}

/// Which packets a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Packets to a listener.
    Sip {
        /// Over UDP.
        udp: bool,
        /// Over TCP.
        tcp: bool,
        /// The local address; `None`: any.
        address: Option<IpAddr>,
        /// Local ports.
        ports: RangeInclusive<u16>,
    },
    /// Packets of sessions.
    Rtp,
}

/// A set of CPUs, written `0-3,6`; not empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Cpus([u8; CPU_OCTETS]);

/// Not a set of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a set of CPUs such as \"0-3,6\", up to 1023")]
pub struct CpusError;

impl FromStr for Cpus {
    type Err = CpusError;

    fn from_str(text: &str) -> Result<Self, CpusError> {
        let mut octets = [0; CPU_OCTETS];
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<u16>().map_err(|_| CpusError);
            let (first, last) = (number(first)?, number(last)?);
            if first > last || last >= CPUS {
                return Err(CpusError);
            }
            for cpu in first..=last {
                if let Some(octet) = octets.get_mut(usize::from(cpu / 8)) {
                    *octet |= 1 << (cpu % 8);
                }
            }
        }
        Ok(Cpus(octets))
    }
}

impl Cpus {
    fn contains(&self, cpu: u16) -> bool {
        self.0.get(usize::from(cpu / 8)).is_some_and(|octet| octet & (1 << (cpu % 8)) != 0)
    }

    /// Without what is 0 at the end, which a machine with fewer CPUs would refuse.
    fn octets(&self) -> &[u8] {
        let len = self.0.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
        self.0.get(..len).unwrap_or_default()
    }
}

impl fmt::Debug for Cpus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries((0..CPUS).filter(|cpu| self.contains(*cpu))).finish()
    }
}

/// A rule as the module has it, and what it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleReport {
    /// Its number.
    pub id: u32,
    /// Packets that fitted it.
    pub matched: u64,
    /// Of those, put into another CPU's queue.
    pub moved: u64,
    /// Of those, dropped because that queue was full.
    pub full: u64,
    /// Of those, left in place because that CPU is off line.
    pub offline: u64,
    /// Those an XDP program was told to move before the stack.
    pub before_stack: u64,
}

/// The rule as the module is told.
pub(super) fn encode(id: u32, rule: &Rule) -> Attrs {
    let mut attrs = Attrs::default();
    attrs.put_u32(R_ID, id);
    match &rule.traffic {
        Traffic::Sip { udp, tcp, address, ports } => {
            let protocols = (u32::from(*udp) * PROTO_UDP) | (u32::from(*tcp) * PROTO_TCP);
            attrs.put_u8(R_CLASS, STEER_SIP).put_u32(R_PROTOCOLS, protocols);
            attrs.put_u16(R_PORT_FIRST, *ports.start()).put_u16(R_PORT_LAST, *ports.end());
            match address {
                Some(IpAddr::V4(v4)) => drop(attrs.put(R_ADDR, &v4.octets())),
                Some(IpAddr::V6(v6)) => drop(attrs.put(R_ADDR, &v6.octets())),
                None => {}
            }
        }
        Traffic::Rtp => drop(attrs.put_u8(R_CLASS, STEER_RTP)),
    }
    if let Some(cpus) = &rule.cpus {
        attrs.put(R_CPUS, cpus.octets());
    }
    if let Some(priority) = rule.priority {
        attrs.put_u32(R_PRIORITY, priority);
    }
    if let Some(queue) = rule.queue {
        attrs.put_u16(R_QUEUE, queue);
    }
    attrs
}

/// The rule of a message, if it is of this owner.
pub(super) fn decode(message: Received<'_>, owner: u64) -> Option<RuleReport> {
    let rule = message.nested(A_RULE).filter(|rule| rule.u64(R_OWNER) == Some(owner))?;
    let counters = rule.nested(R_COUNTERS);
    let count = |kind| counters.and_then(|counters| counters.u64(kind)).unwrap_or(0);
    Some(RuleReport {
        id: rule.u32(R_ID)?,
        matched: count(RC_MATCHED),
        moved: count(RC_MOVED),
        full: count(RC_FULL),
        offline: count(RC_OFFLINE),
        before_stack: count(RC_BEFORE_STACK),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_set_of_cpus_is_read_and_told_without_its_empty_end() {
        let cpus: Cpus = "0-2, 9,17".parse().unwrap();
        assert_eq!(cpus.octets(), [0b111, 0b10, 0b10]);
        assert_eq!(format!("{cpus:?}"), "{0, 1, 2, 9, 17}");
        assert_eq!("1023".parse::<Cpus>().unwrap().octets().len(), CPU_OCTETS);
    }

    #[test]
    fn the_cpus_of_all_rules_are_told_once_each() {
        let rule = |cpus: &str| Rule {
            traffic: Traffic::Rtp,
            cpus: cpus.parse().ok(),
            priority: Some(1),
            queue: None,
        };
        let rules = vec![rule("3,1"), rule(""), rule("1-2")];
        assert_eq!(Steering { rules, ..Steering::default() }.cpus(), [1, 2, 3]);
        assert!(Steering::default().cpus().is_empty());
    }

    #[test]
    fn what_is_no_set_of_cpus_is_refused() {
        for text in ["", ",", "1-", "-1", "3-1", "1024", "0-70000", "a", "1,,2", "0x1"] {
            assert_eq!(text.parse::<Cpus>(), Err(CpusError), "{text}");
        }
    }

    #[test]
    fn a_rule_for_a_listener_names_its_protocol_address_and_port() {
        let rule = Rule {
            traffic: Traffic::Sip {
                udp: true,
                tcp: false,
                address: "192.0.2.1".parse().ok(),
                ports: 5060..=5061,
            },
            cpus: "3".parse().ok(),
            priority: None,
            queue: None,
        };
        let attrs = encode(7, &rule);
        let read = Received::of(attrs.bytes());
        assert_eq!((read.u32(R_ID), read.u8(R_CLASS)), (Some(7), Some(STEER_SIP)));
        assert_eq!(read.u32(R_PROTOCOLS), Some(PROTO_UDP));
        assert_eq!(read.get(R_ADDR), Some(&[192, 0, 2, 1][..]));
        assert_eq!((read.u16(R_PORT_FIRST), read.u16(R_PORT_LAST)), (Some(5060), Some(5061)));
        assert_eq!((read.get(R_CPUS), read.get(R_QUEUE)), (Some(&[8][..]), None));
    }

    #[test]
    fn rules_of_other_owners_are_not_ours() {
        let mut counters = Attrs::default();
        counters.put_u64(RC_MATCHED, 5).put_u64(RC_MOVED, 4);
        let mut rule = Attrs::default();
        rule.put_u32(R_ID, 1).put_u64(R_OWNER, 9).nest(R_COUNTERS, &counters);
        let mut message = Attrs::default();
        message.nest(A_RULE, &rule);
        let read = Received::of(message.bytes());
        assert_eq!(decode(read, 8), None);
        let report = RuleReport { id: 1, matched: 5, moved: 4, ..RuleReport::default() };
        assert_eq!(decode(read, 9), Some(report));
    }

    proptest! {
        #[test]
        fn noise_is_no_rule_and_no_panic(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Received::of(&noise), 0);
        }

        #[test]
        fn any_text_is_a_set_of_cpus_or_refused(text in "[0-9,\\- ]{0,12}") {
            if let Ok(cpus) = text.parse::<Cpus>() {
                prop_assert!(!cpus.octets().is_empty());
            }
        }
    }
}
