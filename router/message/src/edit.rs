//! Ordered edits over original bytes.
//!
//! An outgoing message is what came in plus a few insertions and removals, written once. What we
//! do not understand is therefore forwarded byte for byte.

use crate::header::{Value, Values};
use crate::{Message, Span};

/// A set of edits, kept and reused by its owner. Edits refer to offsets of the *original* message;
/// at one offset, insertions appear in the order they were made, also where the bytes around them
/// are removed. Overlapping removals are merged. Offsets behind the end mean the end.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// By offset, then in the order made.
    inserts: Vec<Insert>,
    /// By offset; they neither overlap nor touch.
    removals: Vec<Span>,
    /// The inserted bytes.
    arena: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Insert {
    at: u32,
    start: usize,
    end: usize,
}

impl Edits {
    /// No edits.
    pub fn new() -> Edits {
        Edits::default()
    }
    /// Forgets all edits, keeps the memory.
    pub fn clear(&mut self) {
        self.inserts.clear();
        self.removals.clear();
        self.arena.clear();
    }
    /// Nothing to do?
    pub fn is_empty(&self) -> bool {
        self.inserts.is_empty() && self.removals.is_empty()
    }
    /// Inserts bytes before offset `at`.
    pub fn insert(&mut self, at: u32, text: &[u8]) {
        self.insert_with(at, |out| out.extend_from_slice(text));
    }
    /// Inserts what `write` appends, before offset `at`; saves a temporary buffer.
    pub fn insert_with(&mut self, at: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len();
        write(&mut self.arena);
        let end = self.arena.len();
        if end > start {
            let place = self.inserts.partition_point(|insert| insert.at <= at);
            self.inserts.insert(place, Insert { at, start, end });
        }
    }
    /// Removes a range.
    pub fn remove(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        // The removals that overlap or touch become one with it.
        let from = self.removals.partition_point(|removal| removal.end < span.start);
        let to = self.removals.partition_point(|removal| removal.start <= span.end);
        let merged = self.removals.get(from..to).unwrap_or_default();
        let start = merged.first().map_or(span.start, |first| first.start.min(span.start));
        let end = merged.last().map_or(span.end, |last| last.end.max(span.end));
        self.removals.splice(from..to.max(from), [Span { start, end }]);
    }
    /// Replaces a range.
    pub fn replace(&mut self, span: Span, text: &[u8]) {
        self.remove(span);
        self.insert(span.start, text);
    }
    /// Removes one value of a list header: the value with its comma, or the whole line where it is
    /// the only value left. Works for several values of one line removed one after another, in any
    /// order. Costs one pass over the line.
    pub fn remove_value(&mut self, message: Message<'_>, value: &Value<'_>) {
        self.remove(value.span);
        // The gap in front of a value that stays is kept if any value before it stays. That never
        // takes back a removal made for fewer values. Empty values are worth no comma.
        let mut kept = false;
        let mut gap_start = value.line.value.start;
        for other in Values::of_line(message.bytes(), value.line) {
            let stays = !other.span.is_empty() && !self.removes(other.span);
            if !(stays && kept) {
                self.remove(Span { start: gap_start, end: other.span.start });
            }
            kept |= stays;
            gap_start = other.span.end;
        }
        if !kept {
            self.remove(value.line.whole);
        }
    }
    /// Appends the edited message to `out`.
    pub fn write(&self, original: &[u8], out: &mut Vec<u8>) {
        let mut removals = self.removals.as_slice();
        let mut at = 0;
        for insert in &self.inserts {
            let to = insert.at.max(at);
            keep(original, at, to, &mut removals, out);
            at = to;
            out.extend_from_slice(self.arena.get(insert.start..insert.end).unwrap_or_default());
        }
        keep(original, at, u32::MAX, &mut removals, out);
    }

    /// Is all of that range removed?
    fn removes(&self, span: Span) -> bool {
        let at = self.removals.partition_point(|removal| removal.end < span.end);
        self.removals.get(at).is_some_and(|r| r.start <= span.start && span.end <= r.end)
    }
}

/// Copies what is left of `from..to`, and moves `removals` behind those that end before `to`.
fn keep(original: &[u8], mut from: u32, to: u32, removals: &mut &[Span], out: &mut Vec<u8>) {
    let to = to.min(u32::try_from(original.len()).unwrap_or(u32::MAX));
    while from < to {
        let next = removals.first().copied().unwrap_or(Span { start: to, end: to });
        out.extend_from_slice(Span { start: from, end: next.start.min(to) }.of(original));
        from = next.end.max(from);
        if next.end > to {
            break; // the rest of this removal lies behind
        }
        *removals = removals.get(1..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests;
