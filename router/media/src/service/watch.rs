//! Calls end: by signalling, by silence, by age; and orders are carried out.

use viaduct_engine::Now;
use viaduct_engine::media::{EndReason, MediaRecord};

use super::view::{self, text};
use super::{Inner, age_ms, ms};
use crate::call::{self, Order, Pools};
use crate::executor::ExecutorError;
use crate::session::Events;

/// Sessions a call's number names: see [`call::Call::new`].
const SESSIONS_A_CALL: u64 = 256;

impl Inner {
    /// Carries out orders of a call, and keeps what ended streams came to.
    pub(super) fn carry_out(&mut self, id: u64, orders: &[Order]) -> Result<(), ExecutorError> {
        let ended = call::carry_out(&mut *self.executor, orders)?;
        if let Some(dialog) = self.calls.get(id) {
            dialog.ended.extend(view::ended(&mut dialog.kinds, &ended));
            let kinds = dialog.call.streams().map(|s| (s.rtp, s.kind.into()));
            let new: Vec<_> = kinds.collect();
            dialog.kinds.extend(new);
        }
        Ok(())
    }

    /// Ends a call's media, and tells of it.
    pub(super) fn end(&mut self, now: Now, id: u64, reason: EndReason) {
        self.silent.remove(&id);
        let Some(dialog) = self.calls.get(id) else { return };
        let places = dialog.places.unwrap_or_default();
        let mut pools = Pools { all: &mut self.interfaces.pools, places, random: 0 };
        let orders = dialog.call.end(ms(now), &mut pools);
        for order in orders {
            if let Err(error) = self.carry_out(id, std::slice::from_ref(&order)) {
                tracing::warn!(%error, "a media session could not be ended");
            }
        }
        self.tell(now, id, reason);
    }

    /// Its media have ended: the record of it.
    pub(super) fn tell(&mut self, now: Now, id: u64, reason: EndReason) {
        let Some((call_id, mut dialog)) = self.calls.remove(id) else { return };
        self.keep(now, id);
        let streams = std::mem::take(&mut dialog.ended).finish();
        self.numbers.ended(reason, &streams);
        (self.sink)(MediaRecord {
            call_id: text(&call_id),
            caller_tag: text(dialog.parties.caller()),
            callee_tag: text(dialog.parties.callee()),
            begun_unix_ms: dialog.begun_unix_ms,
            duration_ms: age_ms(now, &dialog),
            answered: dialog.answered,
            reason,
            streams,
        });
    }

    pub(super) fn kill(&mut self, now: Now, call_id: &[u8]) -> usize {
        let ids: Vec<u64> = self.calls.of(call_id).iter().map(|dialog| dialog.id).collect();
        ids.iter().for_each(|id| self.end(now, *id, EndReason::Killed));
        ids.len()
    }

    pub(super) fn close(&mut self, now: Now) {
        let ids: Vec<u64> = self.calls.iter().map(|(_, dialog)| dialog.id).collect();
        ids.into_iter().for_each(|id| self.end(now, id, EndReason::Stopped));
    }

    /// True: peers have settled.
    pub(super) fn tick(&mut self, now: Now) -> bool {
        let mut settled = false;
        match self.executor.events() {
            Ok(events) => {
                for event in events {
                    settled |= event.events.intersects(Events::LEARNED.union(Events::MOVED));
                    let session = event.session.map(|session| session.id / SESSIONS_A_CALL);
                    if let Some(id) = session.filter(|_| event.events.contains(Events::IDLE)) {
                        self.silent.insert(id);
                    }
                    self.numbers.note(event.events);
                }
            }
            Err(error) => tracing::warn!(%error, "the media executor does not tell its events"),
        }
        let silent: Vec<u64> = self.silent.iter().copied().collect();
        for id in silent {
            match self.has_been_silent(now, id) {
                None => {
                    self.silent.remove(&id);
                }
                Some(true) => self.end(now, id, EndReason::Idle),
                Some(false) => {}
            }
        }
        self.end_old(now);
        settled
    }

    /// Whether an idle call has been so for too long; `None`: it is not idle any more.
    fn has_been_silent(&mut self, now: Now, id: u64) -> Option<bool> {
        let idle_ms = u64::from(self.config.settings.idle_s).saturating_mul(1_000);
        let held_ms = match self.config.held_s {
            0 => u64::MAX,
            seconds => seconds.saturating_mul(1_000),
        };
        let dialog = self.calls.get(id)?;
        let streams: Vec<_> = dialog.call.streams().map(|s| (s.rtp, s.rtcp, s.held)).collect();
        let held = streams.iter().all(|(_, _, held)| *held);
        let mut silence_ms = ms(now).saturating_sub(dialog.changed_ms);
        for local in streams.iter().flat_map(|(rtp, rtcp, _)| [*rtp, *rtcp]) {
            let report = self.executor.report(local).ok();
            let seen = report.iter().flat_map(|report| &report.legs).filter_map(|leg| leg.seen_ms);
            silence_ms = seen.fold(silence_ms, u64::min);
        }
        if silence_ms < idle_ms {
            return None;
        }
        Some(!held || silence_ms >= held_ms)
    }

    /// Ends calls that are too old, and those nobody has answered.
    fn end_old(&mut self, now: Now) {
        let lifetime_ms = match self.config.lifetime_s {
            0 => u64::MAX,
            seconds => seconds.saturating_mul(1_000),
        };
        let unanswered_ms = self.config.unanswered_s.saturating_mul(1_000);
        let overdue = self.calls.iter().filter_map(|(_, dialog)| {
            let age_ms = age_ms(now, dialog);
            let waits = !dialog.answered && age_ms >= unanswered_ms;
            let reason = if waits { EndReason::Unanswered } else { EndReason::Lifetime };
            (waits || age_ms >= lifetime_ms).then_some((dialog.id, reason))
        });
        let overdue: Vec<_> = overdue.collect();
        for (id, reason) in overdue {
            self.end(now, id, reason);
        }
    }
}
