//! The calls that nodes relay.

use std::collections::{HashMap, VecDeque};

use viaduct_engine::Now;
use viaduct_engine::media::{CallView, MediaFlags, MediaMessage, StreamView, Tags};

use super::relay::Work;
use crate::call::Side;
use crate::dialog::{Exchange, Parties};

/// Calls one Call-ID may have at a time.
const CALLS_MAX: usize = 16;

/// A call, and the node that has it.
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) parties: Parties,
    /// Its offer was made branch by branch, and none of them has taken the call for good.
    pub(super) branches: bool,
    /// `None`: no node has taken it yet.
    pub(super) node: Option<usize>,
    pub(super) offered_by: Option<Side>,
    /// The offer awaits its answer.
    pub(super) is_open: bool,
    pub(super) answered: bool,
    /// Of its first order.
    pub(super) flags: MediaFlags,
    pub(super) begun: Now,
    /// How old it was then: of an earlier process's.
    pub(super) aged_ms: u64,
    /// A command is under way; what waits for it, in order.
    pub(super) is_busy: bool,
    pub(super) queue: VecDeque<Work>,
    /// As the node has told last.
    pub(super) streams: Vec<StreamView>,
}

impl Call {
    /// Of nobody yet.
    pub(super) fn new(id: u64, now: Now, flags: MediaFlags) -> Call {
        Call {
            id,
            parties: Parties::new(Tags { call_id: b"", from: b"", to: b"" }),
            branches: false,
            node: None,
            offered_by: None,
            is_open: false,
            answered: false,
            flags,
            begun: now,
            aged_ms: 0,
            is_busy: false,
            queue: VecDeque::new(),
            streams: Vec::new(),
        }
    }

    pub(super) fn exchange(&self, side: Side) -> Exchange {
        Exchange { side, offered_by: self.offered_by, is_open: self.is_open }
    }

    pub(super) fn age_ms(&self, now: Now) -> u64 {
        (now.mono_us.saturating_sub(self.begun.mono_us) / 1_000).saturating_add(self.aged_ms)
    }

    pub(super) fn view(&self, now: Now) -> CallView {
        CallView {
            age_s: self.age_ms(now) / 1_000,
            answered: self.answered,
            streams: self.streams.clone(),
        }
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Calls {
    by_call_id: HashMap<Box<[u8]>, Vec<Call>>,
    /// The Call-ID of each call's number.
    by_id: HashMap<u64, Box<[u8]>>,
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn has_room_for(&self, call_id: &[u8]) -> bool {
        self.of(call_id).len() < CALLS_MAX
    }

    pub(super) fn of(&self, call_id: &[u8]) -> &[Call] {
        self.by_call_id.get(call_id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn add(&mut self, call_id: &[u8], call: Call) {
        self.by_id.insert(call.id, call_id.into());
        self.by_call_id.entry(call_id.into()).or_default().push(call);
    }

    pub(super) fn get(&mut self, id: u64) -> Option<&mut Call> {
        let calls = self.by_call_id.get_mut(self.by_id.get(&id)?)?;
        calls.iter_mut().find(|call| call.id == id)
    }

    pub(super) fn call_id(&self, id: u64) -> Option<Box<[u8]>> {
        self.by_id.get(&id).cloned()
    }

    /// A call with its Call-ID.
    pub(super) fn whole(&self, id: u64) -> Option<(&[u8], &Call)> {
        let call_id = self.by_id.get(&id)?;
        let call = self.of(call_id).iter().find(|call| call.id == id)?;
        Some((call_id, call))
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<(Box<[u8]>, Call)> {
        let call_id = self.by_id.remove(&id)?;
        let calls = self.by_call_id.get_mut(&call_id)?;
        let at = calls.iter().position(|call| call.id == id)?;
        let call = calls.swap_remove(at);
        if calls.is_empty() {
            self.by_call_id.remove(&call_id);
        }
        Some((call_id, call))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Call)> {
        let all = self.by_call_id.iter();
        all.flat_map(|(call_id, calls)| calls.iter().map(move |call| (&**call_id, call)))
    }

    /// The call a message belongs to, and which side wrote the message.
    pub(super) fn find(&self, message: &MediaMessage<'_>) -> Option<(u64, Side)> {
        let early = message.status != 0 || message.tags.to.is_empty();
        let found = self.requested(message.tags, early);
        found.map(|(id, by)| (id, if message.status == 0 { by } else { by.other() }))
    }

    /// The call of a request's tags, and which side sent the request. One that knows both tags goes
    /// before one that does not yet.
    pub(super) fn requested(&self, tags: Tags<'_>, early: bool) -> Option<(u64, Side)> {
        let calls = self.of(tags.call_id).iter();
        let of = |early| move |c: &Call| Some((c.id, c.parties.requester(tags, early)?));
        let known = calls.clone().find_map(of(false));
        known.or_else(|| calls.clone().find_map(of(true)).filter(|_| early))
    }
}
