//! The router a phone registered at, where several share one location service.

use std::sync::Arc;

use super::BindingFields;
use crate::path::write_received_route;

/// A router of the cluster, as the record of a binding names it: only this one has the phone's
/// flow (the hole in its NAT, or the connection).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its configured name.
    pub node: Box<str>,
    /// Which of its starts: connections end with the process.
    pub boot: u64,
    /// `host[:port]` at which the others reach it; empty: the address the REGISTER came in at.
    pub address: Box<str>,
}

impl Home {
    /// The Route set that leads to the binding by way of this router: its own address with
    /// `received`, as if it had put itself into the Path (RFC 3327 5.4), then the binding's Path.
    /// `received` is not signed: the routers of a cluster are each other's trusted peers.
    pub(super) fn route(&self, fields: &BindingFields<'_>) -> Box<[u8]> {
        let mut route = Vec::with_capacity(128);
        let local = fields.local.to_string();
        let host = if self.address.is_empty() { &*local } else { &*self.address };
        write_received_route(host, fields.transport, fields.received, &mut route);
        if !fields.path.is_empty() {
            route.extend_from_slice(b", ");
            route.extend_from_slice(fields.path);
        }
        route.into_boxed_slice()
    }
}

/// Does a binding have to be reached by way of its home? One with a Path is reached by its Path,
/// but for a Path that ends in a connection of the home.
pub(super) fn route_home(
    home: Option<&Arc<Home>>,
    fields: &BindingFields<'_>,
) -> Option<Box<[u8]>> {
    let home = home?;
    let needed = fields.path.is_empty() || fields.transport.is_reliable();
    needed.then(|| home.route(fields))
}
