//! The limit of open files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files beside connections: sockets, store, logs, the admin API, with room to spare.
const OTHERS: u64 = 512;

/// Raises the soft limit to the hard one, and warns where that is too low for the connections the
/// configuration allows.
pub fn raise(connections: usize) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(fault) => {
            tracing::warn!(%fault, soft, hard, "limit of open files stays");
            soft
        }
    };
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    if limit < needed {
        tracing::warn!(limit, needed, "too few open files for limits.tcp_connections");
    }
}
