//! Listeners: addresses, transports, what others are told, and what a wildcard stands for.

use std::net::{IpAddr, SocketAddr};

use viaduct_engine::{Listener, Transport};

use super::packets::XdpWish;
use super::reader::{Section, Text, quoted};

/// Most `[[listen]]` tables, and most listeners after wildcards are expanded.
const MOST_TABLES: usize = 64;
const MOST_LISTENERS: usize = 256;
const ADDRESS: &str = "an IP address with a port, such as \"127.0.0.1:5060\", \"0.0.0.0:5060\", \
                       \"[::]:5060\"";
const ADVERTISE: &str = "a host name or IP address, with or without a port, such as \
                         \"sip.example.com:5060\"";

/// Addresses of this machine's interfaces that are up, without duplicates.
pub(crate) fn machine_addresses() -> Vec<IpAddr> {
    let mut found = Vec::new();
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return found;
    };
    for interface in interfaces {
        if !interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP) {
            continue;
        }
        let Some(addr) = interface.address else {
            continue;
        };
        let ip = if let Some(v4) = addr.as_sockaddr_in() {
            IpAddr::V4(v4.ip())
        } else if let Some(v6) = addr.as_sockaddr_in6() {
            // Link-local addresses need a scope, which no SIP URI can carry.
            if v6.ip().is_unicast_link_local() {
                continue;
            }
            IpAddr::V6(v6.ip())
        } else {
            continue;
        };
        if !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

/// Reads all `[[listen]]` tables. `wishes` gets what UDP listeners want of AF_XDP.
pub(crate) fn read(
    top: &mut Section<'_, '_>,
    open: bool,
    addresses: &dyn Fn() -> Vec<IpAddr>,
    wishes: &mut Vec<(SocketAddr, XdpWish)>,
) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    let sections = top.sections("listen", MOST_TABLES);
    if sections.is_empty() {
        let allowed = "at least one [[listen]] table";
        top.sheet().fault(
            top.at(),
            "listen",
            "is missing: nothing would be served".into(),
            allowed,
        );
    }
    for mut section in sections {
        let transports = transports(&mut section);
        let advertise = section.text("advertise", "", ADVERTISE);
        // Who asks for it knows that attaching may reset the link of a network card.
        let wish = section.choice("xdp", &XdpWish::WORDS, ("off", XdpWish::Off));
        let address = address(&mut section);
        if wish != XdpWish::Off && transports.contains(&Transport::Udp) {
            let concrete = address.as_ref().map(|(_, address)| expand(*address, addresses));
            wishes.extend(concrete.into_iter().flatten().map(|addr| (addr, wish)));
        }
        if let Some((text, address)) = &address {
            let told = advertise.as_ref().and_then(|told| advertised(&section, told));
            refuse_open(&section, text, *address, open);
            let concrete = expand(*address, addresses);
            if concrete.is_empty() {
                let problem = format!("is {address}, and this machine has no such address up");
                section.sheet().fault(text.at, &text.key, problem, ADDRESS);
            }
            for (transport, addr) in
                concrete.iter().flat_map(|addr| transports.iter().map(move |t| (*t, *addr)))
            {
                let (host, port) = match &told {
                    Some((host, port)) => (host.clone(), port.unwrap_or(addr.port())),
                    None => (host_of(addr.ip()), addr.port()),
                };
                let listener = Listener { transport, addr, host: host.into(), port };
                if listeners.iter().any(|l| l.transport == transport && l.addr == addr) {
                    let problem = format!("binds {} twice", super::listener_name(&listener));
                    section.sheet().fault(text.at, &text.key, problem, "each address once");
                } else {
                    listeners.push(listener);
                }
            }
        }
        section.close();
    }
    if listeners.len() > MOST_LISTENERS {
        let problem = format!("stands for {} sockets", listeners.len());
        top.sheet().fault(top.place("listen"), "listen", problem, "at most 256");
    }
    listeners
}

/// The host part of a URI.
fn host_of(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn transports(section: &mut Section<'_, '_>) -> Vec<Transport> {
    const ALLOWED: &str = "a list of \"udp\", \"tcp\"";
    let Some(texts) = section.texts("transports", 2, "[\"udp\", \"tcp\"]", ALLOWED) else {
        return vec![Transport::Udp, Transport::Tcp];
    };
    let mut found = Vec::new();
    for text in &texts {
        let transport = match text.value.as_str() {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            _ => {
                let problem = format!("has {}", quoted(&text.value));
                section.sheet().fault(text.at, &text.key, problem, ALLOWED);
                continue;
            }
        };
        if !found.contains(&transport) {
            found.push(transport);
        }
    }
    if texts.is_empty() {
        let place = section.place("transports");
        section.sheet().fault(place, &section.name("transports"), "is empty".into(), ALLOWED);
    }
    found
}

fn address(section: &mut Section<'_, '_>) -> Option<(Text, SocketAddr)> {
    let at = section.at();
    let Some(text) = section.text("address", "", ADDRESS) else {
        if section.place("address") == at {
            let name = section.name("address");
            section.sheet().fault(at, &name, "is missing".into(), ADDRESS);
        }
        return None;
    };
    match text.value.parse::<SocketAddr>() {
        Ok(addr) if addr.port() > 0 && !addr.ip().is_multicast() => Some((text, addr)),
        Ok(addr) if addr.port() == 0 => {
            let problem = format!("is {}: others must know the port", quoted(&text.value));
            section.sheet().fault(text.at, &text.key, problem, "a port from 1 to 65535");
            None
        }
        _ => {
            let problem = format!("is {}", quoted(&text.value));
            section.sheet().fault(text.at, &text.key, problem, ADDRESS);
            None
        }
    }
}

/// An open relay is opened on purpose or not at all.
fn refuse_open(section: &Section<'_, '_>, text: &Text, addr: SocketAddr, open: bool) {
    if !open && !addr.ip().is_loopback() {
        let problem =
            format!("is {addr}: whoever reaches it may register and call without authentication");
        let allowed = "a loopback address, or any with users in [auth] or `open = true` at the top";
        section.sheet().fault(text.at, &text.key, problem, allowed);
    }
}

fn advertised(section: &Section<'_, '_>, text: &Text) -> Option<(String, Option<u16>)> {
    let parsed = parse_host_port(&text.value);
    if parsed.is_none() {
        let problem = format!("is {}", quoted(&text.value));
        section.sheet().fault(text.at, &text.key, problem, ADVERTISE);
    }
    parsed
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`; a bare IPv6 address gets its brackets.
pub(super) fn parse_host_port(text: &str) -> Option<(String, Option<u16>)> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return concrete(ip).then(|| (host_of(ip), None));
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        let port = Some(addr.port()).filter(|port| *port > 0)?;
        return concrete(addr.ip()).then(|| (host_of(addr.ip()), Some(port)));
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let ip: IpAddr = inner.parse().ok()?;
        return concrete(ip).then(|| (host_of(ip), None));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().ok().filter(|port| *port > 0)?)),
        None => (text, None),
    };
    is_host_name(host).then(|| (host.to_ascii_lowercase(), port))
}

fn concrete(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast()
}

/// RFC 3261 25.1 `hostname`: labels of letters, digits and inner hyphens; the last begins with a
/// letter.
pub(crate) fn is_host_name(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253
        && labels.split('.').all(label_fits)
        && labels
            .rsplit('.')
            .next()
            .is_some_and(|top| top.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic()))
}

fn expand(addr: SocketAddr, addresses: &dyn Fn() -> Vec<IpAddr>) -> Vec<SocketAddr> {
    if !addr.ip().is_unspecified() {
        return vec![addr];
    }
    let same_family = |ip: &IpAddr| ip.is_ipv4() == addr.is_ipv4();
    let found = addresses().into_iter().filter(same_family);
    found.map(|ip| SocketAddr::new(ip, addr.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_hosts_take_every_usual_form() {
        for (text, expected) in [
            ("sip.example.com", Some(("sip.example.com", None))),
            ("SIP.Example.com:5070", Some(("sip.example.com", Some(5070)))),
            ("192.0.2.1", Some(("192.0.2.1", None))),
            ("192.0.2.1:5060", Some(("192.0.2.1", Some(5060)))),
            ("2001:db8::1", Some(("[2001:db8::1]", None))),
            ("[2001:db8::1]", Some(("[2001:db8::1]", None))),
            ("[2001:db8::1]:5062", Some(("[2001:db8::1]", Some(5062)))),
            ("0.0.0.0", None),
            ("example.com:0", None),
            ("example.com:x", None),
            ("-a.example", None),
            ("a..example", None),
            ("300.300.300.300", None),
            ("a b", None),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(parse_host_port(text), expected, "{text}");
        }
    }

    #[test]
    fn this_machine_has_its_loopback_address() {
        assert!(machine_addresses().contains(&"127.0.0.1".parse().unwrap()));
    }
}
