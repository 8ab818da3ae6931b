//! Sessions to attributes.

use std::net::{IpAddr, SocketAddr};

use super::names::*;
use super::wire::Attrs;
use crate::session::{Leg, Session};

pub(super) fn session(session: &Session) -> Attrs {
    let [a, b] = &session.legs;
    let mut attrs = Attrs::default();
    attrs.put_u64(S_ID, session.id).put_u32(S_IDLE_S, session.idle_s);
    attrs.nest(S_LEG_A, &leg(a)).nest(S_LEG_B, &leg(b));
    attrs
}

/// Only the name of a session: one of its legs.
pub(super) fn named(local: SocketAddr) -> Attrs {
    let mut leg = Attrs::default();
    put_address(&mut leg, L_LOCAL_ADDR, L_LOCAL_PORT, local);
    let mut attrs = Attrs::default();
    attrs.nest(S_LEG_A, &leg);
    attrs
}

pub(super) fn leg(leg: &Leg) -> Attrs {
    let mut attrs = Attrs::default();
    put_address(&mut attrs, L_LOCAL_ADDR, L_LOCAL_PORT, leg.local);
    if let Some(peer) = leg.peer {
        put_address(&mut attrs, L_PEER_ADDR, L_PEER_PORT, peer);
    }
    attrs
        .put_u32(L_FLAGS, leg.flags.bits())
        .put_u32(L_WINDOW_MS, leg.learn.window_ms)
        .put_u32(L_SETTLE_MS, leg.learn.settle_ms)
        .put_u8(L_MIN_RANK, leg.learn.lowest as u8)
        .put_u32(L_FORWARD, leg.forward.bits())
        .put_u32(L_UP, leg.up.bits())
        .put(L_PAYLOAD_TYPES, &leg.payload_types.to_le_bytes())
        .put_u16(L_MAX_SIZE, leg.max_size)
        .put_u32(L_PRIORITY, leg.priority)
        .put_u32(L_PPS, leg.packets.per_s)
        .put_u32(L_PPS_BURST, leg.packets.burst)
        .put_u32(L_BPS, leg.octets.per_s)
        .put_u32(L_BPS_BURST, leg.octets.burst);
    if let Some(dscp) = leg.dscp {
        attrs.put_u8(L_DSCP, dscp);
    }
    attrs
}

fn put_address(attrs: &mut Attrs, ip: u16, port: u16, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(v4) => attrs.put(ip, &v4.octets()),
        IpAddr::V6(v6) => attrs.put(ip, &v6.octets()),
    };
    attrs.put_u16(port, address.port());
}
