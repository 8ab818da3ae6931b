//! Writing a request for one branch (RFC 3261 16.6, sip-behaviour 3.5, 3.6, 1.5): the received
//! bytes plus ordered edits.

use viaduct_message::header::Value;
use viaduct_message::{Edits, HeaderName, Message, NameAddr, Scheme, Uri, response, write_decimal};

use super::route::Routing;
use crate::flow::Flow;
use crate::path::{PathValue, write_flow_token, write_path_value};
use crate::registrar::Target;
use crate::run::{HeaderEdit, StagedPath};
use crate::settings::{Listener, Settings};

/// What all branches of one request share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) routing: Routing,
    /// The policy's Request-URI.
    pub(crate) request_uri: Option<Box<[u8]>>,
    /// The policy's next hop.
    pub(crate) destination: Option<Box<[u8]>>,
    pub(crate) path: Option<StagedPath>,
    pub(crate) record_route: bool,
    /// Record-Route names the flow the request came by.
    pub(crate) caller_flow: bool,
    /// Record-Route names the flow it leaves by.
    pub(crate) callee_flow: bool,
    pub(crate) edits: Vec<HeaderEdit>,
    pub(crate) force_rport: bool,
    /// The body, where it is not the one that came.
    pub(crate) body: Option<Box<[u8]>>,
}

impl Plan {
    /// The Request-URI where no target says another.
    pub(crate) fn request_uri<'a>(&'a self, message: Message<'a>) -> &'a [u8] {
        let own = self.request_uri.as_deref().or(self.routing.request_uri.as_deref());
        own.unwrap_or(message.request_uri())
    }

    /// Route values of the received request that are not ours, in order.
    pub(crate) fn routes_left<'a>(&self, message: Message<'a>) -> impl Iterator<Item = Value<'a>> {
        let all = message.values(HeaderName::Route).count();
        let end = all.saturating_sub(usize::from(self.routing.drop_last));
        let keep = end.saturating_sub(self.routing.removed);
        message.values(HeaderName::Route).skip(self.routing.removed).take(keep)
    }
}

/// One branch: everything that differs between branches.
pub(crate) struct Branch<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) plan: &'a Plan,
    pub(crate) message: Message<'a>,
    /// How the request came.
    pub(crate) inbound: Flow,
    pub(crate) target: &'a Target,
    /// How it goes.
    pub(crate) outbound: Flow,
    /// The listener it goes from.
    pub(crate) listener: &'a Listener,
    /// Via branch.
    pub(crate) branch: &'a [u8],
    /// Max-Breadth to say; `None`: as it came.
    pub(crate) breadth: Option<u16>,
}

impl Branch<'_> {
    /// Appends the request as this branch sends it.
    pub(crate) fn write(&self, edits: &mut Edits, out: &mut Vec<u8>) {
        edits.clear();
        let top = self.message.lines().first().map_or(0, |line| line.whole.start);
        self.via(edits, top);
        self.routes(edits, top);
        if self.plan.record_route {
            self.record_route(edits, top);
        }
        if let Some(path) = &self.plan.path {
            self.path(edits, top, path);
        }
        self.max_forwards(edits, top);
        self.max_breadth(edits, top);
        header_edits(self.message, &self.plan.edits, edits);
        self.content_length(edits);
        edits.write(self.message.bytes(), out);
    }

    /// RFC 3261 16.6 step 8; and `received` and `rport` of the Via below (18.2.1, RFC 3581).
    fn via(&self, edits: &mut Edits, top: u32) {
        edits.insert_with(top, |out| {
            out.extend_from_slice(b"Via: SIP/2.0/");
            out.extend_from_slice(self.listener.transport.via_name().as_bytes());
            out.push(b' ');
            out.extend_from_slice(self.listener.host.as_bytes());
            out.push(b':');
            write_decimal(self.listener.port.into(), out);
            out.extend_from_slice(b";branch=");
            out.extend_from_slice(self.branch);
            out.extend_from_slice(b"\r\n");
        });
        let force = self.plan.force_rport || self.settings.force_rport;
        response::via_source_edits(self.message, self.inbound.remote, force, edits);
    }

    /// Request-URI and Route (RFC 3261 16.6 steps 2, 4 and 6).
    fn routes(&self, edits: &mut Edits, top: u32) {
        let plan = self.plan;
        let mut uri: &[u8] = &self.target.uri;
        if uri.is_empty() {
            uri = plan.request_uri(self.message);
        }
        let count = self.message.values(HeaderName::Route).count();
        for (index, value) in self.message.values(HeaderName::Route).enumerate() {
            let last = plan.routing.drop_last && index.saturating_add(1) == count;
            if index < plan.routing.removed || last {
                edits.remove_value(self.message, &value);
            }
        }
        if !self.target.route.is_empty() {
            edits.insert_with(top, |out| {
                out.extend_from_slice(b"Route: ");
                out.extend_from_slice(&self.target.route);
                out.extend_from_slice(b"\r\n");
            });
        } else if let Some(first) = plan.routes_left(self.message).next() {
            uri = self.strict_next_hop(edits, first, uri);
        }
        if uri != self.message.request_uri() {
            let span = self.message.request_uri_span();
            edits.remove(span);
            edits.insert_with(span.start, |out| write_request_uri(uri, out));
        }
    }

    /// RFC 3261 16.6 step 6: a next hop without `lr` gets its own URI as Request-URI, and the real
    /// one as the last Route. Gives back the Request-URI to write.
    fn strict_next_hop<'b>(&self, edits: &mut Edits, first: Value<'b>, uri: &'b [u8]) -> &'b [u8] {
        let Ok(strict) = NameAddr::parse(first.bytes) else { return uri };
        if strict.parse_uri().is_ok_and(|u| u.is_loose()) {
            return uri;
        }
        edits.remove_value(self.message, &first);
        let end = self.message.headers_end();
        edits.insert_with(end, |out| {
            out.extend_from_slice(b"Route: <");
            out.extend_from_slice(uri);
            out.extend_from_slice(b">\r\n");
        });
        strict.uri
    }

    /// Do the two sides differ, so that a pair of values is needed?
    fn two_sided(&self) -> bool {
        self.inbound.local != self.listener.addr
            || self.inbound.transport != self.listener.transport
    }

    /// RFC 3261 16.6 step 4; a pair with `r2=on` where the sides differ (sip-behaviour 3.6), and
    /// where flows are named: each value then carries the flow of its side, and what comes back
    /// goes by that of the other side, also where the sender's address has changed meanwhile.
    fn record_route(&self, edits: &mut Edits, top: u32) {
        let target: &[u8] = &self.target.uri;
        let uri = if target.is_empty() { self.plan.request_uri(self.message) } else { target };
        let secure = Uri::parse(uri).is_ok_and(|u| u.scheme == Scheme::Sips);
        let (caller, callee) = (self.plan.caller_flow, self.plan.callee_flow && self.is_by_flow());
        let double = self.two_sided() || caller || callee;
        let user = |flow: &Flow, wanted: bool| {
            let mut user = Vec::new();
            if wanted {
                self.write_token(flow, &mut user);
            }
            user
        };
        let (outside, inside) = (user(&self.outbound, callee), user(&self.inbound, caller));
        edits.insert_with(top, |out| {
            record_route_line(out, self.listener, &outside, secure, double);
            if let Some(listener) = self.inbound_listener().filter(|_| double) {
                record_route_line(out, listener, &inside, secure, true);
            }
        });
    }

    /// Does the branch go straight to a phone: over the flow it registered, or where `received` or
    /// a token of ours says it is?
    fn is_by_flow(&self) -> bool {
        let target = self.target;
        let found = target.flow.is_some() || !target.destination.is_empty();
        found || (target.route.is_empty() && self.plan.routing.is_known())
    }

    fn write_token(&self, flow: &Flow, out: &mut Vec<u8>) {
        // Without keys nothing is staged that asks for a token.
        write_flow_token(flow, self.settings.start_id(), &self.settings.path_keys, out);
    }

    fn inbound_listener(&self) -> Option<&Listener> {
        let inbound = &self.inbound;
        self.settings
            .listeners
            .iter()
            .find(|l| l.addr == inbound.local && l.transport == inbound.transport)
    }

    /// Our Path value, or the pair of them: outgoing side on top, `received` on the side that faces
    /// the UA (sip-behaviour 1.5).
    fn path(&self, edits: &mut Edits, top: u32, staged: &StagedPath) {
        let received = staged.received.then_some(&self.inbound);
        let double = self.two_sided();
        let mut token = Vec::new();
        if staged.flow {
            self.write_token(&self.inbound, &mut token);
        }
        let facing_user: &[u8] = if staged.flow { &token } else { &staged.user };
        let value = |listener: &Listener, user, received, ob, out: &mut Vec<u8>| {
            let value = PathValue {
                user,
                host: &listener.host,
                port: listener.port,
                transport: listener.transport,
                received,
                ob,
                double,
            };
            write_path_value(&value, &self.settings.path_keys, out);
        };
        edits.insert_with(top, |out| {
            out.extend_from_slice(b"Path: ");
            match self.inbound_listener().filter(|_| double) {
                Some(inside) => {
                    value(self.listener, &staged.user, None, false, out);
                    out.extend_from_slice(b", ");
                    value(inside, facing_user, received, staged.ob, out);
                }
                None => value(self.listener, facing_user, received, staged.ob, out),
            }
            out.extend_from_slice(b"\r\n");
            if staged.require && !self.message.has_option(HeaderName::Require, b"path") {
                out.extend_from_slice(b"Require: path\r\n");
            }
        });
    }

    /// RFC 3261 16.6 step 3.
    fn max_forwards(&self, edits: &mut Edits, top: u32) {
        match (self.message.line(HeaderName::MaxForwards), self.message.max_forwards()) {
            (Some(line), Ok(Some(hops))) => {
                edits.remove(line.value);
                edits.insert_with(line.value.start, |out| {
                    write_decimal(hops.saturating_sub(1).into(), out);
                });
            }
            _ => edits.insert(top, b"Max-Forwards: 70\r\n"),
        }
    }

    /// RFC 5393 5.3.3.
    fn max_breadth(&self, edits: &mut Edits, top: u32) {
        let Some(breadth) = self.breadth else { return };
        match self.message.line(HeaderName::MaxBreadth) {
            Some(line) => {
                edits.remove(line.value);
                edits.insert_with(line.value.start, |out| write_decimal(breadth.into(), out));
            }
            None => edits.insert_with(top, |out| {
                out.extend_from_slice(b"Max-Breadth: ");
                write_decimal(breadth.into(), out);
                out.extend_from_slice(b"\r\n");
            }),
        }
    }

    /// RFC 3261 18.3: streams are framed by Content-Length.
    fn content_length(&self, edits: &mut Edits) {
        if let Some(body) = &self.plan.body {
            return body_edits(self.message, body, edits);
        }
        let missing = self.message.line(HeaderName::ContentLength).is_none();
        if missing && self.outbound.transport.is_reliable() {
            edits.insert_with(self.message.headers_end(), |out| {
                out.extend_from_slice(b"Content-Length: ");
                write_decimal(self.message.body().len() as u64, out);
                out.extend_from_slice(b"\r\n");
            });
        }
    }
}

fn record_route_line(
    out: &mut Vec<u8>,
    listener: &Listener,
    user: &[u8],
    secure: bool,
    double: bool,
) {
    out.extend_from_slice(if secure { b"Record-Route: <sips:" } else { b"Record-Route: <sip:" });
    if !user.is_empty() {
        out.extend_from_slice(user);
        out.push(b'@');
    }
    out.extend_from_slice(listener.host.as_bytes());
    out.push(b':');
    write_decimal(listener.port.into(), out);
    if listener.transport.is_reliable() {
        out.extend_from_slice(b";transport=");
        out.extend_from_slice(listener.transport.param_name().as_bytes());
    }
    out.extend_from_slice(b";lr");
    if double {
        out.extend_from_slice(b";r2=on");
    }
    out.extend_from_slice(b">\r\n");
}

/// A URI as Request-URI: headers and the `method` parameter are not allowed there (RFC 3261
/// 19.1.1).
pub(crate) fn write_request_uri(uri: &[u8], out: &mut Vec<u8>) {
    let Ok(parsed) = Uri::parse(uri) else {
        out.extend_from_slice(uri);
        return;
    };
    let has_method = parsed.is_sip() && parsed.params.has(b"method");
    if !has_method && parsed.headers.is_none() {
        out.extend_from_slice(uri);
        return;
    }
    let params = parsed.params.0;
    let cut = viaduct_message::Span::locate(uri, params).start as usize;
    let start = if params.is_empty() { uri.len() } else { cut.saturating_sub(1) };
    let before = uri.get(..start).unwrap_or(uri);
    let before = before.split(|c| *c == b'?').next().unwrap_or(before);
    out.extend_from_slice(before);
    for (name, value) in parsed.params.iter() {
        if name.eq_ignore_ascii_case(b"method") {
            continue;
        }
        out.push(b';');
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
}

/// Another body, and its length.
pub(crate) fn body_edits(message: Message<'_>, body: &[u8], edits: &mut Edits) {
    let length = body.len() as u64;
    match message.line(HeaderName::ContentLength) {
        Some(line) => {
            edits.remove(line.value);
            edits.insert_with(line.value.start, |out| write_decimal(length, out));
        }
        None => edits.insert_with(message.headers_end(), |out| {
            out.extend_from_slice(b"Content-Length: ");
            write_decimal(length, out);
            out.extend_from_slice(b"\r\n");
        }),
    }
    let span = message.body_span();
    edits.remove(span);
    edits.insert(span.start, body);
}

/// The policy's header edits: removals, and additions at the end of the head.
pub(crate) fn header_edits(message: Message<'_>, staged: &[HeaderEdit], edits: &mut Edits) {
    for edit in staged {
        match edit {
            HeaderEdit::Add { name, value } => edits.insert_with(message.headers_end(), |out| {
                for part in [&**name, b": ", value, b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }),
            HeaderEdit::Remove { name } => {
                message.lines_by_label(name).for_each(|line| edits.remove(line.whole));
            }
            HeaderEdit::RemoveLine { whole } => edits.remove(*whole),
        }
    }
}
