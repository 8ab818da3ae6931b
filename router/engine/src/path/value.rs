//! One Path value of ours: written when a REGISTER leaves, read when it comes back in a Route.

use std::net::SocketAddr;

use viaduct_message::Uri;

use super::keys::{Claim, PathKeys};
use super::received::{parse_received, write_escaped};
use crate::flow::{Flow, Transport};

/// Our value for one side.
pub struct PathValue<'a> {
    /// User part, already a legal URI user; empty: none.
    pub user: &'a [u8],
    /// Host as advertised (IPv6 in brackets).
    pub host: &'a str,
    /// Port as advertised; left out where it is the transport's default.
    pub port: u16,
    /// Transport of the side; `;transport=` is written where it is not UDP.
    pub transport: Transport,
    /// Where the request came from, for `received`.
    pub received: Option<&'a Flow>,
    /// We are the first hop of a phone that asks for a flow: write `;ob` (RFC 5626 5.1).
    pub ob: bool,
    /// One of a pair: write `;r2=on`.
    pub double: bool,
}

/// Appends `<sip:[user@]host[:port];lr[;transport=..][;received=..;vs=SIGNATURE][;ob][;r2=on]>`.
/// The signature covers user, received, and host, port and transport of the value itself, which name
/// the socket that received the request: a value cannot be moved to another of our addresses.
pub fn write_path_value(value: &PathValue<'_>, keys: &PathKeys, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<sip:");
    if !value.user.is_empty() {
        out.extend_from_slice(value.user);
        out.push(b'@');
    }
    out.extend_from_slice(value.host.as_bytes());
    if value.port != as_written(value.transport).default_port() {
        out.push(b':');
        out.extend_from_slice(value.port.to_string().as_bytes());
    }
    out.extend_from_slice(b";lr");
    if value.transport != Transport::Udp {
        out.extend_from_slice(b";transport=");
        out.extend_from_slice(value.transport.param_name().as_bytes());
    }
    if let Some(flow) = value.received {
        // WSS is written as `ws` (RFC 7118 5.2), so that is what can be signed.
        let remote = SocketAddr::new(flow.remote.ip().to_canonical(), flow.remote.port());
        out.extend_from_slice(b";received=");
        write_escaped(flow.transport, remote, out);
        if !keys.is_empty() {
            out.extend_from_slice(b";vs=");
            let claim = Claim {
                user: value.user,
                received: (as_written(flow.transport), remote),
                host: value.host.as_bytes(),
                port: value.port,
                transport: as_written(value.transport),
            };
            keys.sign(&claim, out);
        }
    }
    if value.ob {
        out.extend_from_slice(b";ob");
    }
    if value.double {
        out.extend_from_slice(b";r2=on");
    }
    out.push(b'>');
}

/// The transport a reader of the text will see.
fn as_written(transport: Transport) -> Transport {
    if transport == Transport::Wss { Transport::Ws } else { transport }
}

/// What the `received` of one of our own Route values tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The value has no `received`.
    None,
    /// Signed by us, or unsigned from a trusted peer: send there.
    Address(Transport, SocketAddr),
    /// Unsigned and not from a trusted peer: ignore it.
    Untrusted,
    /// Signed, and the signature is wrong: 403.
    Forged,
    /// Not an address (R-P6: host names are refused).
    Malformed,
}

/// Reads `received` (and its signature) from a Route URI that is ours. A wrong signature is a
/// forgery whoever sends it; `trusted` only excuses a missing one.
pub fn read_received(uri: &Uri<'_>, trusted: bool, keys: &PathKeys) -> Received {
    let received = match uri.param(b"received") {
        None => return Received::None,
        Some(value) => parse_received(value.unwrap_or_default()),
    };
    let Some((transport, addr)) = received else { return Received::Malformed };
    match uri.param(b"vs") {
        None if trusted => Received::Address(transport, addr),
        None => Received::Untrusted,
        Some(signature) => {
            let own = uri.transport().and_then(Transport::from_name).unwrap_or(Transport::Udp);
            let claim = Claim {
                user: uri.user.unwrap_or_default(),
                received: (as_written(transport), addr),
                host: uri.host_text,
                port: uri.port.unwrap_or(as_written(own).default_port()),
                transport: as_written(own),
            };
            match keys.verify(&claim, signature.unwrap_or_default()) {
                true => Received::Address(transport, addr),
                false => Received::Forged,
            }
        }
    }
}
