//! What a REGISTER says for all its contacts: order, Path, where it came from.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use viaduct_message::{HeaderName, Message, Method, NameAddr, Uri};

use super::{SaveInput, SaveRefusal};
use crate::flow::{ConnId, Transport};
use crate::path::{collect_path, first_value, parse_received, write_received};
use crate::registrar::PathMode;

/// Longest Call-ID stored, bytes; longer ones are refused (sip-behaviour 2.1).
const MAX_CALL_ID_BYTES: usize = 255;
/// A User-Agent is cut to this, bytes.
const MAX_USER_AGENT_BYTES: usize = 255;
/// Header the `socket-header` flag reads (`proto:IP:port`).
const SOCKET_HEADER: &[u8] = b"Sock-Info";
/// What a malformed Expires means (RFC 3261 10.2.1.1, 20.19), seconds.
pub(super) const MALFORMED_EXPIRES_S: u32 = 3600;

/// The Expires header.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Expires {
    Absent,
    Malformed,
    Seconds(u32),
}

pub(super) struct Request<'a> {
    pub(super) call_id: &'a [u8],
    pub(super) cseq: u32,
    pub(super) expires: Expires,
    /// Path vector joined by `, `; empty where there is none or it is ignored.
    pub(super) path: Vec<u8>,
    /// The 200 repeats the Path (R-P16).
    pub(super) path_in_answer: bool,
    pub(super) user_agent: Cow<'a, [u8]>,
    pub(super) methods: Option<u32>,
    /// Empty where it does not matter.
    pub(super) received: Vec<u8>,
    pub(super) nat: bool,
    pub(super) transport: Transport,
    pub(super) local: SocketAddr,
    pub(super) conn: ConnId,
}

impl<'a> Request<'a> {
    /// Of a REGISTER that says nothing yet.
    pub(super) fn new(input: &SaveInput<'_>) -> Request<'a> {
        Request {
            call_id: b"",
            cseq: 0,
            expires: Expires::Absent,
            path: Vec::new(),
            path_in_answer: false,
            user_agent: Cow::Borrowed(b""),
            methods: None,
            received: Vec::new(),
            nat: false,
            transport: input.flow.transport,
            local: input.flow.local,
            conn: input.flow.conn,
        }
    }

    /// Reads the REGISTER; refuses it where it cannot stand as a whole. In place: handed back as a
    /// result it would be copied whole.
    pub(super) fn read(&mut self, input: &SaveInput<'a>) -> Result<(), SaveRefusal> {
        let message = input.message;
        super::outbound::check_required(input)?;
        self.path_in_answer = read_path(input, &mut self.path)?;
        self.cseq = message.cseq().map_err(|_| SaveRefusal::new(400, "Bad CSeq"))?.number;
        self.call_id = message.call_id().map_err(|_| SaveRefusal::new(400, "Bad Call-ID"))?;
        if self.call_id.len() > MAX_CALL_ID_BYTES {
            return Err(SaveRefusal::new(400, "Call-ID Too Long"));
        }
        self.expires = match message.expires_s() {
            Ok(None) => Expires::Absent,
            Ok(Some(seconds)) => Expires::Seconds(seconds),
            Err(_) => Expires::Malformed,
        };
        self.user_agent = user_agent(message.value(HeaderName::UserAgent));
        self.methods = methods(message);
        self.read_source(input);
        Ok(())
    }

    /// Where the request came from, and the socket it came to.
    fn read_source(&mut self, input: &SaveInput<'_>) {
        let signalled = match input.flags.path_received && input.trusted {
            // R-P17: it decides where pings go, so only trusted peers may say it.
            true => path_received(&self.path),
            false => None,
        };
        let flow = input.flow;
        let source = match signalled {
            Some(source) => Some(source),
            // A stream's other end is needed to say which flow it was (RFC 5626 1).
            None if input.fix_nat || flow.transport.is_reliable() => {
                Some((flow.transport, flow.remote))
            }
            None => None,
        };
        self.nat = signalled.is_some() || input.fix_nat;
        if let Some((transport, addr)) = source {
            self.received.reserve(64);
            write_received(transport, addr, &mut self.received);
        }
        if input.flags.socket_header && input.trusted {
            self.read_socket_header(input);
        }
    }

    /// R-S2: a trusted front proxy names the socket; ignored where it is absent, malformed or not
    /// one of ours. The connection to the proxy is not the phone's.
    fn read_socket_header(&mut self, input: &SaveInput<'_>) {
        let value = input.message.value_by_label(SOCKET_HEADER);
        let Some((transport, addr)) = value.and_then(parse_socket) else { return };
        if input.listeners.iter().any(|l| l.transport == transport && l.addr == addr) {
            (self.transport, self.local, self.conn) = (transport, addr, ConnId::NONE);
            if !self.nat {
                self.received.clear();
            }
        }
    }
}

/// Appends the Path of the REGISTER; whether the 200 repeats it (sip-behaviour 1.7.1).
fn read_path(input: &SaveInput<'_>, path: &mut Vec<u8>) -> Result<bool, SaveRefusal> {
    let message = input.message;
    let refuse = || {
        let refusal = SaveRefusal::new(420, "Bad Extension").with_header("Unsupported", "path");
        if input.registrar.path_in_420 { refusal.with_path(message) } else { refusal }
    };
    let mode = input.flags.path.unwrap_or(input.registrar.path_mode);
    let required = message.has_option(HeaderName::Require, b"path");
    if mode == PathMode::Ignore {
        // R-P13: Path handling is off, so the extension is not understood (RFC 3261 8.2.2.3).
        return if required { Err(refuse()) } else { Ok(false) };
    }
    if message.line(HeaderName::Path).is_none() {
        return Ok(false);
    }
    // R-P13: who requires it supports it.
    let supported = required || message.has_option(HeaderName::Supported, b"path");
    // R-P11: before anything is stored, whatever the contacts say.
    if mode == PathMode::Strict && !supported {
        return Err(refuse());
    }
    let limits = input.registrar;
    let (values, bytes) = (limits.max_path_values.into(), limits.max_path_bytes.into());
    path.reserve(128);
    collect_path(message, values, bytes, path)
        .map_err(|fault| SaveRefusal::new(400, fault.reason()))?;
    Ok(match mode {
        PathMode::Ignore | PathMode::Off => false,
        PathMode::Lazy => supported,
        PathMode::Strict => true,
    })
}

/// `received` of the topmost Path value, or of its twin where that is one of a pair (1.7.2).
fn path_received(path: &[u8]) -> Option<(Transport, SocketAddr)> {
    let (first, rest) = first_value(path)?;
    let first = NameAddr::parse(first).ok()?.parse_uri().ok()?;
    let read = |uri: &Uri<'_>| parse_received(uri.param(b"received").flatten()?);
    match first_value(rest) {
        Some((second, _)) if first.param(b"r2").is_some() => {
            read(&NameAddr::parse(second).ok()?.parse_uri().ok()?)
        }
        _ => read(&first),
    }
}

/// `proto:IP:port`, IPv6 in brackets.
fn parse_socket(value: &[u8]) -> Option<(Transport, SocketAddr)> {
    let (protocol, rest) = std::str::from_utf8(value).ok()?.trim().split_once(':')?;
    let (ip, port) = rest.rsplit_once(':')?;
    let ip: IpAddr = match ip.strip_prefix('[') {
        Some(ip) => IpAddr::V6(ip.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(ip.parse().ok()?),
    };
    let transport = Transport::from_name(protocol.as_bytes())?;
    Some((transport, SocketAddr::new(ip, port.parse().ok()?)))
}

fn user_agent(value: Option<&[u8]>) -> Cow<'_, [u8]> {
    let value = value.unwrap_or_default();
    unfold(value.get(..MAX_USER_AGENT_BYTES).unwrap_or(value))
}

/// The text with control characters (the ends of folded lines among them) as blanks, so that it can
/// be written into a header or a log line.
pub(super) fn unfold(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(u8::is_ascii_control) {
        return Cow::Borrowed(text);
    }
    let blank = |byte: &u8| if byte.is_ascii_control() { b' ' } else { *byte };
    Cow::Owned(text.iter().map(blank).collect())
}

/// Methods in Allow, one bit each; `None` without Allow.
fn methods(message: Message<'_>) -> Option<u32> {
    let value = message.value(HeaderName::Allow)?;
    let plain = if message.is_repeated(HeaderName::Allow) { None } else { plain_methods(value) };
    Some(plain.unwrap_or_else(|| {
        let tokens = message.tokens(HeaderName::Allow);
        tokens.fold(0, |bits, token| bits | method_bit(Method::from_token(token)))
    }))
}

/// The bits of a list written as nearly all write it: methods we know, at most one blank before
/// each. `None` for any other.
fn plain_methods(list: &[u8]) -> Option<u32> {
    list.split(|byte| *byte == b',').try_fold(0, |bits, token| {
        let token = token.strip_prefix(b" ").unwrap_or(token);
        match method_bit(Method::from_token(token)) {
            0 => None,
            bit => Some(bits | bit),
        }
    })
}

/// The bit of a method; none for methods we do not know.
pub(crate) fn method_bit(method: Method) -> u32 {
    if method == Method::Other { 0 } else { 1 << (method as u32) }
}
