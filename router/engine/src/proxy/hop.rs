//! Where a branch is sent (RFC 3261 16.6 steps 6 and 7, RFC 3263 4.1 as far as no name is
//! involved).

use std::net::SocketAddr;

use viaduct_message::{Host, NameAddr, Scheme, Uri};

use super::route::Routing;
use crate::flow::{Flow, Transport};
use crate::io::{Hop, Question};
use crate::path::first_value;
use crate::registrar::Target;

/// The next hop of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NextHop {
    /// This very flow.
    Flow(Flow),
    /// An address from `received`: over an existing connection only (R-P9).
    Existing(Hop),
    /// An address.
    Address(Hop),
    /// An address, by UDP as nobody has named a transport.
    Datagrams(Hop),
    /// A name to resolve.
    Name(Question),
}

/// Why there is no next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHop {
    /// Not a SIP URI: it cannot be sent anywhere.
    Scheme,
    /// It does not parse.
    Syntax,
}

/// Chooses the next hop: the target's own flow, destination or Route, a genuine `received`, the
/// policy's destination, the topmost Route left (`first_route`, a whole value), the Request-URI.
pub(crate) fn next_hop(
    target: &Target,
    routing: &Routing,
    destination: Option<&[u8]>,
    first_route: Option<&[u8]>,
    request_uri: &[u8],
) -> Result<NextHop, NoHop> {
    if let Some(flow) = target.flow {
        return Ok(NextHop::Flow(flow));
    }
    if !target.destination.is_empty() {
        // Where the phone was heard from: that is the transport, said or not.
        return of_uri(&target.destination).map(|hop| match hop {
            NextHop::Datagrams(hop) => NextHop::Address(hop),
            hop => hop,
        });
    }
    // RFC 3327 5.4: the topmost value of the target's own Route set.
    if let Some((first, _)) = first_value(&target.route) {
        return of_uri(NameAddr::parse(first).map_err(|_| NoHop::Syntax)?.uri);
    }
    // RFC 5626 5.3: over exactly that flow.
    if let Some(flow) = routing.flow {
        return Ok(NextHop::Flow(flow));
    }
    if let Some((transport, addr)) = routing.received {
        return Ok(NextHop::Existing(Hop { transport, addr }));
    }
    if let Some(destination) = destination {
        return of_uri(destination);
    }
    match first_route {
        Some(route) => of_uri(NameAddr::parse(route).map_err(|_| NoHop::Syntax)?.uri),
        None => of_uri(request_uri),
    }
}

/// The hop a SIP URI names. A `maddr` parameter is the host to send to (RFC 3261 19.1.1).
pub(crate) fn of_uri(text: &[u8]) -> Result<NextHop, NoHop> {
    let uri = Uri::parse(text).map_err(|_| NoHop::Syntax)?;
    if !uri.is_sip() {
        return Err(NoHop::Scheme);
    }
    let secure = uri.scheme == Scheme::Sips;
    let named = match uri.transport() {
        None => None,
        Some(name) => Some(Transport::from_name(name).ok_or(NoHop::Syntax)?),
    };
    // sips means TLS over whatever carries it (RFC 3261 26.2.2).
    let named = match (named, secure) {
        (Some(Transport::Ws), true) => Some(Transport::Wss),
        (Some(_), true) => Some(Transport::Tls),
        (named, _) => named,
    };
    let host = match uri.params.get(b"maddr") {
        Some(Some(maddr)) => maddr,
        _ => uri.host_text,
    };
    let text = std::str::from_utf8(host).map_err(|_| NoHop::Syntax)?;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let ip = match uri.host {
        Host::Ip(ip) if host == uri.host_text => Some(ip),
        _ => bare.parse().ok(),
    };
    match ip {
        Some(ip) => {
            let transport = named.unwrap_or(if secure { Transport::Tls } else { Transport::Udp });
            let port = uri.port.unwrap_or(transport.default_port());
            let hop = Hop { transport, addr: SocketAddr::new(ip, port) };
            let by_default = named.is_none() && !secure;
            Ok(if by_default { NextHop::Datagrams(hop) } else { NextHop::Address(hop) })
        }
        None => Ok(NextHop::Name(Question {
            host: text.into(),
            port: uri.port,
            transport: named,
            secure,
        })),
    }
}
