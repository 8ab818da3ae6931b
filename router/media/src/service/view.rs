//! Calls as others see them.

use std::collections::HashMap;
use std::net::SocketAddr;

use viaduct_engine::Now;
use viaduct_engine::media::{CallView, LegView, StreamView, Tags};

use super::dialog::Dialog;
use super::{Inner, age_ms};
use crate::executor::Executor;
use crate::session::{Counter, LegReport, Quality, Report};

/// Streams of one call that are remembered after their end.
const ENDED_MAX: usize = 64;

/// A call in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEntry {
    /// Call-ID.
    pub call_id: Box<str>,
    /// Tag of who called.
    pub caller_tag: Box<str>,
    /// Tag of who was called; empty: nobody has answered.
    pub callee_tag: Box<str>,
    /// How its media stand.
    pub view: CallView,
    /// The media node that has it; `None`: this router.
    pub node: Option<SocketAddr>,
}

/// Streams that have ended before their call.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) streams: Vec<StreamView>,
    /// Reports of RTP whose RTCP is still to come: they end one after the other.
    half: Option<(Box<str>, Report)>,
}

impl Ended {
    pub(super) fn extend(&mut self, more: impl IntoIterator<Item = (Option<Box<str>>, Report)>) {
        for (kind, report) in more {
            match (kind, self.half.take()) {
                (Some(kind), half) => {
                    self.push(half, None);
                    self.half = Some((kind, report));
                }
                (None, half) => self.push(half, Some(&report)),
            }
        }
    }

    fn push(&mut self, half: Option<(Box<str>, Report)>, rtcp: Option<&Report>) {
        if let Some((kind, rtp)) = half.filter(|_| self.streams.len() < ENDED_MAX) {
            self.streams.push(stream(&kind, &rtp, rtcp));
        }
    }

    pub(super) fn finish(mut self) -> Vec<StreamView> {
        let half = self.half.take();
        self.push(half, None);
        self.streams
    }
}

/// Reports of ended sessions with the kind of their stream; those of RTCP have none.
pub(super) fn ended(
    kinds: &mut HashMap<SocketAddr, Box<str>>,
    reports: &[Report],
) -> Vec<(Option<Box<str>>, Report)> {
    let kind = |report: &Report| kinds.remove(&report.legs[0].local);
    reports.iter().map(kind).zip(reports.iter().cloned()).collect()
}

impl Inner {
    pub(super) fn query(&mut self, now: Now, tags: Tags<'_>) -> Option<CallView> {
        let found = self.calls.requested(tags, None, tags.to.is_empty());
        let (id, _) = found?;
        let executor = &mut *self.executor;
        self.calls.get(id).map(|dialog| call(now, dialog, executor))
    }

    /// Numbers and Call-IDs of all calls, the oldest first; at most `most`.
    pub(super) fn ids(&self, most: usize) -> Vec<(u64, Box<[u8]>)> {
        let mut ids: Vec<(u64, Box<[u8]>)> =
            self.calls.iter().map(|(call_id, dialog)| (dialog.id, call_id.into())).collect();
        ids.sort_unstable();
        ids.truncate(most);
        ids
    }

    pub(super) fn show(&mut self, now: Now, call_id: &[u8]) -> Vec<CallEntry> {
        let ids: Vec<u64> = self.calls.of(call_id).iter().map(|dialog| dialog.id).collect();
        ids.into_iter().filter_map(|id| self.entry(now, id, call_id)).collect()
    }

    /// One of them; `None` where it has ended meanwhile.
    pub(super) fn entry(&mut self, now: Now, id: u64, call_id: &[u8]) -> Option<CallEntry> {
        let executor = &mut *self.executor;
        let dialog = self.calls.get(id)?;
        Some(CallEntry {
            call_id: text(call_id),
            caller_tag: text(dialog.parties.caller()),
            callee_tag: text(dialog.parties.callee()),
            view: call(now, dialog, executor),
            node: None,
        })
    }
}

fn call(now: Now, dialog: &Dialog, executor: &mut dyn Executor) -> CallView {
    let streams = dialog.call.streams().filter_map(|facts| {
        let rtp = executor.report(facts.rtp).ok()?;
        let rtcp = executor.report(facts.rtcp).ok();
        Some(stream(facts.kind, &rtp, rtcp.as_ref()))
    });
    let streams = streams.collect();
    let age_s = age_ms(now, dialog) / 1_000;
    CallView { age_s, answered: dialog.answered, streams }
}

fn stream(kind: &str, rtp: &Report, rtcp: Option<&Report>) -> StreamView {
    let [caller, callee] = &rtp.legs;
    let control = rtcp.map(|rtcp| &rtcp.legs);
    StreamView {
        kind: kind.into(),
        carrier: rtp.carrier,
        caller: leg(caller, control.map(|[caller, _]| caller)),
        callee: leg(callee, control.map(|[_, callee]| callee)),
    }
}

fn leg(rtp: &LegReport, rtcp: Option<&LegReport>) -> LegView {
    let of = |report: &LegReport, counters: &[Counter]| {
        counters.iter().fold(0u64, |sum, one| sum.saturating_add(report.counters.get(*one)))
    };
    let both = |counters: &[Counter]| {
        of(rtp, counters).saturating_add(rtcp.map_or(0, |rtcp| of(rtcp, counters)))
    };
    let heard = rtp.quality.filter(|quality| quality.expected > 0);
    LegView {
        local: rtp.local,
        peer: rtp.learned.or(rtp.peer),
        locked: rtp.locked,
        packets: both(&[Counter::Packets]),
        octets: both(&[Counter::Octets]),
        dropped: both(Counter::ALL.get(Counter::Class as usize..).unwrap_or_default()),
        lost: heard.map(|quality| quality.lost),
        jitter_us: heard.map(|quality| quality.jitter_us),
        mos_centi: heard.map(|quality| mos_centi(&quality)),
    }
}

/// A mean opinion score by the E-model (ITU-T G.107) from loss and jitter alone, as if all were
/// G.711 with loss concealment (G.113: Bpl 25.1) and the network took no time. An estimate: it
/// tells a bad call from a good one.
fn mos_centi(quality: &Quality) -> u16 {
    let loss = 100.0 * quality.lost as f64 / quality.expected.max(1) as f64;
    // A jitter buffer waits about twice the jitter; a packet holds 20 ms.
    let delay_ms = 20.0 + 2.0 * f64::from(quality.jitter_us) / 1_000.0;
    let delay_impairment = 0.024 * delay_ms + 0.11 * (delay_ms - 177.3).max(0.0);
    let loss_impairment = 95.0 * loss / (loss + 25.1);
    let r = (93.2 - delay_impairment - loss_impairment).clamp(0.0, 100.0);
    let mos = 1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6;
    (mos.clamp(1.0, 4.5) * 100.0).round() as u16
}

pub(super) fn text(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g_107_a_clean_call_is_good_and_loss_and_jitter_make_it_worse() {
        let quality = |lost, jitter_us| Quality { expected: 1_000, lost, jitter_us };
        let scores = [(0, 0), (10, 0), (50, 5_000), (200, 40_000), (1_000, 0)]
            .map(|(lost, jitter_us)| mos_centi(&quality(lost, jitter_us)));
        assert!(scores[0] >= 438 && scores[4] <= 120, "{scores:?}");
        assert!(scores.is_sorted_by(|a, b| a > b), "{scores:?}");
    }
}
