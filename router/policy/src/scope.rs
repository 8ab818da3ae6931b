//! Which requests a deployed policy decides: all, those of a domain, those of a listener.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use viaduct_engine::{Run, Transport};
use viaduct_message::Uri;

/// A scope. A request belongs to the narrowest that fits: its listener's, else its domain's, else
/// all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every request no other scope takes.
    #[default]
    All,
    /// Requests whose Request-URI has this host; those whose From has it, where the Request-URI's
    /// has no scope. Lower case.
    Domain(Box<str>),
    /// Requests that came in at this listener: name of the transport, address.
    Listener(Box<str>, SocketAddr),
}

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope; allowed: all, domain:example.com, listener:udp:192.0.2.1:5060")]
pub struct ScopeError(String);

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Scope, ScopeError> {
        let fault = || ScopeError(text.chars().take(100).collect());
        if text == "all" {
            return Ok(Scope::All);
        }
        if let Some(domain) = text.strip_prefix("domain:") {
            let legal = |c: u8| c.is_ascii_alphanumeric() || b"-_.:[]".contains(&c);
            let fits = (1..=255).contains(&domain.len()) && domain.bytes().all(legal);
            let domain = domain.to_ascii_lowercase().into();
            return if fits { Ok(Scope::Domain(domain)) } else { Err(fault()) };
        }
        let listener = text.strip_prefix("listener:").ok_or_else(fault)?;
        let (transport, address) = listener.split_once(':').ok_or_else(fault)?;
        let known = ["udp", "tcp", "tls", "ws", "wss"].contains(&transport);
        let address = address.parse().map_err(|_| fault())?;
        if known { Ok(Scope::Listener(transport.into(), address)) } else { Err(fault()) }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::All => out.write_str("all"),
            Scope::Domain(domain) => write!(out, "domain:{domain}"),
            Scope::Listener(transport, address) => write!(out, "listener:{transport}:{address}"),
        }
    }
}

impl Scope {
    /// Of these scopes the one a request belongs to; `None`: it is left for [`Scope::All`].
    pub(crate) fn of<'a, T>(run: &Run, scopes: &'a [(Scope, T)]) -> Option<&'a T> {
        let find = |fits: &dyn Fn(&Scope) -> bool| {
            scopes.iter().find(|(scope, _)| fits(scope)).map(|(_, value)| value)
        };
        let flow = run.flow();
        let name = Transport::param_name(flow.transport);
        let listener = |scope: &Scope| match scope {
            Scope::Listener(transport, address) => **transport == *name && *address == flow.local,
            _ => false,
        };
        let message = run.message();
        let in_domain = |uri: &[u8]| {
            let host = Uri::parse(uri).map(|uri| uri.host_text).unwrap_or_default();
            find(&|scope| match scope {
                Scope::Domain(domain) => domain.as_bytes().eq_ignore_ascii_case(host),
                _ => false,
            })
        };
        find(&listener)
            .or_else(|| in_domain(message.request_uri()))
            .or_else(|| in_domain(message.from().map(|from| from.uri).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        for text in ["all", "domain:example.com", "listener:tcp:[2001:db8::1]:5060"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        assert_eq!("domain:A.Example".parse(), Ok(Scope::Domain("a.example".into())));
        for text in
            ["", "everything", "domain:", "domain:a b", "listener:udp:5060", "listener:x:1.2.3.4:5"]
        {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }
}
