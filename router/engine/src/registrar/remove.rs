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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ConnId, Transport};
    use crate::registrar::{Binding, BindingFields};

    fn set(contacts: &[&str]) -> Arc<BindingSet> {
        let binding = |contact: &&str| {
            Binding::pack(&BindingFields {
                contact: contact.as_bytes(),
                contact_params: b"",
                path: b"",
                received: b"",
                call_id: b"c",
                user_agent: b"",
                instance: b"",
                cseq: 1,
                q_milli: None,
                reg_id: 0,
                methods: None,
                expires_ms: 1,
                modified_ms: 0,
                transport: Transport::Udp,
                local: "192.0.2.1:5060".parse().unwrap(),
                conn: ConnId::NONE,
                nat: false,
            })
        };
        Arc::new(BindingSet { bindings: contacts.iter().map(binding).collect() })
    }

    #[test]
    fn one_contact_goes_by_uri_comparison_and_without_a_name_all_go() {
        let all = set(&["sip:1@h", "sip:2@Phone.Example", "sip:3@h"]);
        assert_eq!(remove(&all, Some(b"sip:2@phone.example")), (set(&["sip:1@h", "sip:3@h"]), 1));
        assert_eq!(remove(&all, None), (set(&[]), 3));
        let (same, removed) = remove(&all, Some(b"sip:9@h"));
        assert!(removed == 0 && Arc::ptr_eq(&same, &all));
    }
}
