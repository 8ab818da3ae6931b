//! Destinations of a set: choose one, go on to the next, say how it went.

use viaduct_message::{HeaderName, Message};

use super::Run;
use crate::dispatcher::{
    Algorithm, Destination, DestinationConfig, DispatcherChange, MOST_TRIES, Set, State,
};
use crate::hook::Phase;
use crate::registrar::Target;

/// The variable that holds the set and the destinations still to be tried, the current one first.
/// Policies cannot write variables whose names begin so.
const TRIES: &str = "viaduct.dispatcher";
/// Variables with this prefix are the router's.
pub(super) const RESERVED: &str = "viaduct.";

/// By what a destination is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectBy {
    /// In turn.
    RoundRobin,
    /// By chance, in proportion to the weights.
    Weighted,
    /// Highest priority first.
    Priority,
    /// Hash of the Call-ID.
    CallId,
    /// Hash of From's user and host.
    From,
    /// Hash of To's user and host.
    To,
    /// Hash of the Request-URI's user and host.
    RequestUri,
    /// Hash of the user name of the credentials, as claimed; without credentials of From.
    AuthUser,
}

/// Why no destination is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectFault {
    /// No set of that name; for `next` and `report`: nothing was selected in this transaction.
    #[error("no such set")]
    NoSet,
    /// None is up; for `next`: none is left.
    #[error("no destination is up")]
    NoneUp,
    /// `select` belongs to phase request, `next` to phase failure.
    #[error("not in this phase")]
    Phase,
}

impl Run {
    /// Stages the destination to try first as the next hop of the request, and keeps the following
    /// ones, `most` in all, for [`Run::dispatch_next`].
    pub fn dispatch(
        &mut self,
        set: &str,
        by: SelectBy,
        most: usize,
    ) -> Result<DestinationConfig, SelectFault> {
        if !matches!(self.phase, Phase::Request | Phase::Failure) {
            return Err(SelectFault::Phase);
        }
        self.note_set(set);
        let settings = std::sync::Arc::clone(&self.settings);
        let set = settings.shared.dispatcher.set(set).ok_or(SelectFault::NoSet)?;
        let algorithm = self.algorithm(by);
        let order = set.order(algorithm, self.seed);
        let first = order.first().ok_or(SelectFault::NoneUp)?.config().clone();
        let mut tries = set.name().to_owned();
        for destination in order.iter().take(most.clamp(1, MOST_TRIES)) {
            tries.push(' ');
            tries.push_str(&destination.config().uri);
        }
        self.keep_tries(&tries);
        if by == SelectBy::RoundRobin {
            self.effects.dispatcher.push(DispatcherChange::Turn(set.name().into()));
        }
        self.stage_destination(&first.uri);
        Ok(first)
    }

    /// Stages the next destination that is up, for a retry.
    pub fn dispatch_next(&mut self) -> Result<DestinationConfig, SelectFault> {
        if self.phase != Phase::Failure {
            return Err(SelectFault::Phase);
        }
        let settings = std::sync::Arc::clone(&self.settings);
        let tries = self.var(TRIES).ok_or(SelectFault::NoSet)?.to_owned();
        let (name, uris) = tries.split_once(' ').ok_or(SelectFault::NoSet)?;
        self.note_set(name);
        let set = settings.shared.dispatcher.set(name).ok_or(SelectFault::NoSet)?;
        let mut left = uris.split(' ').skip(1);
        let found = loop {
            let uri = left.next().ok_or(SelectFault::NoneUp)?;
            if let Some(found) = set.find(uri).filter(|d| d.state() == State::Up) {
                break found.config().clone();
            }
        };
        let rest = left.fold(format!("{name} {}", found.uri), |all, uri| all + " " + uri);
        self.keep_tries(&rest);
        self.stage_destination(&found.uri);
        Ok(found)
    }

    /// Stages what the destination tried last has shown: life, or death.
    pub fn dispatch_report(&mut self, alive: bool) -> Result<(), SelectFault> {
        let tries = self.var(TRIES).ok_or(SelectFault::NoSet)?;
        let mut parts = tries.split(' ');
        let (Some(set), Some(uri)) = (parts.next(), parts.next()) else {
            return Err(SelectFault::NoSet);
        };
        let change = DispatcherChange::Sign { set: set.into(), uri: uri.into(), alive };
        self.effects.dispatcher.push(change);
        Ok(())
    }

    /// The destination of a set whose address the message came from, whatever its port.
    pub fn dispatch_source(&mut self, set: &str) -> Option<DestinationConfig> {
        self.note_set(set);
        let set = self.settings.shared.dispatcher.set(set)?;
        let source = viaduct_message::Host::Ip(self.flow.remote.ip().to_canonical());
        let comes_from = |destination: &&Destination| {
            let uri = viaduct_message::Uri::parse(destination.config().uri.as_bytes());
            uri.is_ok_and(|uri| uri.host == source)
        };
        set.destinations().iter().find(comes_from).map(|found| found.config().clone())
    }

    /// The set a destination was selected from in this transaction.
    pub fn dispatched_set(&self) -> Option<&str> {
        self.var(TRIES)?.split(' ').next()
    }

    /// A set.
    pub fn dispatcher_set(&mut self, name: &str) -> Option<&Set> {
        self.note_set(name);
        self.settings.shared.dispatcher.set(name)
    }

    /// The name of the variable that [`Run::dispatch`] and its like change: a host puts it back
    /// when a run fails.
    pub fn dispatch_var() -> &'static str {
        TRIES
    }

    fn keep_tries(&mut self, tries: &str) {
        // At most 16 URIs of 256 bytes, so it is over the bound only beside variables of the
        // policy's own that fill it; then there is no fail-over.
        let _ = self.put_var(TRIES, Some(tries));
    }

    fn stage_destination(&mut self, uri: &str) {
        // The Request-URI stays: an empty one means that. Targets staged before it are a lookup's,
        // and the set is where they are to be reached.
        if self.effects.targets.is_empty() {
            self.effects.targets.push(Target { q_milli: 1000, ..Target::default() });
        }
        for target in &mut self.effects.targets {
            target.destination = uri.as_bytes().into();
        }
    }

    fn algorithm(&self, by: SelectBy) -> Algorithm {
        let message = self.message();
        let of_uri = |uri: &[u8]| match viaduct_message::Uri::parse(uri) {
            Ok(uri) => {
                let mut text = uri.user.unwrap_or_default().to_vec();
                text.push(b'@');
                text.extend(uri.host_text.iter().map(u8::to_ascii_lowercase));
                Algorithm::of_text(&text)
            }
            Err(_) => Algorithm::of_text(uri),
        };
        let from = || of_uri(message.from().map(|from| from.uri).unwrap_or_default());
        match by {
            SelectBy::RoundRobin => Algorithm::RoundRobin,
            SelectBy::Weighted => Algorithm::Weighted,
            SelectBy::Priority => Algorithm::Priority,
            SelectBy::CallId => Algorithm::of_text(message.call_id().unwrap_or_default()),
            SelectBy::From => from(),
            SelectBy::To => of_uri(message.to().map(|to| to.uri).unwrap_or_default()),
            SelectBy::RequestUri => of_uri(message.request_uri()),
            SelectBy::AuthUser => match claimed_user(message) {
                Some(user) => Algorithm::of_text(user),
                None => from(),
            },
        }
    }
}

/// User name of the first credentials.
fn claimed_user(message: Message<'_>) -> Option<&[u8]> {
    [HeaderName::ProxyAuthorization, HeaderName::Authorization].into_iter().find_map(|name| {
        let line = message.lines_of(name).next()?;
        let value = line.value.of(message.bytes());
        viaduct_message::header::AuthParams::parse(value)?.get("username")
    })
}
