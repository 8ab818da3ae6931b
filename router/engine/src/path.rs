//! Path values we write and read (RFC 3327, sip-behaviour 1.5, 1.6, R-P6, R-P10).
//!
//! `received` says "send this packet there", so what we write is signed and what is not signed by
//! us counts only from trusted peers. Start reading at [`write_path_value`] and [`read_received`];
//! `keys` signs, `received` reads and writes addresses, `flow` reads and writes flow tokens (RFC
//! 5626), `collect` reads a whole Path vector.

mod collect;
mod flow;
mod keys;
mod received;
#[cfg(test)]
mod tests;
mod value;

pub use collect::{PathFault, collect_path, first_value, last_value};
pub use flow::{FlowToken, read_flow_token, write_flow_token};
pub(crate) use keys::{MAC_BYTES, NONCE_BYTES, hex_digit};
pub use keys::{PathKeyError, PathKeys};
pub(crate) use received::write_received_route;
pub use received::{parse_received, write_received};
pub use value::{PathValue, Received, read_received, write_path_value};
