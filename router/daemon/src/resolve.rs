//! Locating SIP servers (RFC 3263 4): NAPTR, SRV, addresses. Runs off the workers; each question is
//! answered by mail, with nothing found where it fails or takes too long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use viaduct_engine::{Hop, Question, Token, Transport};

use crate::worker::mail::{Address, Mail};

/// Questions under way at a time; more are answered with nothing found at once.
const MOST: usize = 1024;
/// A question that takes longer has no answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Hops of one answer.
const MOST_HOPS: usize = 8;

/// Asks the machine's name servers. Clones share one cache.
#[derive(Clone)]
pub(crate) struct Resolver {
    runtime: Handle,
    dns: Option<Arc<TokioResolver>>,
    room: Arc<Semaphore>,
}

impl Resolver {
    /// A resolver by the machine's configuration; without one, nothing is ever found.
    pub(crate) fn new(runtime: Handle) -> Resolver {
        let _guard = runtime.enter();
        let dns = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        let dns = match dns {
            Ok(dns) => Some(Arc::new(dns)),
            Err(error) => {
                tracing::warn!(%error, "no name server configured: names will not resolve");
                None
            }
        };
        Resolver { runtime, dns, room: Arc::new(Semaphore::new(MOST)) }
    }

    /// Finds the hops of a question and mails them. Never blocks.
    pub(crate) fn ask(&self, whom: Address, token: Token, question: Question) {
        let room = Arc::clone(&self.room).try_acquire_owned();
        let (Some(dns), Ok(room)) = (self.dns.clone(), room) else {
            whom.post(Mail::Resolved { token, hops: Vec::new() });
            return;
        };
        self.runtime.spawn(async move {
            let found = tokio::time::timeout(PATIENCE, locate(&dns, &question)).await;
            drop(room);
            let mut hops = found.unwrap_or_default();
            hops.truncate(MOST_HOPS);
            // Waiting for room would block the runtime; a full mailbox is an overload anyway.
            whom.post(Mail::Resolved { token, hops });
        });
    }
}

/// RFC 3263 4.1 and 4.2.
async fn locate(dns: &TokioResolver, question: &Question) -> Vec<Hop> {
    let fallback = if question.secure { Transport::Tls } else { Transport::Udp };
    if let Some(port) = question.port {
        let transport = question.transport.unwrap_or(fallback);
        return addresses(dns, &question.host, port, transport).await;
    }
    let services = match question.transport {
        Some(transport) => vec![(transport, service_name(question, transport))],
        None => match naptr(dns, question).await {
            found if !found.is_empty() => found,
            _ => transports(question.secure)
                .iter()
                .map(|transport| (*transport, service_name(question, *transport)))
                .collect(),
        },
    };
    let mut hops = Vec::new();
    for (transport, name) in services {
        hops.extend(srv(dns, &name, transport).await);
        if hops.len() >= MOST_HOPS {
            return hops;
        }
    }
    if hops.is_empty() {
        let transport = question.transport.unwrap_or(fallback);
        hops = addresses(dns, &question.host, transport.default_port(), transport).await;
    }
    hops
}

/// Transports to look for where the URI names none, most wanted first.
fn transports(secure: bool) -> &'static [Transport] {
    if secure { &[Transport::Tls] } else { &[Transport::Udp, Transport::Tcp] }
}

fn service_name(question: &Question, transport: Transport) -> String {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tls => "_sips._tcp",
        Transport::Ws => "_sip._ws",
        Transport::Wss => "_sips._ws",
        Transport::Tcp => "_sip._tcp",
    };
    format!("{service}.{}", question.host)
}

/// Services of a domain by NAPTR, in order of preference, as far as we can speak them.
async fn naptr(dns: &TokioResolver, question: &Question) -> Vec<(Transport, String)> {
    let Ok(lookup) = dns.lookup(absolute(&question.host), RecordType::NAPTR).await else {
        return Vec::new();
    };
    let mut found: Vec<(u16, u16, Transport, String)> = Vec::new();
    for record in lookup.answers() {
        let RData::NAPTR(naptr) = &record.data else { continue };
        let transport = match &*naptr.services.to_ascii_uppercase() {
            b"SIP+D2U" => Transport::Udp,
            b"SIP+D2T" => Transport::Tcp,
            b"SIPS+D2T" => Transport::Tls,
            _ => continue,
        };
        if question.secure && transport != Transport::Tls {
            continue;
        }
        let name = naptr.replacement.to_string();
        found.push((naptr.order, naptr.preference, transport, name));
    }
    found.sort_by_key(|(order, preference, ..)| (*order, *preference));
    found.into_iter().map(|(_, _, transport, name)| (transport, name)).collect()
}

/// Servers of a service: lowest priority first, heavier ones more often first (RFC 2782).
async fn srv(dns: &TokioResolver, name: &str, transport: Transport) -> Vec<Hop> {
    let Ok(lookup) = dns.lookup(absolute(name), RecordType::SRV).await else { return Vec::new() };
    let mut servers = Vec::new();
    for record in lookup.answers() {
        if let RData::SRV(srv) = &record.data {
            // A weighted shuffle: the larger the weight, the smaller this tends to be.
            let rank = -dice().ln() / f64::from(srv.weight.max(1));
            servers.push((srv.priority, rank, srv.target.to_string(), srv.port));
        }
    }
    servers.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut hops = Vec::new();
    for (_, _, target, port) in servers.into_iter().take(MOST_HOPS) {
        hops.extend(addresses(dns, &target, port, transport).await);
    }
    hops
}

/// Evenly spread over (0, 1].
fn dice() -> f64 {
    let mut bytes = [0u8; 4];
    // Without randomness the servers keep the order they came in.
    let _ = crate::random::fill(&mut bytes);
    (f64::from(u32::from_le_bytes(bytes)) + 1.0) / (f64::from(u32::MAX) + 1.0)
}

async fn addresses(dns: &TokioResolver, host: &str, port: u16, transport: Transport) -> Vec<Hop> {
    match dns.lookup_ip(absolute(host)).await {
        Ok(found) => {
            found.iter().map(|ip| Hop { transport, addr: SocketAddr::new(ip, port) }).collect()
        }
        Err(_) => Vec::new(),
    }
}

/// With a trailing dot no search list applies: SIP names are whole. `localhost` and names of the
/// hosts file work as well.
fn absolute(host: &str) -> String {
    if host.ends_with('.') { host.to_owned() } else { format!("{host}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_are_those_of_rfc_3263() {
        let question =
            Question { host: "example.com".into(), port: None, transport: None, secure: false };
        assert_eq!(service_name(&question, Transport::Udp), "_sip._udp.example.com");
        assert_eq!(service_name(&question, Transport::Tls), "_sips._tcp.example.com");
        assert_eq!(transports(true), [Transport::Tls], "sips never leaves TLS");
    }
}
