//! The media relay of a router: opened, looked after, asked.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::Sender;
use viaduct_engine::Event;
use viaduct_engine::media::{LegView, StreamView};
use viaduct_media::Service;
use viaduct_media::service::CallEntry;
use viaduct_media::userspace::UserspaceRelay;

use crate::config::MediaConfig;
use crate::control::{MediaCall, MediaLeg, MediaStream, Refusal};
use crate::worker::core::Clock;

/// How often calls are looked after.
const TURN: Duration = Duration::from_secs(1);
/// Calls of one list.
const MOST_LISTED: usize = 10_000;

/// Opens the relay; `None`: the configuration has none.
pub(super) fn open(
    config: Option<&MediaConfig>,
    events: Sender<Event>,
) -> anyhow::Result<Option<Arc<Service>>> {
    let Some(config) = config else { return Ok(None) };
    for interface in &config.service.interfaces {
        // What cannot be bound now would fail call by call.
        UdpSocket::bind(SocketAddr::new(interface.ip, 0))
            .with_context(|| format!("media.address `{}`: {}", interface.name, interface.ip))?;
    }
    let executor = UserspaceRelay::start().context("the media relay cannot start")?;
    // A queue that is full counts what it loses, as for the workers.
    let sink = move |record| drop(events.try_send(Event::MediaEnded(Box::new(record))));
    let service = Service::new(config.service.clone(), Box::new(executor), Box::new(sink))?;
    Ok(Some(Arc::new(service)))
}

/// Looks after the calls on a thread of its own, as long as the relay is there.
pub(super) fn watch(service: &Arc<Service>, clock: &Arc<Clock>) -> anyhow::Result<()> {
    let (service, clock): (Weak<Service>, _) = (Arc::downgrade(service), Arc::clone(clock));
    std::thread::Builder::new().name("media-watch".into()).spawn(move || {
        while let Some(service) = service.upgrade() {
            service.tick(clock.now());
            drop(service);
            std::thread::sleep(TURN);
        }
    })?;
    Ok(())
}

pub(super) fn list(
    service: Option<&Arc<Service>>,
    clock: &Clock,
) -> Result<Vec<MediaCall>, Refusal> {
    let calls = need(service)?.list(clock.now(), MOST_LISTED);
    Ok(calls.iter().map(entry).collect())
}

pub(super) fn show(
    service: Option<&Arc<Service>>,
    clock: &Clock,
    call_id: &str,
) -> Result<Vec<MediaCall>, Refusal> {
    let calls = need(service)?.show(clock.now(), call_id.as_bytes());
    if calls.is_empty() {
        return Err(unknown(call_id));
    }
    Ok(calls.iter().map(entry).collect())
}

pub(super) fn kill(
    service: Option<&Arc<Service>>,
    clock: &Clock,
    call_id: &str,
) -> Result<usize, Refusal> {
    match need(service)?.kill(clock.now(), call_id.as_bytes()) {
        0 => Err(unknown(call_id)),
        ended => Ok(ended),
    }
}

fn need(service: Option<&Arc<Service>>) -> Result<&Arc<Service>, Refusal> {
    service
        .ok_or_else(|| Refusal::Conflict("the configuration has no [[media.address]]".to_owned()))
}

fn unknown(call_id: &str) -> Refusal {
    Refusal::NotFound(format!("no media are relayed for Call-ID {call_id:?}"))
}

fn entry(call: &CallEntry) -> MediaCall {
    MediaCall {
        call_id: call.call_id.to_string(),
        caller_tag: call.caller_tag.to_string(),
        callee_tag: call.callee_tag.to_string(),
        age_s: call.view.age_s,
        answered: call.view.answered,
        streams: call.view.streams.iter().map(stream).collect(),
    }
}

fn stream(view: &StreamView) -> MediaStream {
    MediaStream {
        kind: view.kind.to_string(),
        caller: leg(&view.caller),
        callee: leg(&view.callee),
    }
}

fn leg(view: &LegView) -> MediaLeg {
    MediaLeg {
        local: view.local.to_string(),
        peer: view.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        locked: view.locked,
        packets: view.packets,
        octets: view.octets,
        dropped: view.dropped,
        lost: view.lost,
        jitter_us: view.jitter_us,
        mos: view.mos_centi.map(|mos| f64::from(mos) / 100.0),
    }
}
