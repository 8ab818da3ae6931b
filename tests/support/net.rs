//! Addresses for tests that run side by side, and waiting for a port to be bound.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::place;

/// UDP or TCP; how SIP, SIPp and the kernel's tables call it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

impl Transport {
    /// As in a URI's `transport` parameter.
    #[must_use]
    pub fn in_uri(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// As in a Via header field.
    #[must_use]
    pub fn in_via(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// An address for a phone that nobody else in this test run uses: on loopback, or where
/// [`place`] puts the peers of routers.
///
/// The whole of 127/8 is local, so each test gets addresses of its own and may use the ports it
/// likes: no port is ever taken between asking for a free one and binding it. The middle octets
/// come from the process id, the last one is counted up; 250 for each process.
///
/// # Panics
/// When a process asks for more than 250.
#[must_use]
pub fn own_address() -> IpAddr {
    place::settle();
    if let Some(address) = OWN.take() {
        OWN.set(Some(match address {
            IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) + 1).into(),
            IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) + 1).into(),
        }));
        return address;
    }
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(last <= 250, "a test process has used up its loopback addresses");
    let [_, _, high, low] = (process::id() % (1 << 15)).to_be_bytes();
    Ipv4Addr::new(127, 128 + high, low, last).into()
}

thread_local! {
    /// The next address of this thread where it is not on loopback.
    static OWN: Cell<Option<IpAddr>> = const { Cell::new(None) };
}

/// From now on [`own_address`] gives this thread `first`, and then those that follow it.
pub fn use_addresses(first: IpAddr) {
    OWN.set(Some(first));
}

/// Waits until some process has `address` bound (UDP) or listens on it (TCP).
///
/// # Errors
/// When the deadline passes first.
pub fn wait_until_bound(transport: Transport, address: SocketAddr, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    while !is_bound(transport, address) {
        if Instant::now() >= deadline {
            bail!("nobody bound {transport:?} {address} within {within:?}");
        }
        // The kernel has no event for "somebody bound this".
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whether `address` is bound, by the kernel's own table; nothing is sent to find out.
#[must_use]
pub fn is_bound(transport: Transport, address: SocketAddr) -> bool {
    let IpAddr::V4(v4) = address.ip() else {
        return is_bound_v6(transport, address);
    };
    // The table prints the address as one native-endian word.
    let word = u32::from_ne_bytes(v4.octets());
    let wanted = format!("{word:08X}:{:04X}", address.port());
    let table = match transport {
        Transport::Udp => "/proc/thread-self/net/udp",
        Transport::Tcp => "/proc/thread-self/net/tcp",
    };
    table_has(table, &wanted, transport)
}

fn is_bound_v6(transport: Transport, address: SocketAddr) -> bool {
    let IpAddr::V6(v6) = address.ip() else {
        return false;
    };
    let words: String = v6
        .octets()
        .chunks_exact(4)
        .filter_map(|four| four.try_into().ok().map(u32::from_ne_bytes))
        .map(|word| format!("{word:08X}"))
        .collect();
    let wanted = format!("{words}:{:04X}", address.port());
    let table = match transport {
        Transport::Udp => "/proc/thread-self/net/udp6",
        Transport::Tcp => "/proc/thread-self/net/tcp6",
    };
    table_has(table, &wanted, transport)
}

/// Looks for a local address in a table of the kernel; for TCP only listening sockets count.
fn table_has(table: &str, wanted: &str, transport: Transport) -> bool {
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(table).unwrap_or_default();
    text.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next();
        let state = fields.nth(1);
        local == Some(wanted) && (transport == Transport::Udp || state == Some(LISTEN))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_bound_port_is_seen_and_a_free_one_is_not() {
        let ip = own_address();
        let udp = UdpSocket::bind((ip, 0)).unwrap();
        let tcp = TcpListener::bind((ip, 0)).unwrap();
        let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        assert!(is_bound(Transport::Udp, udp_at));
        assert!(is_bound(Transport::Tcp, tcp_at));
        let nobodys = SocketAddr::from((own_address(), udp_at.port()));
        assert!(!is_bound(Transport::Udp, nobodys));
        assert!(!is_bound(Transport::Tcp, nobodys));
    }

    #[test]
    fn a_bound_v6_port_is_seen() {
        let Ok(udp) = UdpSocket::bind("[::1]:0") else {
            super::super::skip::skipped("no IPv6 on this machine");
            return;
        };
        assert!(is_bound(Transport::Udp, udp.local_addr().unwrap()));
    }

    #[test]
    fn own_addresses_differ() {
        assert_ne!(own_address(), own_address());
    }
}
