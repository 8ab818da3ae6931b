//! Asks destinations by OPTIONS whether they live. Sans-IO: says who is due and is told the answers;
//! the engine sends ([`crate::Input::Ping`]), one worker of the router drives it.

use std::sync::Arc;

use super::{Destination, Dispatcher, Probed, State};
use crate::io::{Ping, PingId};
use crate::registrar::Target;

/// Marks the slots of probes: keep-alives of contacts never have so many.
const PROBE_SLOT: u32 = 0x4000_0000;

/// How destinations are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// Each is asked once in so long, microseconds; 0: never.
    pub interval_us: u64,
    /// No answer for so long is a sign of death, microseconds.
    pub timeout_us: u64,
    /// URI of From.
    pub from: Arc<str>,
}

/// Probes of all sets.
pub struct Prober {
    dispatcher: Arc<Dispatcher>,
    probing: Probing,
    /// One a destination, in the order of the sets.
    asked: Vec<Asked>,
    generation: u32,
}

#[derive(Clone, Copy)]
struct Asked {
    next_us: u64,
    /// Generation of the probe that is under way, and when it is given up.
    waiting: Option<(u32, u64)>,
}

impl Prober {
    /// Begins; the first round is spread over one interval. `None` where there is nothing to probe.
    pub fn new(dispatcher: Arc<Dispatcher>, probing: Probing, now_us: u64) -> Option<Prober> {
        let count = dispatcher.sets().iter().map(|set| set.destinations().len()).sum::<usize>();
        if count == 0 || probing.interval_us == 0 {
            return None;
        }
        let step_us = probing.interval_us / u64::try_from(count).unwrap_or(1).max(1);
        let asked = (0..count as u64)
            .map(|n| Asked {
                next_us: now_us.saturating_add(n.saturating_mul(step_us)),
                waiting: None,
            })
            .collect();
        Some(Prober { dispatcher, probing, asked, generation: 0 })
    }

    /// When something is due, microseconds.
    pub fn next_us(&self) -> u64 {
        let next = |asked: &Asked| asked.waiting.map_or(asked.next_us, |(_, end)| end);
        self.asked.iter().map(next).min().unwrap_or(u64::MAX)
    }

    /// Probes to send now. Destinations whose state has changed, since one has given no answer, go
    /// to `changed`.
    pub fn due(&mut self, now_us: u64, changed: &mut dyn FnMut(&Destination)) -> Vec<Ping> {
        let mut pings = Vec::new();
        let dispatcher = Arc::clone(&self.dispatcher);
        for (index, destination) in destinations(&dispatcher).enumerate() {
            let Some(asked) = self.asked.get_mut(index) else { break };
            if asked.waiting.is_some_and(|(_, end_us)| end_us <= now_us) {
                asked.waiting = None;
                destination.set_probed(Probed { status: 0, latency_us: 0 });
                if destination.sign(false, dispatcher.thresholds()) {
                    changed(destination);
                }
            }
            if asked.waiting.is_some() || asked.next_us > now_us {
                continue;
            }
            asked.next_us = now_us.saturating_add(self.probing.interval_us);
            if destination.state() == State::Disabled {
                continue;
            }
            self.generation = self.generation.wrapping_add(1);
            asked.waiting = Some((self.generation, now_us.saturating_add(self.probing.timeout_us)));
            let slot = PROBE_SLOT | u32::try_from(index).unwrap_or(0);
            pings.push(Ping {
                id: PingId { slot, generation: self.generation },
                target: Target {
                    uri: destination.config().uri.as_bytes().into(),
                    ..Target::default()
                },
                options: true,
                may_open: true,
                from: Arc::clone(&self.probing.from),
            });
        }
        pings
    }

    /// An answer has come. False where that was no probe.
    pub fn answered(
        &mut self,
        id: PingId,
        status: u16,
        now_us: u64,
        changed: &mut dyn FnMut(&Destination),
    ) -> bool {
        if id.slot & PROBE_SLOT == 0 {
            return false;
        }
        let index = (id.slot & !PROBE_SLOT) as usize;
        let asked = self.asked.get_mut(index);
        let Some(asked) = asked.filter(|a| a.waiting.is_some_and(|(g, _)| g == id.generation))
        else {
            return true; // too late, or somebody's invention
        };
        let (_, end_us) = asked.waiting.take().unwrap_or_default();
        let sent_us = end_us.saturating_sub(self.probing.timeout_us);
        let latency_us = u32::try_from(now_us.saturating_sub(sent_us)).unwrap_or(u32::MAX);
        if let Some(destination) = destinations(&self.dispatcher).nth(index) {
            destination.set_probed(Probed { status, latency_us });
            if destination.sign(is_alive(status), self.dispatcher.thresholds()) {
                changed(destination);
            }
        }
        true
    }
}

/// Whoever refuses OPTIONS lives; whoever says that he cannot serve counts as dead.
pub fn is_alive(status: u16) -> bool {
    (200..500).contains(&status) && status != 408 || status == 501
}

fn destinations(dispatcher: &Dispatcher) -> impl Iterator<Item = &Destination> {
    dispatcher.sets().iter().flat_map(|set| set.destinations())
}
