//! Keep-alives of one worker: `viaduct_location::Keepalive` says who is due, the engine sends.

use std::sync::Arc;

use viaduct_engine::dispatcher::{Destination, DestinationConfig, Prober};
use viaduct_engine::registrar::{Target, target_of, target_without_home};
use viaduct_engine::{Input, Ping, PingId};
use viaduct_location::{Due, Keepalive};

use super::core::Core;
use crate::config::KeepaliveConfig;

fn tell(destination: &Destination) {
    let DestinationConfig { set, uri, .. } = destination.config();
    crate::events::tell_destination(set, uri, destination.state());
}

/// Pings sent in one turn.
const PINGS_PER_TURN: usize = 64;

/// Who is pinged, and how.
pub(crate) struct Pings {
    book: Keepalive,
    options: bool,
    from: Arc<str>,
}

impl Pings {
    /// The part of worker `index` of `workers`; `None` where nobody is to be pinged.
    pub(crate) fn new(config: &KeepaliveConfig, index: u8, workers: usize) -> Option<Pings> {
        let options = config.options;
        let asked = viaduct_location::KeepaliveConfig {
            interval_ms: config.interval_s.saturating_mul(1000),
            nated_only: config.nated_only,
            // Only OPTIONS are answered.
            max_lost: if options { config.max_lost } else { 0 },
        };
        let book = || Keepalive::new(asked, usize::from(index), workers);
        (config.interval_s > 0).then(|| Pings {
            book: book(),
            options,
            from: (*config.from).into(),
        })
    }
}

impl Core {
    /// When pings want the next turn, in `mono_us`.
    pub(crate) fn pings_due_us(&self) -> Option<u64> {
        let next_ms = self.pings.as_ref()?.book.next_ms();
        let wait_ms = next_ms.saturating_sub(self.now.unix_ms);
        Some(self.now.mono_us.saturating_add(wait_ms.saturating_mul(1000)))
    }

    /// Sends the pings that are due.
    pub(crate) fn ping(&mut self) {
        let now = self.now;
        let Some(pings) = &mut self.pings else { return };
        let location = &self.around.location;
        let due = pings.book.due(location, now.unix_ms, now.mono_us, PINGS_PER_TURN);
        let (options, from) = (pings.options, Arc::clone(&pings.from));
        for due in due {
            match due {
                Due::Ping(id, binding) => self.ping_one(id, target_of(&binding), options, &from),
                Due::StandIn(id, binding) => {
                    self.ping_one(id, target_without_home(&binding), options, &from);
                }
                Due::Dead(key, contact) => {
                    let aor = String::from_utf8_lossy(&key.aor);
                    let contact = String::from_utf8_lossy(&contact);
                    tracing::info!(%aor, %contact, "contact answers no pings: removed");
                }
            }
        }
    }

    fn ping_one(&mut self, id: PingId, target: Option<Target>, options: bool, from: &Arc<str>) {
        let Some(target) = target else { return };
        if let Some(pings) = self.pings.as_mut().filter(|pings| pings.options) {
            pings.book.sent(id);
        }
        let (from, may_open) = (Arc::clone(from), false);
        self.input(Input::Ping(Ping { id, target, options, may_open, from }));
    }

    /// Sends the probes of destinations that are due.
    pub(crate) fn probe(&mut self) {
        let now_us = self.now.mono_us;
        let Some(prober) = &mut self.prober else { return };
        if prober.next_us() > now_us {
            return;
        }
        for ping in prober.due(now_us, &mut tell) {
            self.input(Input::Ping(ping));
        }
    }

    /// When probes want the next turn, in `mono_us`.
    pub(crate) fn probes_due_us(&self) -> Option<u64> {
        self.prober.as_ref().map(Prober::next_us)
    }

    /// A contact or a destination has answered.
    pub(crate) fn pong(&mut self, id: PingId, status: u16) {
        let mono_us = self.now.mono_us;
        if let Some(prober) = &mut self.prober
            && prober.answered(id, status, mono_us, &mut tell)
        {
            return;
        }
        if let Some(pings) = &mut self.pings {
            pings.book.answered(id, &self.around.location, mono_us);
        }
    }
}
