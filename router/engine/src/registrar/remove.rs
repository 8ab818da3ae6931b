//! Removing bindings on somebody's word other than the phone's.

use std::sync::Arc;

use viaduct_message::uri;

use super::BindingSet;

/// The set without the contact (all that are equivalent by RFC 3261 19.1.4), or without any where
/// none is named; and how many went. Without a match it is the same set.
pub fn remove(set: &Arc<BindingSet>, contact: Option<&[u8]>) -> (Arc<BindingSet>, usize) {
    let stays = |bound: &[u8]| contact.is_some_and(|named| !uri::equivalent(bound, named));
    let left: Box<[_]> = set.bindings.iter().filter(|b| stays(b.contact())).cloned().collect();
    let removed = set.len().saturating_sub(left.len());
    match removed {
        0 => (Arc::clone(set), 0),
        _ => (Arc::new(BindingSet { bindings: left }), removed),
    }
}
