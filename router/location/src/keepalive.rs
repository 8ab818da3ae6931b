//! Which contacts are to be pinged when, and what their answers mean (sip-behaviour 2.6). Sends
//! nothing and reads no clock.
//!
//! A round is one interval. The shards of a worker share it out evenly, and the contacts of a shard
//! share its part: at any moment about the same number of pings leaves, however many phones there
//! are.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use slab::Slab;
use viaduct_engine::registrar::{Binding, BindingSet, Bindings};
use viaduct_engine::{AorKey, Change, Location as _, PingId};

use crate::nodes::Live;
use crate::service::LocationService;
use crate::table::SHARDS;

/// What is pinged, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveConfig {
    /// Length of a round, milliseconds; at least 1000.
    pub interval_ms: u64,
    /// Only contacts behind NAT.
    pub nated_only: bool,
    /// A contact that leaves so many pings in a row unanswered is removed; 0: never.
    pub max_lost: u8,
}

/// The pings of one worker.
pub struct Keepalive {
    config: KeepaliveConfig,
    /// Shards of this worker.
    shards: Vec<usize>,
    /// The part of a round that was last filled into `queue`: rounds since 1970 times shards.
    part: u64,
    queue: VecDeque<(u64, u32)>,
    entries: Slab<Entry>,
    /// Slots by shard and contact.
    known: Vec<HashMap<Name, u32>>,
    generation: u32,
}

type Name = (AorKey, Box<[u8]>);

struct Entry {
    key: AorKey,
    contact: Box<[u8]>,
    generation: u32,
    /// Of the last ping, microseconds of the monotonic clock.
    sent_us: u64,
    unanswered: u8,
    /// It has answered this router before.
    proven: bool,
}

/// A contact that is due.
pub enum Due {
    /// Ping it.
    Ping(PingId, Binding),
    /// Ping it in place of the router it registered at, which is dead: not by way of that one.
    StandIn(PingId, Binding),
    /// It has left too many pings unanswered, and was removed.
    Dead(AorKey, Box<[u8]>),
}

impl Keepalive {
    /// The part of worker `index` of `workers`.
    pub fn new(config: KeepaliveConfig, index: usize, workers: usize) -> Keepalive {
        let shards: Vec<usize> = (0..SHARDS).filter(|n| n % workers.max(1) == index).collect();
        let known = shards.iter().map(|_| HashMap::new()).collect();
        Keepalive {
            config,
            shards,
            part: 0,
            queue: VecDeque::new(),
            entries: Slab::new(),
            known,
            generation: 0,
        }
    }

    /// Milliseconds one shard's part lasts.
    fn part_ms(&self) -> u64 {
        let shards = self.shards.len().max(1) as u64;
        (self.config.interval_ms.max(1000) / shards).max(1)
    }

    /// When to come back at the latest, milliseconds since 1970.
    pub fn next_ms(&self) -> u64 {
        let next_part = self.part.saturating_add(1).saturating_mul(self.part_ms());
        self.queue.front().map_or(next_part, |(due_ms, _)| (*due_ms).min(next_part))
    }

    /// What is due at `unix_ms`, at most `most`; `mono_us` is the clock latencies are measured by.
    /// Contacts that are dead are removed from `location` on the way.
    pub fn due(
        &mut self,
        location: &LocationService,
        unix_ms: u64,
        mono_us: u64,
        most: usize,
    ) -> Vec<Due> {
        let part = unix_ms / self.part_ms();
        if part != self.part {
            // Parts slept through are left out, and have their turn in the next round.
            self.part = part;
            if self.queue.len() > self.entries.len() {
                self.queue.clear(); // more is due than can be sent
            }
            self.fill(location, unix_ms);
        }
        let mut due = Vec::new();
        while due.len() < most {
            let Some((_, slot)) = self.queue.front().filter(|(at, _)| *at <= unix_ms) else {
                break;
            };
            let slot = *slot;
            self.queue.pop_front();
            due.extend(self.take(slot, location, unix_ms, mono_us));
        }
        due
    }

    /// Lines up the contacts of the part's shard.
    fn fill(&mut self, location: &LocationService, unix_ms: u64) {
        let count = self.shards.len().max(1) as u64;
        let turn = (self.part % count) as usize;
        let (Some(shard), Some(known)) = (self.shards.get(turn), self.known.get_mut(turn)) else {
            return;
        };
        let mut before = std::mem::take(known);
        let mut slots = Vec::new();
        let (sets, _) = location.page(None, *shard, 0);
        let live = location.live_nodes();
        for (key, set) in sets {
            let wanted = |binding: &&Binding| self.config.wants(&key, binding, live.as_deref());
            for binding in set.live(unix_ms).filter(wanted) {
                let name = (key.clone(), binding.contact().into());
                let slot = before.remove(&name).unwrap_or_else(|| {
                    self.generation = self.generation.wrapping_add(1);
                    let entry = Entry {
                        key: key.clone(),
                        contact: binding.contact().into(),
                        generation: self.generation,
                        sent_us: 0,
                        unanswered: 0,
                        proven: false,
                    };
                    self.entries.insert(entry) as u32
                });
                known.insert(name, slot);
                slots.push(slot);
            }
        }
        for slot in before.into_values() {
            self.entries.try_remove(slot as usize);
        }
        let start_ms = self.part.saturating_mul(self.part_ms());
        let (length_ms, all) = (self.part_ms(), slots.len().max(1) as u64);
        let at = |index: usize| start_ms.saturating_add(length_ms * index as u64 / all);
        self.queue.extend(slots.into_iter().enumerate().map(|(index, slot)| (at(index), slot)));
    }

    fn take(
        &mut self,
        slot: u32,
        location: &LocationService,
        unix_ms: u64,
        mono_us: u64,
    ) -> Option<Due> {
        let entry = self.entries.get_mut(slot as usize)?;
        let set = location.get(&entry.key.table, &entry.key.aor)?;
        let binding = set.live(unix_ms).find(|binding| binding.contact() == &*entry.contact)?;
        // Silence proves nothing where it was never heard: the way may be open to its own router
        // only.
        let may_die = binding.home().is_none() || entry.proven;
        if may_die && self.config.max_lost > 0 && entry.unanswered >= self.config.max_lost {
            drop_bindings(location, &entry.key, |binding| binding.contact() == &*entry.contact);
            return Some(Due::Dead(entry.key.clone(), entry.contact.clone()));
        }
        entry.sent_us = mono_us;
        let id = PingId { slot, generation: entry.generation };
        Some(match binding.home() {
            None => Due::Ping(id, binding.clone()),
            Some(_) => Due::StandIn(id, binding.clone()),
        })
    }

    /// The ping asks for an answer and has been sent: it counts as lost until one comes.
    pub fn sent(&mut self, id: PingId) {
        if let Some(entry) = self.entry(id) {
            entry.unanswered = entry.unanswered.saturating_add(1);
        }
    }

    /// The contact has answered: the latency goes into its binding. Any answer is one, 404 and 405
    /// included: there is a phone.
    pub fn answered(
        &mut self,
        id: PingId,
        location: &LocationService,
        mono_us: u64,
    ) -> Option<u32> {
        let entry = self.entry(id).filter(|entry| entry.unanswered > 0)?;
        (entry.unanswered, entry.proven) = (0, true);
        let latency_us = mono_us.saturating_sub(entry.sent_us);
        let latency_us = u32::try_from(latency_us).unwrap_or(u32::MAX - 1).min(u32::MAX - 1);
        let (key, contact) = (entry.key.clone(), entry.contact.clone());
        note_latency(location, &key, &contact, latency_us);
        Some(latency_us)
    }

    fn entry(&mut self, id: PingId) -> Option<&mut Entry> {
        self.entries.get_mut(id.slot as usize).filter(|entry| entry.generation == id.generation)
    }
}

impl KeepaliveConfig {
    /// The router a phone registered at pings it: there is the hole in the NAT. Where that router is
    /// dead another one does it, if it can reach the phone: by its Path, or without a NAT between.
    fn wants(&self, key: &AorKey, binding: &Binding, live: Option<&Live>) -> bool {
        let fields = binding.fields();
        if self.nated_only && !fields.nat {
            return false;
        }
        let Some(home) = binding.home() else { return true };
        let reachable = !fields.transport.is_reliable() && (!fields.path.is_empty() || !fields.nat);
        reachable && live.is_some_and(|live| live.stands_in(&home.node, key))
    }
}

/// Removes bindings of an AoR, in memory at once or behind what is under way, and in the store
/// soon. Where a REGISTER comes in between, it has the last word.
pub fn drop_bindings(location: &LocationService, key: &AorKey, goes: impl Fn(&Binding) -> bool) {
    let snapshot = location.latest(&key.table, &key.aor);
    let Some(current) = snapshot.set else { return };
    let left: Bindings = current.bindings.iter().filter(|b| !goes(b)).cloned().collect();
    if left.len() < current.len() {
        let set = Arc::new(BindingSet { bindings: left });
        let change =
            Change { key: key.clone(), based_on: snapshot.version, set, memory_only: false };
        location.commit(vec![change], |_| ());
    }
}

/// Writes a latency into a binding, in memory alone; not while a change of its AoR is under way.
fn note_latency(location: &LocationService, key: &AorKey, contact: &[u8], latency_us: u32) {
    let snapshot = location.latest(&key.table, &key.aor);
    let Some(current) = snapshot.set.filter(|_| !snapshot.pending) else { return };
    let update = |binding: &Binding| match binding.contact() == contact {
        true => binding.with_ping_us(Some(latency_us)),
        false => binding.clone(),
    };
    let set = Arc::new(BindingSet { bindings: current.bindings.iter().map(update).collect() });
    let change = Change { key: key.clone(), based_on: snapshot.version, set, memory_only: true };
    location.commit(vec![change], |_| ());
}
