//! A new process goes on with the calls of the one before it.

use std::collections::HashMap;

use viaduct_engine::Now;
use viaduct_engine::media::EndReason;

use super::dialog::Dialog;
use super::kept::{KeptCall, Key, Stood, decode};
use super::{Inner, ms, standing};
use crate::call::Pools;
use crate::session::Report;

/// What became of the calls of an earlier process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// They go on.
    pub calls: usize,
    /// They have ended meanwhile: away for too long, a port taken, an interface gone.
    pub ended: usize,
    /// What was kept could not be read, and is forgotten.
    pub unreadable: usize,
}

/// What was kept, by what it is.
#[derive(Default)]
struct Book {
    calls: Vec<(u64, KeptCall)>,
    stood: HashMap<u64, Stood>,
    alive_unix_ms: u64,
    unreadable: Vec<Key>,
}

impl Book {
    fn read(kept: Vec<(Vec<u8>, Vec<u8>)>) -> Book {
        let mut book = Book::default();
        for (key, value) in kept {
            let Some(key) = Key::of(&key) else { continue };
            let read = match key {
                Key::Call(id) => decode(&value).map(|call| book.calls.push((id, call))),
                Key::Session(id) => decode(&value).map(|stood| book.stood.extend([(id, stood)])),
                Key::Alive => decode(&value).map(|unix_ms| book.alive_unix_ms = unix_ms),
                Key::Owner => Ok(()),
            };
            if let Err(error) = read {
                tracing::warn!(?key, %error, "what was kept of media cannot be read");
                book.unreadable.push(key);
            }
        }
        // In the order they were begun.
        book.calls.sort_unstable_by_key(|(id, _)| *id);
        book
    }
}

impl Inner {
    pub(super) fn restore(&mut self, now: Now, kept: Vec<(Vec<u8>, Vec<u8>)>) -> Restored {
        let book = Book::read(kept);
        let away_ms = now.unix_ms.saturating_sub(book.alive_unix_ms);
        let in_time = away_ms <= u64::from(self.config.grace_s).saturating_mul(1_000);
        let mut restored = Restored { unreadable: book.unreadable.len(), ..Restored::default() };
        let mut forgotten = book.unreadable;
        for (id, call) in book.calls {
            self.next_id = self.next_id.max(id.saturating_add(1));
            match call.dialog(id, now, &self.interfaces) {
                Ok((call_id, dialog, whole)) => {
                    if self.take_up(now, (&call_id, dialog), in_time && whole, &book.stood) {
                        restored.calls += 1;
                    } else {
                        restored.ended += 1;
                    }
                }
                Err(error) => {
                    tracing::warn!(id, %error, "what was kept of a call cannot be read");
                    restored.unreadable += 1;
                    forgotten.push(Key::Call(id));
                }
            }
        }
        if let Some(journal) = &self.journal {
            forgotten.into_iter().for_each(|key| journal.remove(key));
            // Those that go on are kept anew.
            book.stood.into_keys().for_each(|id| journal.remove(Key::Session(id)));
        }
        restored
    }

    /// True: the call goes on. Else it is told as ended.
    fn take_up(
        &mut self,
        now: Now,
        (call_id, dialog): (&[u8], Dialog),
        may_go_on: bool,
        stood: &HashMap<u64, Stood>,
    ) -> bool {
        let id = dialog.id;
        for ports in dialog.call.ports() {
            self.interfaces.pools.iter_mut().for_each(|pool| pool.reserve(ports));
        }
        let goes_on = may_go_on && self.resume(&dialog, stood);
        self.calls.add(call_id, dialog);
        if !goes_on {
            self.end_as_it_stood(now, id, stood);
        }
        goes_on
    }

    /// Has the executor go on with a call's sessions: all, or none.
    fn resume(&mut self, dialog: &Dialog, stood: &HashMap<u64, Stood>) -> bool {
        let mut done = Vec::new();
        for (_, session) in dialog.call.sessions() {
            let before = stood.get(&session.id).map(|legs| standing::report(session.id, legs));
            if let Err(error) = self.executor.restore(&session, before.as_ref()) {
                tracing::warn!(%error, id = dialog.id, "a call's media cannot go on");
                done.into_iter().for_each(|local| drop(self.executor.remove(local)));
                return false;
            }
            done.push(session.legs[0].local);
        }
        true
    }

    /// Tells of a call that nobody relays any more.
    fn end_as_it_stood(&mut self, now: Now, id: u64, stood: &HashMap<u64, Stood>) {
        let Some(dialog) = self.calls.get(id) else { return };
        let ended: Vec<(Option<Box<str>>, Report)> = dialog
            .call
            .sessions()
            .into_iter()
            .filter_map(|(kind, session)| {
                let legs = stood.get(&session.id)?;
                Some((kind, standing::report(session.id, legs)))
            })
            .collect();
        dialog.ended.extend(ended);
        let places = dialog.places.unwrap_or_default();
        let mut pools = Pools { all: &mut self.interfaces.pools, places, random: 0 };
        // No session is there any more; its ports rest.
        dialog.call.end(ms(now), &mut pools);
        self.tell(now, id, EndReason::Stopped);
    }
}
