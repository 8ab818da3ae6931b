//! The addresses media arrive at, and which of them a call uses.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use viaduct_engine::media::MediaFlags;

use crate::ports::{PortError, PortPool};

/// An address media arrive at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What flags call it.
    pub name: Box<str>,
    /// Address of this machine.
    pub ip: IpAddr,
    /// What peers are told, where that is another one: the address of a NAT before this machine.
    pub advertised: Option<IpAddr>,
    /// Its ports.
    pub ports: RangeInclusive<u16>,
}

/// Why interfaces make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    /// There is none.
    #[error("no address for media")]
    None,
    /// Two have the same name.
    #[error("two media addresses are called `{0}`")]
    Name(Box<str>),
    /// Two share ports.
    #[error("`{0}` and `{1}` share ports of one address")]
    Ports(Box<str>, Box<str>),
    /// The advertised address is of the other family.
    #[error("`{0}`: address and advertised address are of two families")]
    Family(Box<str>),
    /// The range is no good.
    #[error("`{0}`: {1}")]
    Range(Box<str>, PortError),
}

/// All of them, with their ports.
#[derive(Debug)]
pub(super) struct Interfaces {
    names: Vec<Box<str>>,
    ips: Vec<IpAddr>,
    pub(super) pools: Vec<PortPool>,
}

impl Interfaces {
    pub(super) fn new(all: &[Interface], rest_ms: u64) -> Result<Interfaces, InterfaceError> {
        if all.is_empty() {
            return Err(InterfaceError::None);
        }
        let mut made = Interfaces { names: Vec::new(), ips: Vec::new(), pools: Vec::new() };
        for (at, new) in all.iter().enumerate() {
            for other in all.iter().take(at) {
                if other.name == new.name {
                    return Err(InterfaceError::Name(new.name.clone()));
                }
                let apart = other.ip != new.ip
                    || other.ports.end() < new.ports.start()
                    || new.ports.end() < other.ports.start();
                if !apart {
                    return Err(InterfaceError::Ports(other.name.clone(), new.name.clone()));
                }
            }
            let told = new.advertised.unwrap_or(new.ip);
            if told.is_ipv4() != new.ip.is_ipv4() {
                return Err(InterfaceError::Family(new.name.clone()));
            }
            let pool = PortPool::new(new.ip, new.ports.clone(), rest_ms)
                .map_err(|error| InterfaceError::Range(new.name.clone(), error))?;
            made.names.push(new.name.clone());
            made.ips.push(new.ip);
            made.pools.push(pool.advertised_as(told));
        }
        Ok(made)
    }

    /// Whether flags name what there is.
    pub(super) fn check(&self, flags: &MediaFlags) -> Result<(), String> {
        for name in [&flags.inside, &flags.outside].into_iter().flatten() {
            if self.named(Some(name)).is_none() {
                return Err(format!("no media address is called `{name}`"));
            }
        }
        if let Some(ipv6) = flags.ipv6
            && !self.ips.iter().any(|ip| ip.is_ipv6() == ipv6)
        {
            let family = if ipv6 { "IP6" } else { "IP4" };
            return Err(format!("no media address is of family {family}"));
        }
        Ok(())
    }

    /// Which face sender and receiver of a call's first description, which came in at `local` and
    /// names an address of family `ipv6`. `None`: there is none of that family.
    pub(super) fn choose(
        &self,
        flags: &MediaFlags,
        local: IpAddr,
        ipv6: bool,
    ) -> Option<[usize; 2]> {
        let of_family = |ipv6: bool| self.ips.iter().position(|ip| ip.is_ipv6() == ipv6);
        let same = self.ips.iter().position(|ip| *ip == local && ip.is_ipv6() == ipv6);
        let inside = self.named(flags.inside.as_deref());
        let inside = inside.or(same).or_else(|| of_family(ipv6))?;
        let outside = self.named(flags.outside.as_deref());
        let outside = match (outside, flags.ipv6) {
            (Some(outside), _) => outside,
            (None, Some(ipv6)) if self.ips.get(inside).is_some_and(|i| i.is_ipv6() != ipv6) => {
                of_family(ipv6)?
            }
            (None, _) => inside,
        };
        Some([inside, outside])
    }

    /// What flags call it; empty: there is none.
    pub(super) fn name(&self, place: usize) -> &str {
        self.names.get(place).map_or("", |name| name)
    }

    pub(super) fn named(&self, name: Option<&str>) -> Option<usize> {
        self.names.iter().position(|known| Some(&**known) == name)
    }
}
