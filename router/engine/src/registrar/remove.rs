//! Removing bindings on somebody's word other than the phone's.

use std::net::IpAddr;
use std::sync::Arc;

use viaduct_message::{Host, NameAddr, Uri, uri};

use super::{Binding, BindingFields, BindingSet, Bindings};
use crate::path::{first_value, parse_received};

/// Which bindings of an AoR: those that fit all that is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindingFilter<'a> {
    /// Contact URI, by RFC 3261 19.1.4.
    pub contact: Option<&'a [u8]>,
    /// Host of the next hop: of the topmost Path value, else of `received`, else of the contact.
    pub next_hop: Option<&'a [u8]>,
    /// `+sip.instance`, with or without its angle brackets.
    pub instance: Option<&'a [u8]>,
    /// Call-ID of the last REGISTER.
    pub call_id: Option<&'a [u8]>,
    /// Address the REGISTER came from where it is known, else the contact's host.
    pub source: Option<IpAddr>,
}

impl BindingFilter<'_> {
    /// Does a binding fit?
    pub fn fits(&self, binding: &Binding) -> bool {
        let fields = binding.fields();
        let bare = |text: &'_ [u8]| -> Vec<u8> {
            let inner = text.strip_prefix(b"<").and_then(|text| text.strip_suffix(b">"));
            inner.unwrap_or(text).to_vec()
        };
        self.contact.is_none_or(|named| uri::equivalent(fields.contact, named))
            && self.call_id.is_none_or(|call_id| fields.call_id == call_id)
            && self.instance.is_none_or(|named| bare(fields.instance) == bare(named))
            && self.source.is_none_or(|ip| source(&fields) == Some(ip.to_canonical()))
            && self.next_hop.is_none_or(|host| is_next_hop(&fields, host))
    }
}

fn source(fields: &BindingFields<'_>) -> Option<IpAddr> {
    if let Some((_, addr)) = parse_received(fields.received) {
        return Some(addr.ip());
    }
    match Uri::parse(fields.contact).ok()?.host {
        Host::Ip(ip) => Some(ip.to_canonical()),
        Host::Name(_) => None,
    }
}

fn is_next_hop(fields: &BindingFields<'_>, host: &[u8]) -> bool {
    let path = first_value(fields.path).and_then(|(first, _)| NameAddr::parse(first).ok());
    let text = match path {
        Some(path) => path.uri,
        None if fields.received.is_empty() => fields.contact,
        None => fields.received,
    };
    let hop = Uri::parse(text).map(|uri| uri.host);
    // As a URI has it, or an IPv6 address without its brackets.
    let mut named = b"sip:".to_vec();
    named.extend_from_slice(host);
    let plain = Uri::parse(&named).map(|uri| uri.host);
    let ip = std::str::from_utf8(host).ok().and_then(|text| text.parse().ok()).map(Host::Ip);
    hop.is_ok_and(|hop| ip.or(plain.ok()).is_some_and(|named| hop.same(&named)))
}

/// The set without the bindings that fit, and how many went. Without a match it is the same set.
pub fn remove_matching(
    set: &Arc<BindingSet>,
    filter: &BindingFilter<'_>,
) -> (Arc<BindingSet>, usize) {
    without(set, |binding| filter.fits(binding))
}

/// The set without the binding whose flow has failed: the one with that contact, if it is still as
/// it was at `modified_ms`. A REGISTER that came since has brought a flow of its own.
pub fn remove_failed(
    set: &Arc<BindingSet>,
    contact: &[u8],
    modified_ms: u64,
) -> (Arc<BindingSet>, usize) {
    without(set, |binding| {
        binding.contact() == contact && binding.fields().modified_ms == modified_ms
    })
}

fn without(set: &Arc<BindingSet>, goes: impl Fn(&Binding) -> bool) -> (Arc<BindingSet>, usize) {
    let left: Bindings = set.bindings.iter().filter(|binding| !goes(binding)).cloned().collect();
    let removed = set.len().saturating_sub(left.len());
    match removed {
        0 => (Arc::clone(set), 0),
        _ => (Arc::new(BindingSet { bindings: left }), removed),
    }
}

/// The set without the contact (all that are equivalent by RFC 3261 19.1.4), or without any where
/// none is named; and how many went. Without a match it is the same set.
pub fn remove(set: &Arc<BindingSet>, contact: Option<&[u8]>) -> (Arc<BindingSet>, usize) {
    remove_matching(set, &BindingFilter { contact, ..BindingFilter::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ConnId, Transport};

    fn set(contacts: &[&str]) -> Arc<BindingSet> {
        let binding = |contact: &&str| {
            Binding::pack(&BindingFields { contact: contact.as_bytes(), ..blank() })
        };
        Arc::new(BindingSet { bindings: contacts.iter().map(binding).collect() })
    }

    fn blank() -> BindingFields<'static> {
        BindingFields {
            contact: b"",
            contact_params: b"",
            path: b"",
            received: b"",
            call_id: b"c",
            user_agent: b"",
            instance: b"",
            attributes: b"",
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
        }
    }

    #[test]
    fn one_contact_goes_by_uri_comparison_and_without_a_name_all_go() {
        let all = set(&["sip:1@h", "sip:2@Phone.Example", "sip:3@h"]);
        assert_eq!(remove(&all, Some(b"sip:2@phone.example")), (set(&["sip:1@h", "sip:3@h"]), 1));
        assert_eq!(remove(&all, None), (set(&[]), 3));
        let (same, removed) = remove(&all, Some(b"sip:9@h"));
        assert!(removed == 0 && Arc::ptr_eq(&same, &all));
    }

    #[test]
    fn a_filter_takes_what_fits_all_it_says() {
        let set = set(&["sip:1@192.0.2.4", "sip:2@[2001:db8::4]", "sip:3@phone.example"]);
        let with = |index: usize, change: fn(&mut BindingFields<'static>)| {
            let contact: &'static [u8] = [&b"sip:1@192.0.2.4"[..], b"sip:2@[2001:db8::4]"][index];
            let mut fields = BindingFields { contact, ..blank() };
            change(&mut fields);
            Binding::pack(&fields)
        };
        let by = |filter: BindingFilter<'_>, set: &Arc<BindingSet>| remove_matching(set, &filter).1;
        let ip = |text: &str| BindingFilter { source: text.parse().ok(), ..Default::default() };
        assert_eq!(by(ip("192.0.2.4"), &set), 1);
        assert_eq!(by(ip("2001:db8::4"), &set), 1);
        let hop = |host: &'static str| BindingFilter {
            next_hop: Some(host.as_bytes()),
            ..Default::default()
        };
        assert_eq!(by(hop("2001:DB8:0::4"), &set), 1);
        assert_eq!(by(hop("Phone.Example"), &set), 1);
        assert_eq!(by(BindingFilter { call_id: Some(b"c"), ..ip("192.0.2.4") }, &set), 1);
        assert_eq!(by(BindingFilter { call_id: Some(b"d"), ..ip("192.0.2.4") }, &set), 0);
        let behind = Arc::new(BindingSet {
            bindings: vec![
                with(0, |fields| fields.path = b"<sip:p1.example;lr>, <sip:p2.example;lr>"),
                with(1, |fields| fields.received = b"sip:198.51.100.7:1024"),
            ]
            .into(),
        });
        assert_eq!(by(hop("p1.example"), &behind), 1);
        assert_eq!(by(hop("198.51.100.7"), &behind), 1);
        assert_eq!(by(hop("192.0.2.4"), &behind), 0, "the Path is before the contact");
        assert_eq!(by(ip("198.51.100.7"), &behind), 1);
        let instance = BindingFilter { instance: Some(b"urn:uuid:1"), ..Default::default() };
        let phone = with(0, |fields| fields.instance = b"<urn:uuid:1>");
        assert!(instance.fits(&phone) && !instance.fits(&behind.bindings[0]));
    }
}
