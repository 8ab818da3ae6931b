//! The program's sessions and counters, as user space writes and reads them.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuHashMap, PerCpuValues, RingBuf};

use super::layout::{COUNTED, Entry, Local, Tally};
use super::program::{XdpFault, fault, object};
use crate::session::{Counters, Events};

/// Events that are taken at once; the rest is there the next time.
const EVENTS_MAX: usize = 4_096;
/// Octets of `struct event`.
const EVENT: usize = 8;

/// What the program knows.
pub struct Table {
    legs: HashMap<MapData, Local, Entry>,
    tallies: PerCpuHashMap<MapData, u32, Tally>,
    events: RingBuf<MapData>,
    /// A zero for each processor.
    zeros: Vec<Tally>,
    slots: Slots,
}

/// Numbers for legs. One that is given back is used again as late as can be: a packet under way may
/// still count for whom it was.
struct Slots {
    free: VecDeque<u32>,
    fresh: u32,
    most: u32,
}

impl Slots {
    fn get(&mut self) -> Option<u32> {
        if self.fresh < self.most {
            self.fresh += 1;
            return Some(self.fresh - 1);
        }
        self.free.pop_front()
    }
}

impl Table {
    pub(super) fn new(legs: Map, tallies: Map, events: Map, most: u32) -> Result<Self, XdpFault> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| XdpFault::Kernel("CPUs", error))?;
        Ok(Self {
            legs: legs.try_into().map_err(object)?,
            tallies: tallies.try_into().map_err(object)?,
            events: events.try_into().map_err(object)?,
            zeros: vec![Tally::default(); cpus],
            slots: Slots { free: VecDeque::new(), fresh: 0, most },
        })
    }

    /// A number for a leg, its counters at 0.
    pub(super) fn take_slot(&mut self) -> Result<u32, XdpFault> {
        let slot = self.slots.get().ok_or_else(|| object("the table is full"))?;
        let zeros = PerCpuValues::try_from(self.zeros.clone());
        let zeros = zeros.map_err(|error| XdpFault::Kernel("tallies", error))?;
        if let Err(error) = self.tallies.insert(slot, zeros, 0) {
            self.slots.free.push_back(slot);
            return Err(fault("tallies", &error));
        }
        Ok(slot)
    }

    /// Gives a number back. What was counted is gone.
    pub(super) fn give_back(&mut self, slot: u32) {
        // Where it is not there, that is what is wanted.
        self.tallies.remove(&slot).ok();
        self.slots.free.push_back(slot);
    }

    pub(super) fn insert(&mut self, local: SocketAddr, entry: Entry) -> Result<(), XdpFault> {
        self.legs.insert(Local::from(local), entry, 0).map_err(|error| fault("legs", &error))
    }

    pub(super) fn get(&self, local: SocketAddr) -> Option<Entry> {
        self.legs.get(&Local::from(local), 0).ok()
    }

    /// Its packets go up the stack from now on.
    pub(super) fn remove(&mut self, local: SocketAddr) -> Result<(), XdpFault> {
        match self.legs.remove(&Local::from(local)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(fault("legs", &error)),
        }
    }

    pub(super) fn counters(&self, slot: u32) -> Counters {
        let mut counters = Counters::default();
        let Ok(values) = self.tallies.get(&slot, 0) else { return counters };
        for tally in values.iter() {
            for (counter, count) in COUNTED.into_iter().zip(tally.0) {
                counters.add(counter, count);
            }
        }
        counters
    }

    /// What happened since the last call, by the numbers of the legs.
    pub(super) fn events(&mut self) -> Vec<(u32, Events)> {
        let mut events = Vec::new();
        while let Some(item) = (events.len() < EVENTS_MAX).then(|| self.events.next()).flatten() {
            let Some(&[a, b, c, d, e, f, g, h]) = item.first_chunk::<EVENT>() else { continue };
            let happened = Events::from_bits_truncate(u32::from_ne_bytes([e, f, g, h]));
            events.push((u32::from_ne_bytes([a, b, c, d]), happened));
        }
        events
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Table").field("legs_max", &self.slots.most).finish_non_exhaustive()
    }
}

fn is_absent(error: &MapError) -> bool {
    let MapError::SyscallError(error) = error else { return false };
    error.io_error.kind() == std::io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_given_back_is_used_again_when_all_others_have_been() {
        let mut slots = Slots { free: VecDeque::new(), fresh: 0, most: 3 };
        assert_eq!(slots.get(), Some(0));
        slots.free.push_back(0);
        assert_eq!([slots.get(), slots.get(), slots.get()], [Some(1), Some(2), Some(0)]);
        assert_eq!(slots.get(), None);
    }
}
