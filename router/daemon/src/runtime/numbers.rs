//! What the router holds outside of its workers, as numbers: BOUNDS.md says how much each may be.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;

use super::Router;
use crate::control::Control as _;
use crate::metrics::{Kept, udp_drops};
use crate::packets::Packets;

impl Router {
    /// All of them, now.
    pub(super) fn kept(&self) -> Vec<Kept> {
        let auth = self.auth();
        let tables = self.packets.as_ref().map(Packets::tables).unwrap_or_default();
        let sets = self.dispatcher();
        let destinations = sets.sets().iter().map(|set| set.destinations().len()).sum::<usize>();
        let recorded = self.catalog.session().map_or(0, |session| session.waiting_bytes());
        vec![
            gauge("viaduct_nonces", "Used nonces that are remembered", self.replay.len() as u64),
            gauge("viaduct_users_cached", "Users in the cache", auth.cached_users),
            gauge("viaduct_users_absent", "Names nobody has, in the cache", auth.cached_absent),
            gauge("viaduct_users_asked", "Users who are being asked for now", auth.under_way),
            gauge("viaduct_destinations", "Destinations of dispatcher sets", destinations as u64),
            gauge("viaduct_recorded_bytes", "What is recorded and not fetched", recorded as u64),
            gauge(
                "viaduct_connection_aors",
                "AoRs that end with a TCP connection",
                self.streams.bound() as u64,
            ),
            gauge("viaduct_bans", "Sources that are kept out", tables.bans as u64),
            gauge(
                "viaduct_offenders",
                "Sources whose offences are counted",
                tables.offenders as u64,
            ),
            gauge("viaduct_xdp_neighbours", "Neighbours of AF_XDP", tables.neighbours as u64),
            counter(
                "viaduct_offences_dropped",
                "Offences not counted as there were too many",
                tables.dropped,
            ),
            counter(
                "viaduct_udp_receive_dropped",
                "Datagrams the kernel dropped at full receive buffers",
                udp_drops(&self.udp_inodes),
            ),
        ]
    }
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Kept {
    Kept { name, help, is_counter: false, value }
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Kept {
    Kept { name, help, is_counter: true, value }
}

/// The inodes of sockets; one that cannot be looked at is left out.
pub(super) fn inodes<'a>(sockets: impl Iterator<Item = BorrowedFd<'a>>) -> Vec<u64> {
    let inode = |socket: BorrowedFd<'a>| {
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        std::fs::metadata(path).ok().map(|of| of.ino())
    };
    sockets.filter_map(inode).collect()
}
