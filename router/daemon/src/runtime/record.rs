//! Recording runs of policies, and the settings they are made again with.

use std::net::SocketAddr;
use std::sync::Arc;

use viaduct_engine::auth::{Account, Algorithm, Auth, Credentials, Known, Replay};
use viaduct_engine::path::PathKeys;
use viaduct_engine::{Listener, Settings, Transport};
use viaduct_policy::PolicyCatalog;
use viaduct_policy::record::case::FORMAT;
use viaduct_policy::record::{AuthSetup, Filter, Header, RecordLimits, Session, Setup};

use crate::config::{Config, network};
use crate::control::{RecordPart, RecordRequest, Refusal};
use crate::worker::mail::{Address, Mail};

/// Bytes of cases that wait to be fetched.
const WAITING_BYTES: usize = 64 << 20;

pub(super) fn begin(
    catalog: &PolicyCatalog,
    workers: &[Address],
    request: &RecordRequest,
    unix_ms: u64,
) -> Result<(), Refusal> {
    let in_range = |key: &str, value: u64, most: u64| match value {
        1.. if value <= most => Ok(()),
        _ => Err(Refusal::Invalid(format!("{key} is {value}; allowed: 1 to {most}"))),
    };
    in_range("share", u64::from(request.share), 1000)?;
    in_range("cases", request.cases, 1_000_000)?;
    in_range("seconds", request.seconds, 86_400)?;
    let filter = Filter {
        methods: request.methods.clone(),
        domain: request.domain.clone(),
        share: request.share,
        party: request.party.clone(),
        bodies: request.bodies,
        messages: request.messages,
    };
    let limits = RecordLimits {
        cases: request.cases,
        waiting_bytes: WAITING_BYTES,
        until_ms: unix_ms.saturating_add(request.seconds.saturating_mul(1000)),
    };
    let session = Arc::new(Session::new(filter, limits));
    let tap = session.wants_messages().then(|| Arc::clone(&session));
    for worker in workers {
        worker.post_surely(Mail::Tap(tap.clone()));
    }
    catalog.record(Some(session));
    tracing::info!(seconds = request.seconds, cases = request.cases, "recording");
    Ok(())
}

pub(super) fn take(
    catalog: &PolicyCatalog,
    workers: &[Address],
    stop: bool,
    unix_ms: u64,
) -> Result<RecordPart, Refusal> {
    let nothing = || {
        let why =
            "nothing is being recorded: it is over, or another `record` or `trace` took its place";
        Refusal::NotFound(why.to_owned())
    };
    let session = catalog.session().ok_or_else(nothing)?;
    if stop {
        session.stop();
    }
    let (cases, more) = session.take(unix_ms);
    if !more {
        catalog.record(None);
        for worker in workers {
            worker.post_surely(Mail::Tap(None));
        }
    }
    Ok(RecordPart { cases, more, lost: session.lost() })
}

/// What the first line of a record says of this router.
pub(super) fn header(config: &Config) -> Header {
    let listener =
        |l: &Listener| format!("{} {} {}:{}", l.transport.param_name(), l.addr, l.host, l.port);
    let setup = Setup {
        domains: config.domains.iter().map(ToString::to_string).collect(),
        trusted: config.trusted.iter().map(|n| format!("{}/{}", n.addr, n.bits)).collect(),
        listeners: config.listeners.iter().map(listener).collect(),
        auth: config.auth.as_ref().map(|auth| AuthSetup {
            realm: auth.realm.as_deref().map(str::to_owned),
            algorithms: auth.algorithms.iter().map(|one| one.name().to_owned()).collect(),
            auth_int: auth.auth_int,
        }),
    };
    Header { format: FORMAT.to_owned(), setup }
}

/// Settings as they were where a record was made; `base` has the rest.
pub(crate) fn settings(setup: &Setup, base: Settings) -> Result<Settings, String> {
    let mut settings = base;
    settings.domains = setup.domains.iter().map(|domain| (&**domain).into()).collect();
    settings.trusted.clear();
    for net in &setup.trusted {
        settings.trusted.push(network::parse(net).map_err(|fault| fault.to_string())?);
    }
    settings.listeners.clear();
    for text in &setup.listeners {
        let listener = listener(text);
        settings.listeners.push(listener.ok_or_else(|| format!("`{text}` is no listener"))?);
    }
    settings.auth = setup.auth.as_ref().map(auth).transpose()?;
    if settings.path_keys.is_empty() {
        let key = PathKeys::new(vec![(0, vec![0x5a; 32])]);
        settings.path_keys = key.map_err(|fault| fault.to_string())?;
    }
    Ok(settings)
}

/// Challenges as they were. Nobody is a user: what came of checks is in the record.
fn auth(setup: &AuthSetup) -> Result<Auth, String> {
    let algorithm = |name: &String| {
        let known = Algorithm::from_name(name.as_bytes());
        known.ok_or_else(|| format!("`{name}` is no algorithm"))
    };
    let algorithms = setup.algorithms.iter().map(algorithm).collect::<Result<Vec<_>, _>>()?;
    if algorithms.is_empty() {
        return Err("`auth` has no algorithms".to_owned());
    }
    Ok(Auth {
        realm: setup.realm.as_deref().map(Into::into),
        algorithms,
        auth_int: setup.auth_int,
        info: false,
        nonce_life_ms: 0,
        replay: Arc::new(Replay::new(1, 0, 0)),
        credentials: Arc::new(NoUsers),
    })
}

struct NoUsers;

impl Credentials for NoUsers {
    fn get(&self, _: &Account, _: u64) -> Known {
        Known::Nobody
    }
}

fn listener(text: &str) -> Option<Listener> {
    let mut words = text.split(' ');
    let (transport, addr, told) = (words.next()?, words.next()?, words.next()?);
    let all = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
    let transport = all.into_iter().find(|known| known.param_name() == transport)?;
    let addr: SocketAddr = addr.parse().ok()?;
    let (host, port) = told.rsplit_once(':')?;
    Some(Listener { transport, addr, host: host.into(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_read_as_it_is_written() {
        for text in ["udp 192.0.2.1:5060 sip.example.com:5060", "tcp [::1]:5060 [::1]:5070"] {
            let l = listener(text).unwrap();
            let back = format!("{} {} {}:{}", l.transport.param_name(), l.addr, l.host, l.port);
            assert_eq!(back, text);
        }
        for text in ["", "udp", "udp x y", "sctp 192.0.2.1:5060 h:1", "udp 192.0.2.1:5060 h"] {
            assert!(listener(text).is_none(), "{text}");
        }
    }
}
