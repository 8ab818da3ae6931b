//! Tables: what is kept, for how long, and how many.

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_700_000_000_000;

fn change(key: &str, action: TableAction) -> TableChange {
    TableChange { table: "t".into(), key: key.into(), action }
}

fn set(key: &str, life_ms: u64) -> TableChange {
    change(key, TableAction::Set { value: "v".into(), expires_ms: NOW + life_ms })
}

#[test]
fn an_entry_ends_when_its_time_has_come() {
    let tables = Tables::default();
    assert!(tables.apply(&set("a", 1000), NOW));
    assert_eq!(tables.get("t", "a", NOW + 999), Some(Value::Text("v".into())));
    assert_eq!(tables.get("t", "a", NOW + 1000), None);
    assert_eq!(tables.get("other", "a", NOW), None);
}

#[test]
fn numbers_add_up_and_keep_the_end_they_began_with() {
    let tables = Tables::default();
    for (by, end) in [(2, 10), (3, 1000)] {
        tables.apply(&change("n", TableAction::Add { by, expires_ms: NOW + end }), NOW);
    }
    assert_eq!(tables.get("t", "n", NOW + 9), Some(Value::Number(5)));
    assert_eq!(tables.get("t", "n", NOW + 10), None);
}

#[test]
fn a_flood_of_keys_ends_at_the_bound_and_old_keys_stay() {
    let tables = Tables::new(160, 3);
    tables.apply(&set("kept", 5000), NOW);
    let taken = (0..10_000).filter(|n| tables.apply(&set(&format!("k{n}"), 5000), NOW)).count();
    assert!(taken < 160 && tables.len("t") <= 160, "{taken}");
    assert!(tables.apply(&set("kept", 9000), NOW) && !tables.has_room("t", "more?", NOW));
    // Room comes back when they have expired.
    assert!(tables.has_room("t", "more?", NOW + 6000));
    assert!(tables.apply(&set("more?", 9000), NOW + 6000));
}

#[test]
fn there_may_be_so_many_tables_and_no_more() {
    let tables = Tables::default();
    let in_table = |n: usize| TableChange { table: format!("t{n}").into(), ..set("a", 9) };
    let taken = (0..200).filter(|n| tables.apply(&in_table(*n), NOW)).count();
    assert_eq!(taken, MOST_TABLES);
}

#[test]
fn a_rate_slides_from_one_window_into_the_next() {
    let mut rate = Rate::default();
    for n in 1..=10 {
        assert_eq!(rate.hit(1000, NOW), n);
    }
    // Half of the window before still counts: five, and this hit.
    assert_eq!(rate.hit(1000, NOW + 1500), 6);
    assert_eq!(rate.hit(1000, NOW + 5000), 1);
}

#[test]
fn what_is_no_number_is_left_alone() {
    let tables = Tables::default();
    tables.apply(&set("a", 1000), NOW);
    tables.apply(&change("a", TableAction::Add { by: 1, expires_ms: NOW + 9 }), NOW);
    tables.apply(&change("a", TableAction::Hit { window_ms: 10 }), NOW);
    assert_eq!(tables.get("t", "a", NOW), Some(Value::Text("v".into())));
}

proptest! {
    /// Within one window a rate is the number of its hits; never more than all hits there were.
    #[test]
    fn a_rate_never_counts_more_than_there_was(
        gaps in proptest::collection::vec(0u64..3000, 1..100),
        window in 1u64..5000,
    ) {
        let (mut rate, mut at) = (Rate::default(), NOW);
        for (n, gap) in gaps.iter().enumerate() {
            at += gap;
            let counted = rate.hit(window, at);
            prop_assert!(counted >= 1 && counted as usize <= n + 1);
        }
    }
}
