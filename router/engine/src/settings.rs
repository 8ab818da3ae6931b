//! What the shell tells the engine once, at start or on reload.

use std::hash::Hasher as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use siphasher::sip::SipHasher13;
use viaduct_message::{Host, Uri};

use crate::auth::Auth;
use crate::dispatcher::Dispatcher;
use crate::flow::Transport;
use crate::media::Media;
use crate::path::PathKeys;
use crate::registrar::Registrar;
use crate::table::Tables;

/// Keeps this use of the secret apart.
const START_DOMAIN: u8 = 0x22;

/// An address we receive on and send from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Protocol.
    pub transport: Transport,
    /// The bound address; never a wildcard (the shell expands those).
    pub addr: SocketAddr,
    /// Host others are told (Via, Record-Route, Path); IPv6 in brackets.
    pub host: Box<str>,
    /// Port others are told.
    pub port: u16,
}

/// A network of addresses, `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address in it.
    pub addr: IpAddr,
    /// Leading bits that count: at most 32 or 128.
    pub bits: u8,
}

impl Network {
    /// Is `ip` in the network? IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.addr.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32u32.saturating_sub(u32::from(self.bits));
                net.to_bits().checked_shr(shift).unwrap_or(0)
                    == ip.to_bits().checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128u32.saturating_sub(u32::from(self.bits));
                net.to_bits().checked_shr(shift).unwrap_or(0)
                    == ip.to_bits().checked_shr(shift).unwrap_or(0)
            }
            _ => false,
        }
    }
}

/// Timer values (RFC 3261 table 4); all in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerValues {
    /// Round-trip estimate, 500 ms.
    pub t1_us: u64,
    /// Longest retransmission interval, 4 s.
    pub t2_us: u64,
    /// Longest life of a message in the network, 5 s.
    pub t4_us: u64,
    /// Timer C, more than 3 minutes (RFC 3261 16.6 step 11).
    pub c_us: u64,
}

impl Default for TimerValues {
    fn default() -> Self {
        TimerValues { t1_us: 500_000, t2_us: 4_000_000, t4_us: 5_000_000, c_us: 181_000_000 }
    }
}

/// Bounds on what one engine holds; past them requests are answered 503 without state. New requests
/// may fill three quarters of the transactions, refreshes seven eighths, requests within a dialog
/// all.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Server transactions at a time.
    pub transactions: usize,
    /// Branches of one request, retries included.
    pub branches: usize,
    /// Message size and header count.
    pub message: viaduct_message::Limits,
    /// Requests that wait for the answer to a question ([`crate::query`]) at a time.
    pub asking: usize,
    /// How long one of them waits, all its questions together, microseconds.
    pub ask_us: u64,
    /// Requests longer than this, in bytes, go by TCP where nobody has named a transport, and by
    /// UDP after all where TCP fails (RFC 3261 18.1.1); 0: never.
    pub datagram_bytes: usize,
    /// How long messages may wait unread before fewer requests are let in, microseconds; 0: for
    /// ever.
    pub backlog_us: u64,
    /// 503s a second to those who are not let in; the others get nothing.
    pub shed_answers_per_s: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            transactions: 500_000,
            branches: 16,
            message: viaduct_message::Limits::default(),
            asking: 10_000,
            ask_us: 5_000_000,
            datagram_bytes: 0,
            backlog_us: 250_000,
            shed_answers_per_s: 5_000,
        }
    }
}

/// All settings of an engine.
#[derive(Clone)]
pub struct Settings {
    /// Which worker this engine is: written into our branches, so that responses find it.
    pub worker: u8,
    /// Where we listen. The first of a transport and family is the default to send from.
    pub listeners: Vec<Listener>,
    /// Domains that are ours, lower case.
    pub domains: Vec<Box<str>>,
    /// Peers whose Path, `received` and socket headers are believed (R-P10, R-P17, R-S2).
    pub trusted: Vec<Network>,
    /// Registrar parameters.
    pub registrar: Registrar,
    /// How users are authenticated; `None`: nobody is.
    pub auth: Option<Auth>,
    /// Keys that sign our Path values and nonces.
    pub path_keys: PathKeys,
    /// Use `received` of our own Route values as next hop (`use_received`, sip-behaviour 1.6).
    pub use_received: bool,
    /// Answer to the source port even where the client did not ask with `rport` (RFC 3581).
    pub force_rport: bool,
    /// Value of the Server header in our responses; empty: none.
    pub server: Box<str>,
    /// Make events of usual traffic too (registrations, calls), for whoever watches.
    pub events: bool,
    /// Timers.
    pub timers: TimerValues,
    /// Bounds.
    pub bounds: Bounds,
    /// Random per start, the same for all workers: To-tags of stateless replies, branch hashes.
    pub secret: [u8; 16],
    /// What policies of all workers share.
    pub shared: Shared,
}

/// What policies of all workers share: the same in all settings of a router.
#[derive(Clone, Default)]
pub struct Shared {
    /// Tables policies write to.
    pub tables: Arc<Tables>,
    /// Sets of destinations.
    pub dispatcher: Arc<Dispatcher>,
    /// Relays media; `None`: nobody does.
    pub media: Option<Arc<dyn Media>>,
}

impl Settings {
    /// Names this run of the router in flow tokens: the numbers of connections begin anew with each
    /// start, and with the random `secret`.
    pub fn start_id(&self) -> u32 {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write(&[START_DOMAIN]);
        hasher.finish() as u32
    }
    /// Is the source a trusted peer?
    pub fn is_trusted(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(ip))
    }
    /// Does a SIP URI name us: one of our domains, or an address we listen on or advertise?
    pub fn is_ours(&self, uri: &Uri<'_>) -> bool {
        let ours = || self.domains.iter().any(|domain| names_uri(domain, uri));
        uri.is_sip() && (ours() || self.listener_of(uri).is_some())
    }
    /// The listener a URI names by bound or advertised host and port, its transport respected where
    /// it names one.
    pub fn listener_of(&self, uri: &Uri<'_>) -> Option<&Listener> {
        let transport = uri.transport().map(Transport::from_name);
        self.listeners.iter().find(|l| {
            let port = uri.port.unwrap_or(l.transport.default_port());
            let host_fits = match uri.host {
                Host::Ip(ip) if ip == l.addr.ip() => port == l.addr.port(),
                _ => names_uri(&l.host, uri) && port == l.port,
            };
            host_fits && transport.is_none_or(|t| t == Some(l.transport))
        })
    }
    /// The listener to send from: the one at `preferred` where it fits, else the first of that
    /// transport and address family.
    pub fn listener_for(
        &self,
        transport: Transport,
        remote: IpAddr,
        preferred: Option<SocketAddr>,
    ) -> Option<&Listener> {
        let fits = |l: &&Listener| {
            l.transport == transport && l.addr.is_ipv4() == remote.to_canonical().is_ipv4()
        };
        let exact = self.listeners.iter().filter(fits).find(|l| Some(l.addr) == preferred);
        exact.or_else(|| self.listeners.iter().find(fits))
    }
    /// The domain of ours a SIP URI is in, as configured.
    pub fn domain_of(&self, uri: &Uri<'_>) -> Option<&str> {
        let ours = self.domains.iter().find(|domain| names_uri(domain, uri));
        ours.map(|domain| &**domain).filter(|_| uri.is_sip())
    }
    /// Is the host name one of our domains? Without case.
    pub fn is_our_domain(&self, host: &[u8]) -> bool {
        self.domains.iter().any(|domain| names_host(domain, host))
    }
}

/// Does our text (a name, or an address) name that host? Addresses are compared by value: an IPv6
/// address has many spellings (RFC 5952 1).
fn names_host(ours: &str, host: &[u8]) -> bool {
    if host.eq_ignore_ascii_case(ours.as_bytes()) {
        return true;
    }
    let Some((ours, host)) = bracketed(ours.as_bytes()).zip(bracketed(host)) else { return false };
    ours == host
}

/// As [`names_host`], for a URI: its host has been read already, with what RFC 5118 4.10 has us
/// tolerate.
fn names_uri(ours: &str, uri: &Uri<'_>) -> bool {
    match uri.host {
        Host::Ip(IpAddr::V6(ip)) => bracketed(ours.as_bytes()) == Some(ip),
        // Domains are kept in lower case, and nearly all who write them do.
        _ => {
            let (text, ours) = (uri.host_text, ours.as_bytes());
            text.len() == ours.len() && (text == ours || text.eq_ignore_ascii_case(ours))
        }
    }
}

fn bracketed(host: &[u8]) -> Option<std::net::Ipv6Addr> {
    let bare = host.strip_prefix(b"[")?.strip_suffix(b"]")?;
    std::str::from_utf8(bare).ok()?.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A router at 192.0.2.1, UDP, for `example.com`.
    pub(crate) fn settings() -> Settings {
        Settings {
            worker: 0,
            listeners: vec![Listener {
                transport: Transport::Udp,
                addr: ([192, 0, 2, 1], 5060).into(),
                host: "192.0.2.1".into(),
                port: 5060,
            }],
            domains: vec!["example.com".into()],
            trusted: Vec::new(),
            registrar: Registrar::default(),
            auth: None,
            path_keys: PathKeys::default(),
            use_received: true,
            force_rport: false,
            server: "".into(),
            events: false,
            timers: TimerValues::default(),
            bounds: Bounds::default(),
            secret: [9; 16],
            shared: Shared::default(),
        }
    }

    #[test]
    fn an_ipv6_address_is_the_same_host_in_every_spelling() {
        for host in ["[2001:db8::c000:201]", "[2001:DB8:0::192.0.2.1]"] {
            assert!(names_host("[2001:db8::192.0.2.1]", host.as_bytes()), "{host}");
        }
        assert!(!names_host("[2001:db8::1]", b"[2001:db8::2]"));
        assert!(names_host("example.com", b"Example.COM"));
        assert!(!names_host("example.com", b"[::1]"));
    }
}
