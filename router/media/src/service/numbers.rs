//! What the relay has counted, for metrics.

use viaduct_engine::media::{EndReason, StreamView};

use super::Inner;
use crate::kernel::RuleReport;
use crate::session::Events;

/// Counters since the start, and gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Calls that are relayed now.
    pub calls: u64,
    /// Ports neither in use nor resting, all addresses together.
    pub ports_free: u64,
    /// Sessions in the program in front of the stack.
    pub sessions_xdp: u64,
    /// Sessions in the kernel module, and not in that program.
    pub sessions_kernel: u64,
    /// Sessions in user space only.
    pub sessions_userspace: u64,
    /// Orders to the kernel module that had to wait for room.
    pub orders_waited: u64,
    /// What the kernel module's steering rules have done, by their places.
    pub rules: Vec<RuleReport>,
    /// Calls begun.
    pub calls_begun: u64,
    /// Calls refused because there were too many.
    pub refused_busy: u64,
    /// Offers passed on.
    pub offers: u64,
    /// Answers passed on.
    pub answers: u64,
    /// Calls ended; index: as in [`EndReason::ALL`].
    pub ended: [u64; EndReason::ALL.len()],
    /// Packets relayed in calls that have ended.
    pub packets: u64,
    /// Octets in them.
    pub octets: u64,
    /// Packets dropped in them.
    pub dropped: u64,
    /// Times it was written for the next process how calls stand; counted by whoever writes.
    pub kept: u64,
    /// Legs that were told to be another address than signalled.
    pub learned: u64,
    /// Times a settled leg was told to hear strangers; at most once a second for each.
    pub foreign: u64,
}

impl Numbers {
    pub(crate) fn ended(&mut self, reason: EndReason, streams: &[StreamView]) {
        if let Some(count) = self.ended.get_mut(reason as usize) {
            *count += 1;
        }
        for leg in streams.iter().flat_map(|stream| [&stream.caller, &stream.callee]) {
            self.packets = self.packets.saturating_add(leg.packets);
            self.octets = self.octets.saturating_add(leg.octets);
            self.dropped = self.dropped.saturating_add(leg.dropped);
        }
    }

    pub(super) fn note(&mut self, events: Events) {
        self.learned += u64::from(events.contains(Events::LEARNED));
        self.foreign += u64::from(events.contains(Events::FOREIGN));
    }
}

impl Inner {
    pub(super) fn numbers(&mut self) -> Numbers {
        let free = self.interfaces.pools.iter().map(|pool| pool.free() as u64);
        let carrying = self.executor.carrying();
        Numbers {
            calls: self.calls.len() as u64,
            ports_free: free.sum(),
            sessions_xdp: carrying.xdp as u64,
            sessions_kernel: carrying.kernel as u64,
            sessions_userspace: carrying.userspace as u64,
            orders_waited: carrying.orders_waited,
            rules: carrying.rules,
            ..self.numbers.clone()
        }
    }
}
