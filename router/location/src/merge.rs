//! Two routers have changed the bindings of one AoR from the same beginning.

use viaduct_engine::registrar::{Binding, BindingSet};
use viaduct_message::uri;

/// What both changes together make of `base`: per contact, the side that has changed it counts, and
/// where both have, the later REGISTER; a removal gives way to a REGISTER. Only needed where a
/// change was acknowledged before it was stored: all others are computed again instead.
pub fn merge(base: &BindingSet, mine: &BindingSet, theirs: &BindingSet) -> BindingSet {
    let mut merged: Vec<Binding> = Vec::with_capacity(theirs.len() + mine.len());
    for their in &theirs.bindings {
        let (before, my) = (find(base, their), find(mine, their));
        let they_changed = !is_stored_as(before, their);
        match my {
            Some(my) if is_stored_as(before, my) => merged.push(their.clone()),
            Some(my) if they_changed && is_later(their, my) => merged.push(their.clone()),
            Some(my) => merged.push(my.clone()),
            // Here it was removed, or never known.
            None if they_changed => merged.push(their.clone()),
            None => {}
        }
    }
    for my in mine.bindings.iter().filter(|my| find(theirs, my).is_none()) {
        // There it was removed, or never known.
        if !is_stored_as(find(base, my), my) {
            merged.push(my.clone());
        }
    }
    BindingSet { bindings: merged.into() }
}

fn find<'a>(set: &'a BindingSet, wanted: &Binding) -> Option<&'a Binding> {
    let same = |one: &&Binding| {
        one.contact() == wanted.contact() || uri::equivalent(one.contact(), wanted.contact())
    };
    set.bindings.iter().find(same)
}

/// What a store keeps of both is the same. It keeps no ping latency: who has only measured one has
/// changed nothing.
fn is_stored_as(one: Option<&Binding>, other: &Binding) -> bool {
    one.is_some_and(|one| *one == other.with_ping_us(one.ping_us()))
}

/// The same for all bindings of an AoR.
pub(crate) fn are_stored_alike(one: &BindingSet, other: &BindingSet) -> bool {
    let mut pairs = one.bindings.iter().zip(&other.bindings);
    one.len() == other.len() && pairs.all(|(one, other)| is_stored_as(Some(one), other))
}

fn is_later(one: &Binding, other: &Binding) -> bool {
    one.fields().modified_ms > other.fields().modified_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use viaduct_engine::registrar::BindingFields;
    use viaduct_engine::{ConnId, Transport};

    /// A contact by number, registered at a time.
    type Plain = Vec<(u8, u64)>;

    fn set(plain: &Plain) -> BindingSet {
        let binding = |(contact, modified_ms): &(u8, u64)| {
            let contact = format!("sip:{contact}@h");
            Binding::pack(&BindingFields {
                contact: contact.as_bytes(),
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
                expires_ms: 1_000_000,
                modified_ms: *modified_ms,
                transport: Transport::Udp,
                local: std::net::SocketAddr::from(([192, 0, 2, 1], 5060)),
                conn: ConnId::NONE,
                nat: false,
            })
        };
        BindingSet { bindings: plain.iter().map(binding).collect() }
    }

    #[test]
    fn each_side_keeps_what_it_has_changed() {
        let base = vec![(1, 10), (2, 10), (3, 10)];
        // Here 1 is refreshed, 2 removed and 4 added; there 2 stays, 3 is removed and 5 added.
        let mine = vec![(1, 20), (3, 10), (4, 20)];
        let theirs = vec![(1, 10), (2, 10), (5, 15)];
        let merged = merge(&set(&base), &set(&mine), &set(&theirs));
        assert_eq!(merged, set(&vec![(1, 20), (5, 15), (4, 20)]));
    }

    #[test]
    fn a_ping_that_was_measured_is_no_change() {
        let base = set(&vec![(1, 10), (2, 10)]);
        let measured = base.bindings.iter().map(|binding| binding.with_ping_us(Some(5)));
        let mine = BindingSet { bindings: measured.collect() };
        assert!(are_stored_alike(&base, &mine) && !are_stored_alike(&base, &set(&vec![(1, 10)])));
        // What was removed there does not come back, what was refreshed there counts.
        assert_eq!(merge(&base, &mine, &set(&vec![(2, 20)])), set(&vec![(2, 20)]));
    }

    #[test]
    fn of_two_changes_to_one_contact_the_later_register_counts() {
        let base = vec![(1, 10)];
        for (mine, theirs, expected) in [
            (vec![(1, 20)], vec![(1, 30)], vec![(1, 30)]),
            (vec![(1, 40)], vec![(1, 30)], vec![(1, 40)]),
            (vec![], vec![(1, 30)], vec![(1, 30)]),
            (vec![(1, 40)], vec![], vec![(1, 40)]),
            (vec![], vec![], vec![]),
        ] {
            assert_eq!(merge(&set(&base), &set(&mine), &set(&theirs)), set(&expected));
        }
    }

    fn plain() -> impl Strategy<Value = Plain> {
        proptest::collection::btree_map(0u8..6, 0u64..5, 0..5)
            .prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn where_one_side_has_changed_nothing_the_other_counts(base in plain(), new in plain()) {
            let (base, new) = (set(&base), set(&new));
            let sorted = |set: BindingSet| {
                let mut all = set.bindings.into_vec();
                all.sort_by_key(|binding| binding.contact().to_vec());
                all
            };
            prop_assert_eq!(sorted(merge(&base, &base, &new)), sorted(new.clone()));
            prop_assert_eq!(sorted(merge(&base, &new, &base)), sorted(new.clone()));
            prop_assert_eq!(sorted(merge(&base, &new, &new)), sorted(new));
        }

        #[test]
        fn no_contact_is_there_twice(base in plain(), mine in plain(), theirs in plain()) {
            let merged = merge(&set(&base), &set(&mine), &set(&theirs));
            let mut contacts: Vec<_> = merged.bindings.iter().map(Binding::contact).collect();
            contacts.sort_unstable();
            contacts.dedup();
            prop_assert_eq!(contacts.len(), merged.len());
        }
    }
}
