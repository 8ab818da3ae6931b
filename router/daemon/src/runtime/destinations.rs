//! Destinations of dispatcher sets, for who looks at a running router and for who changes them.

use viaduct_engine::dispatcher::{Destination, Dispatcher, Probed, State};

use crate::control::{DestinationEntry, DestinationState, Refusal};

/// All of them, set by set.
pub(super) fn entries(dispatcher: &Dispatcher) -> Vec<DestinationEntry> {
    dispatcher.sets().iter().flat_map(|set| set.destinations()).map(entry).collect()
}

/// An operator's word: it counts until the next sign, but for `disabled`, which only another word
/// ends.
pub(super) fn set_state(
    dispatcher: &Dispatcher,
    set: &str,
    uri: &str,
    state: DestinationState,
) -> Result<DestinationEntry, Refusal> {
    let found = dispatcher.set(set).ok_or_else(|| {
        let names: Vec<&str> = dispatcher.sets().iter().map(|set| set.name()).collect();
        Refusal::NotFound(format!("there is no set {set:?}; sets: {}", names.join(", ")))
    })?;
    let found = found.find(uri).ok_or_else(|| {
        Refusal::NotFound(format!("there is no {uri:?} in set {set}; the URI as it is configured"))
    })?;
    found.set_state(match state {
        DestinationState::Up => State::Up,
        DestinationState::Down => State::Down,
        DestinationState::Disabled => State::Disabled,
    });
    tracing::info!(set, uri, %state, "destination set by an operator");
    Ok(entry(found))
}

fn entry(destination: &Destination) -> DestinationEntry {
    let config = destination.config();
    let (probe, latency_us) = match destination.probed() {
        None => (None, None),
        Some(Probed { status: 0, .. }) => (Some(0), None),
        Some(Probed { status, latency_us }) => (Some(status), Some(latency_us)),
    };
    DestinationEntry {
        set: config.set.to_string(),
        uri: config.uri.to_string(),
        state: match destination.state() {
            State::Up => DestinationState::Up,
            State::Down => DestinationState::Down,
            State::Disabled => DestinationState::Disabled,
        },
        signs: destination.signs(),
        probe,
        latency_us,
        weight: config.weight,
        priority: config.priority,
        attributes: config.attributes.to_string(),
    }
}
