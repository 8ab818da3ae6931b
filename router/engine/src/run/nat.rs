//! NAT as a run sees it: tests by name, and the Contact (sip-behaviour 2.6).

use std::net::{IpAddr, Ipv4Addr};

use viaduct_message::{Contacts, HeaderName, Host, NameAddr, Span, Uri};

use super::{EditFault, HeaderEdit, Run};
use crate::flow::Transport;
use crate::settings::Network;

/// A name, and whether what it says holds.
type NatTest = (&'static str, fn(&Run) -> bool);

/// The tests, by their OpenSIPS names, in the order of their old bits: 1, 2, 4, ... 128.
const NAMES: [NatTest; 8] = [
    ("private-contact", |run| run.contact_ip().is_some_and(is_private)),
    ("diff-ip-src-via", |run| run.via().is_some_and(|(ip, _)| ip != Some(run.source_ip()))),
    ("private-via", |run| run.via().is_some_and(|(ip, _)| ip.is_some_and(is_private))),
    ("private-sdp", |run| run.sdp_ips().any(is_private)),
    ("diff-port-src-via", |run| run.via().is_some_and(|(_, port)| port != run.flow.remote.port())),
    ("diff-ip-src-contact", |run| run.contact().is_some_and(|(ip, _)| ip != Some(run.source_ip()))),
    ("diff-port-src-contact", |run| {
        run.contact().is_some_and(|(_, port)| port != run.flow.remote.port())
    }),
    ("carrier-grade-nat", |run| {
        let via = run.via().and_then(|(ip, _)| ip);
        run.contact_ip().into_iter().chain(via).chain(run.sdp_ips()).any(is_carrier_grade)
    }),
];

/// Most `c=` lines looked at.
const MAX_SDP_LINES: usize = 64;

/// A NAT test that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown NAT test `{0}`")]
pub struct UnknownNatTest(pub String);

impl Run {
    /// Is one of the named tests true? Names with commas, or the sum of their old bits (`"19"`).
    pub fn nat_test(&self, names: &str) -> Result<bool, UnknownNatTest> {
        let mut wanted = 0u8;
        for name in names.split(',').map(str::trim) {
            let bit = NAMES.iter().position(|(known, _)| *known == name);
            match (bit, name.parse::<u8>()) {
                (Some(bit), _) => wanted |= 1 << bit,
                (None, Ok(bits)) if bits > 0 => wanted |= bits,
                _ => return Err(UnknownNatTest(name.chars().take(64).collect())),
            }
        }
        let mut tests = NAMES.iter().enumerate();
        Ok(tests.any(|(bit, (_, holds))| wanted & (1 << bit) != 0 && holds(self)))
    }

    /// Is the sender behind NAT: does the topmost Via, or the Contact, name another address than
    /// the one the message came from?
    pub fn is_behind_nat(&self) -> bool {
        if let Some(found) = self.traits.behind_nat.filter(|_| self.message().is_request()) {
            return found;
        }
        let source = Some(self.source_ip());
        self.via().is_none_or(|(ip, _)| ip != source)
            || self.contact().is_some_and(|(ip, _)| ip != source)
    }

    /// Stages a Contact whose URI names the address the message came from, as `fix_nated_contact`
    /// does. False where there is no single SIP URI, or it names that address already.
    pub fn fix_nat_contact(&mut self) -> Result<bool, EditFault> {
        let Some(value) = self.fixed_contact() else { return Ok(false) };
        // Both or none: without the second the request would have no Contact.
        self.room_for(2, value.len().saturating_add(2 * "Contact".len()))?;
        self.remove_header("Contact")?;
        self.effects.edits.push(HeaderEdit::Add { name: b"Contact"[..].into(), value });
        Ok(true)
    }

    fn fixed_contact(&self) -> Option<Box<[u8]>> {
        let Contacts::List(mut list) = self.message().contacts() else { return None };
        let value = list.next().filter(|_| list.next().is_none())?.bytes;
        let contact = NameAddr::parse(value).ok()?;
        let uri = contact.parse_uri().ok().filter(Uri::is_sip)?;
        let remote = self.flow.remote;
        let transport = self.flow.transport;
        let port = uri.port.unwrap_or(transport.default_port());
        if matches!(uri.host, Host::Ip(ip) if ip == remote.ip()) && port == remote.port() {
            return None;
        }
        let host = Span::locate(contact.uri, uri.host_text);
        let before = contact.uri.get(..host.start as usize)?;
        let after = contact.uri.get(host.end as usize..)?;
        if uri.transport().is_none() && transport != Transport::Udp {
            return None; // it would name a datagram port that is none
        }
        let after = match after.strip_prefix(b":") {
            Some(port) => {
                port.get(port.iter().take_while(|byte| byte.is_ascii_digit()).count()..)?
            }
            None => after,
        };
        let mut out = b"<".to_vec();
        out.extend_from_slice(before);
        match remote.ip().to_canonical() {
            IpAddr::V4(ip) => out.extend_from_slice(format!("{ip}:{}", remote.port()).as_bytes()),
            IpAddr::V6(ip) => out.extend_from_slice(format!("[{ip}]:{}", remote.port()).as_bytes()),
        }
        out.extend_from_slice(after);
        out.push(b'>');
        if !contact.params.0.is_empty() {
            out.push(b';');
            out.extend_from_slice(contact.params.0);
        }
        let one_line = out.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t');
        one_line.then(|| out.into())
    }

    fn source_ip(&self) -> IpAddr {
        self.flow.remote.ip().to_canonical()
    }

    /// Address, where it is one, and port of the topmost Via.
    fn via(&self) -> Option<(Option<IpAddr>, u16)> {
        let via = self.message().top_via().ok()?;
        let port = via.port.unwrap_or(self.flow.transport.default_port());
        Some((ip_of(via.host), port))
    }

    /// The same of the first Contact.
    fn contact(&self) -> Option<(Option<IpAddr>, u16)> {
        let Contacts::List(mut list) = self.message().contacts() else { return None };
        let uri = NameAddr::parse(list.next()?.bytes).ok()?.parse_uri().ok()?;
        let port = uri.port.unwrap_or(self.flow.transport.default_port());
        Some((ip_of(uri.host), port))
    }

    fn contact_ip(&self) -> Option<IpAddr> {
        self.contact().and_then(|(ip, _)| ip)
    }

    /// Addresses of the `c=` lines of an SDP body (RFC 8866 5.7).
    fn sdp_ips(&self) -> impl Iterator<Item = IpAddr> {
        let message = self.message();
        let kind = message.value(HeaderName::ContentType).unwrap_or_default();
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let body = match kind.eq_ignore_ascii_case(b"application/sdp") {
            true => message.body(),
            false => &[],
        };
        let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let connections = lines.filter_map(|line| line.strip_prefix(b"c=IN IP"));
        connections.take(MAX_SDP_LINES).filter_map(|rest| {
            let text = std::str::from_utf8(rest).ok()?.split_ascii_whitespace().nth(1)?;
            text.split('/').next()?.parse::<IpAddr>().ok()
        })
    }
}

fn ip_of(host: Host<'_>) -> Option<IpAddr> {
    match host {
        Host::Ip(ip) => Some(ip.to_canonical()),
        Host::Name(_) => None,
    }
}

/// RFC 1918, and the unique local addresses of RFC 4193.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// RFC 6598.
fn is_carrier_grade(ip: IpAddr) -> bool {
    let shared = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0));
    Network { addr: shared, bits: 10 }.contains(ip)
}

#[cfg(test)]
mod tests;
