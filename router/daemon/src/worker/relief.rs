//! What the kernel takes off a worker under pressure: new requests the engine would throw away unread.

use std::os::fd::{AsFd, BorrowedFd};

use viaduct_transport::{Sieve, UdpSockets};

/// Everything, in thousandths.
const ALL: u16 = 1000;

/// The sieve in front of a worker's UDP sockets, where the kernel lets us have one.
#[derive(Default)]
pub(super) struct Relief {
    sieve: Option<Sieve>,
    brought: u16,
    /// New requests the kernel has thrown away, as counted when the share was changed last.
    pub(super) dropped: u64,
}

impl Relief {
    /// With what takes privileges to load. Without it the engine does it all.
    pub(super) fn load() -> Relief {
        let sieve = Sieve::load();
        if let Err(fault) = &sieve {
            tracing::debug!(target: "viaduct::worker", %fault, "under pressure all is read");
        }
        Relief { sieve: sieve.ok(), brought: ALL, dropped: 0 }
    }

    /// Has the kernel bring so many of the new requests; returns how many it does bring.
    pub(super) fn bring(&mut self, wanted: u16, udp: &UdpSockets) -> u16 {
        let Some(sieve) = &mut self.sieve else { return ALL };
        if wanted == self.brought {
            return wanted;
        }
        let sockets: Vec<BorrowedFd<'_>> = udp.iter().map(AsFd::as_fd).collect();
        self.dropped = sieve.dropped();
        match sieve.keep(wanted, &sockets) {
            Ok(()) => self.brought = wanted,
            Err(fault) => {
                tracing::info!(target: "viaduct::worker", %fault, "under pressure all is read");
                // Dropping the program's last descriptor does not take it from the sockets.
                sieve.keep(ALL, &sockets).ok();
                (self.sieve, self.brought) = (None, ALL);
            }
        }
        self.brought
    }
}
