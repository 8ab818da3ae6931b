//! The table of calls.

use std::collections::HashMap;

use viaduct_engine::media::{MediaMessage, Tags};

use super::dialog::Dialog;
use crate::call::Side;

/// Dialogs and branches one Call-ID may have at a time.
const DIALOGS_MAX: usize = 64;

/// All calls.
#[derive(Default)]
pub(super) struct Calls {
    by_call_id: HashMap<Box<[u8]>, Vec<Dialog>>,
    /// The Call-ID of each dialog's number.
    by_id: HashMap<u64, Box<[u8]>>,
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn has_room_for(&self, call_id: &[u8]) -> bool {
        self.of(call_id).len() < DIALOGS_MAX
    }

    pub(super) fn of(&self, call_id: &[u8]) -> &[Dialog] {
        self.by_call_id.get(call_id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn add(&mut self, call_id: &[u8], dialog: Dialog) {
        self.by_id.insert(dialog.id, call_id.into());
        self.by_call_id.entry(call_id.into()).or_default().push(dialog);
    }

    pub(super) fn get(&mut self, id: u64) -> Option<&mut Dialog> {
        let dialogs = self.by_call_id.get_mut(self.by_id.get(&id)?)?;
        dialogs.iter_mut().find(|dialog| dialog.id == id)
    }

    /// A dialog with its Call-ID.
    pub(super) fn whole(&self, id: u64) -> Option<(&[u8], &Dialog)> {
        let call_id = self.by_id.get(&id)?;
        let dialog = self.of(call_id).iter().find(|dialog| dialog.id == id)?;
        Some((call_id, dialog))
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<(Box<[u8]>, Dialog)> {
        let call_id = self.by_id.remove(&id)?;
        let dialogs = self.by_call_id.get_mut(&call_id)?;
        let at = dialogs.iter().position(|dialog| dialog.id == id)?;
        let dialog = dialogs.swap_remove(at);
        if dialogs.is_empty() {
            self.by_call_id.remove(&call_id);
        }
        Some((call_id, dialog))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Dialog)> {
        let all = self.by_call_id.iter();
        all.flat_map(|(call_id, dialogs)| dialogs.iter().map(move |dialog| (&**call_id, dialog)))
    }

    /// The dialog a message belongs to, and which side wrote the message.
    pub(super) fn find(&self, message: &MediaMessage<'_>) -> Option<(u64, Side)> {
        let early = message.status != 0 || message.tags.to.is_empty();
        let found = self.requested(message.tags, message.branch, early);
        found.map(|(id, by)| (id, if message.status == 0 { by } else { by.other() }))
    }

    /// The dialog of a request's tags, and which side sent the request. One that knows both tags
    /// goes before one that does not yet, and one of this very branch before one of all.
    pub(super) fn requested(
        &self,
        tags: Tags<'_>,
        branch: Option<u32>,
        early: bool,
    ) -> Option<(u64, Side)> {
        let dialogs = self.of(tags.call_id);
        let known = dialogs.iter().find_map(|d| Some((d.id, d.parties.requester(tags, false)?)));
        if known.is_some() || !early {
            return known;
        }
        let fitting = dialogs.iter().filter(|dialog| dialog.is_of_branch(branch));
        let mut fitting =
            fitting.filter_map(|dialog| Some((dialog, dialog.parties.requester(tags, true)?)));
        let own = fitting.clone().find(|(dialog, _)| dialog.has_branch());
        own.or_else(|| fitting.next()).map(|(dialog, side)| (dialog.id, side))
    }
}
