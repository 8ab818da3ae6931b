//! Route preprocessing (RFC 3261 16.4) and loose routing (sip-behaviour 3.3, 1.6).

use std::net::SocketAddr;

use viaduct_message::{Essentials, Fault, HeaderName, Host, Message, NameAddr, Uri};

use crate::flow::{Flow, Transport};
use crate::path::{FlowToken, Received, read_flow_token, read_received};
use crate::reject::Reject;
use crate::settings::{Listener, Settings};

/// What preprocessing found: applied when the request is written for a branch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routing {
    /// How many leading Route values are ours and go.
    pub(crate) removed: usize,
    /// The last Route value became the Request-URI (strict previous hop) and goes too.
    pub(crate) drop_last: bool,
    /// Request-URI in place of the received one.
    pub(crate) request_uri: Option<Box<[u8]>>,
    /// Socket to send from: the one our second value of a pair names.
    pub(crate) local: Option<SocketAddr>,
    /// Next hop from a genuine `received` of ours (`use_received`).
    pub(crate) received: Option<(Transport, SocketAddr)>,
    /// The flow to send over, from a flow token of ours (RFC 5626 5.3).
    pub(crate) flow: Option<Flow>,
    /// Route values of others are left.
    pub(crate) more_routes: bool,
}

impl Routing {
    /// Does a Route value of ours say the next hop?
    pub(crate) fn is_known(&self) -> bool {
        self.received.is_some() || self.flow.is_some()
    }
}

/// Preprocesses the Route set of a request that came by `inbound`. 403 where a signed value of ours
/// was tampered with (R-P10), 430 where the flow it names has ended (RFC 5626 5.3).
pub(crate) fn preprocess(
    message: Message<'_>,
    read: &Essentials<'_>,
    settings: &Settings,
    trusted: bool,
    inbound: &Flow,
) -> Result<Routing, Reject> {
    let mut routing = Routing::default();
    let routes = message.values(HeaderName::Route).count();
    if routes > 0 {
        strict_previous_hop(message, read, settings, &mut routing)?;
    }
    own_maddr(read, settings, &mut routing)?;
    let mut values = message.values(HeaderName::Route);
    let Some(first) = values.next() else { return Ok(routing) };
    let kept = routes.saturating_sub(usize::from(routing.drop_last));
    let first = parse_route(first.bytes)?;
    if kept == 0 || !settings.is_ours(&first) {
        routing.more_routes = kept > 0;
        return Ok(routing);
    }
    routing.removed = 1;
    let mut facing = first;
    if first.params.has(b"r2") && kept > 1 {
        // Our values come in pairs where the sides differ: the twin goes too, and names the
        // socket of the other side.
        if let Some(second) = values.next() {
            let second = parse_route(second.bytes)?;
            if settings.is_ours(&second) && second.params.has(b"r2") {
                routing.removed = 2;
                routing.local = settings.listener_of(&second).map(|l| l.addr);
                facing = second;
            }
        }
    }
    routing.more_routes = kept > routing.removed;
    routing.flow = flow_of(&facing, settings, inbound)?;
    if settings.use_received && routing.flow.is_none() {
        match read_received(&facing, trusted, &settings.path_keys) {
            Received::Address(transport, addr) => routing.received = Some((transport, addr)),
            Received::Forged => return Err(Reject::new(403, "Forged Route")),
            Received::None | Received::Untrusted | Received::Malformed => {}
        }
    }
    Ok(routing)
}

/// The flow a Route value of ours names, unless the request came by it: then the value has brought
/// it from the phone, and it goes on as any other (RFC 5626 5.3.1).
fn flow_of(uri: &Uri<'_>, settings: &Settings, inbound: &Flow) -> Result<Option<Flow>, Reject> {
    let user = uri.user.unwrap_or_default();
    match read_flow_token(user, settings.start_id(), &settings.path_keys) {
        FlowToken::None => Ok(None),
        FlowToken::Forged => Err(Reject::new(403, "Forged Flow Token")),
        FlowToken::Gone => Err(Reject::new(430, "Flow Failed")),
        FlowToken::Flow(flow) => {
            let same = flow.remote == inbound.remote
                && (flow.transport, flow.local) == (inbound.transport, inbound.local);
            let ours = |l: &Listener| l.addr == flow.local && l.transport == flow.transport;
            match same {
                true => Ok(None),
                false if settings.listeners.iter().any(ours) => Ok(Some(flow)),
                // Sent from another address it would not be the flow.
                false => Err(Reject::new(430, "Flow Failed")),
            }
        }
    }
}

fn parse_route(value: &[u8]) -> Result<Uri<'_>, Fault> {
    NameAddr::parse(value)?.parse_uri()
}

/// RFC 3261 16.4: a strict-routing previous hop has put our Record-Route URI into the Request-URI
/// and the real one at the end of Route. Only within dialogs, and only for URIs as we write them
/// (`lr`), because application servers put our plain address into Contact.
fn strict_previous_hop(
    message: Message<'_>,
    read: &Essentials<'_>,
    settings: &Settings,
    routing: &mut Routing,
) -> Result<(), Reject> {
    let in_dialog = read.to_tag.is_some();
    if !in_dialog || !read.uri.is_loose() || settings.listener_of(&read.uri).is_none() {
        return Ok(());
    }
    if let Some(last) = message.values(HeaderName::Route).last() {
        routing.request_uri = Some(NameAddr::parse(last.bytes)?.uri.into());
        routing.drop_last = true;
    }
    Ok(())
}

/// RFC 3261 16.4: a `maddr` that is ours, with port and transport, is stripped.
fn own_maddr(
    read: &Essentials<'_>,
    settings: &Settings,
    routing: &mut Routing,
) -> Result<(), Reject> {
    let uri = match &routing.request_uri {
        Some(text) => Uri::parse(text).map_err(|_| Fault::RequestUri)?,
        None => read.uri,
    };
    let Some(Some(maddr)) = uri.params.get(b"maddr") else { return Ok(()) };
    let as_host = Uri { host: Host::Name(maddr), host_text: maddr, ..uri };
    let by_ip = std::str::from_utf8(maddr).ok().and_then(|m| m.parse().ok());
    let as_host = by_ip.map_or(as_host, |ip| Uri { host: Host::Ip(ip), ..as_host });
    if !settings.is_ours(&as_host) {
        return Ok(());
    }
    let mut stripped = Vec::with_capacity(64);
    stripped.extend_from_slice(uri.scheme_text);
    stripped.push(b':');
    if let Some(user) = uri.user {
        stripped.extend_from_slice(user);
        stripped.push(b'@');
    }
    stripped.extend_from_slice(uri.host_text);
    for (name, value) in uri.params.iter() {
        if name.eq_ignore_ascii_case(b"maddr") || name.eq_ignore_ascii_case(b"transport") {
            continue;
        }
        stripped.push(b';');
        stripped.extend_from_slice(name);
        if let Some(value) = value {
            stripped.push(b'=');
            stripped.extend_from_slice(value);
        }
    }
    routing.request_uri = Some(stripped.into());
    Ok(())
}
