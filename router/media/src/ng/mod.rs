//! Media relayed by other machines: nodes that speak rtpengine's ng protocol. [`client`] is the
//! protocol without a socket or a clock.

pub mod bencode;
pub mod client;
pub mod nodes;
