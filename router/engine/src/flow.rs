//! Flows: how a message came and how an answer goes back (RFC 5626 1, RFC 3261 18).

use std::net::SocketAddr;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Transport {
    /// Datagrams.
    Udp = 1,
    /// Plain stream.
    Tcp = 2,
    /// TLS over TCP.
    Tls = 3,
    /// WebSocket.
    Ws = 5,
    /// WebSocket over TLS.
    Wss = 6,
}

impl Transport {
    /// Does the transport deliver by itself (no retransmission timers, RFC 3261 17)?
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }
    /// The name in Via, upper case.
    pub fn via_name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }
    /// The name in a `transport` parameter, lower case. WSS is `ws` there (RFC 7118 5.2).
    pub fn param_name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws | Transport::Wss => "ws",
        }
    }
    /// The transport a name means, in any case.
    pub fn from_name(name: &[u8]) -> Option<Transport> {
        const ALL: [Transport; 5] =
            [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
        ALL.into_iter().find(|t| name.eq_ignore_ascii_case(t.via_name().as_bytes()))
    }
    /// Port where a URI or Via names none (RFC 3261 18.1.1, 19.1.2).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Tls | Transport::Wss => 5061,
            _ => 5060,
        }
    }
}

/// One connection of a stream transport. Never reused within a run of the router, so that an old
/// number cannot mean a new connection; 0 is no connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

impl ConnId {
    /// No connection: a datagram, or a stream yet to be opened.
    pub const NONE: ConnId = ConnId(0);

    /// Builds an id from the worker that owns the socket and a counter of that worker.
    pub fn new(worker: u8, serial: u64) -> ConnId {
        ConnId((u64::from(worker) << 56) | (serial & 0x00ff_ffff_ffff_ffff))
    }
    /// The worker that owns the socket.
    pub fn worker(self) -> u8 {
        (self.0 >> 56) as u8
    }
}

/// A way to a peer: protocol, our address, the peer's, and the connection where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Protocol.
    pub transport: Transport,
    /// Our address and port: for UDP the listener's, for a stream the listener's where the peer
    /// opened it, else the listener we speak for.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// For streams: the connection; [`ConnId::NONE`] asks the transport to reuse one to `remote`
    /// or to open one.
    pub conn: ConnId,
}
