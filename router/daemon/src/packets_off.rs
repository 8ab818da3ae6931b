//! What stands for [`packets`](crate::packets) in a build without AF_XDP.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use anyhow::bail;

use crate::config::{Config, XdpWish};
use crate::control::{BanEntry, Refusal};
use crate::worker::mail::Address;

/// Nothing runs.
pub(crate) struct Packets(Never);

#[derive(Clone)]
enum Never {}

/// Nobody listens.
#[derive(Clone)]
pub(crate) struct Offences(Never);

impl Offences {
    pub(crate) fn report(&self, _: IpAddr) {
        match self.0 {}
    }
}

impl Packets {
    pub(crate) fn start(config: &Config, _: &[Address]) -> anyhow::Result<Option<Packets>> {
        let required = config.packets.wishes.iter().find(|(_, wish)| *wish == XdpWish::Required);
        if let Some((addr, _)) = required {
            bail!("listener {addr} requires AF_XDP: this build has none");
        }
        Ok(None)
    }

    pub(crate) fn words(&self) -> String {
        match self.0 {}
    }

    pub(crate) fn verdicts(&self) -> impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static {
        match self.0 {}
        #[allow(unreachable_code)]
        Vec::new
    }

    pub(crate) fn offences(&self) -> Offences {
        match self.0 {}
    }

    pub(crate) fn ban(&self, _: IpAddr, _: u64) -> Result<(), Refusal> {
        match self.0 {}
    }

    pub(crate) fn unban(&self, _: IpAddr) -> Result<bool, Refusal> {
        match self.0 {}
    }

    pub(crate) fn bans(&self) -> Result<Vec<BanEntry>, Refusal> {
        match self.0 {}
    }

    pub(crate) fn stop(&self) {
        match self.0 {}
    }
}

pub(crate) fn choose_owners<'a>(_: u8, _: impl Iterator<Item = BorrowedFd<'a>>) {}
