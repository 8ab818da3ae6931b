//! Marks, shares and the control of both, without an engine.

use super::*;

const MOST: usize = 800;

fn source(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn is_in(admission: &Admission, class: Class, from: Option<IpAddr>, open: usize) -> bool {
    admission.lets_in(class, from, (open, MOST), 999)
}

#[test]
fn each_class_may_fill_the_table_to_a_mark_of_its_own() {
    let admission = Admission::new(1);
    for (class, mark) in [(Class::New, 600), (Class::Refresh, 700), (Class::Kept, 800)] {
        assert!(is_in(&admission, class, None, mark - 1), "{class:?}");
        assert!(!is_in(&admission, class, None, mark), "{class:?}");
    }
    assert!(admission.is_open(399, MOST) && !admission.is_open(400, MOST));
}

#[test]
fn where_room_runs_short_no_source_has_more_than_its_share() {
    let mut admission = Admission::new(1);
    for _ in 0..390 {
        admission.opened(source(1));
    }
    for _ in 0..20 {
        admission.opened(source(2));
    }
    let (greedy, modest) = (Some(source(1)), Some(source(2)));
    for class in [Class::New, Class::Refresh] {
        assert!(is_in(&admission, class, greedy, 399), "there is room");
        assert!(!is_in(&admission, class, greedy, 410));
        assert!(is_in(&admission, class, modest, 410));
        assert!(is_in(&admission, class, Some(source(3)), 410));
        assert!(is_in(&admission, class, None, 410), "a trusted peer speaks for many");
    }
    // Within dialogs later than that: their calls are up.
    assert!(is_in(&admission, Class::Kept, greedy, 699));
    assert!(!is_in(&admission, Class::Kept, greedy, 700));
    for _ in 0..390 {
        admission.closed(source(1));
    }
    assert_eq!(admission.sources, 1);
    assert!(is_in(&admission, Class::New, greedy, 410));
}

#[test]
fn a_closing_that_was_never_opened_counts_nothing() {
    let mut admission = Admission::new(1);
    admission.closed(source(1));
    admission.opened(source(1));
    admission.closed(source(1));
    assert_eq!((admission.sources, admission.held.iter().sum::<u32>()), (0, 0));
}

#[test]
fn an_ipv6_source_is_its_whole_64() {
    let admission = Admission::new(1);
    let bucket = |text: &str| admission.bucket(text.parse().unwrap());
    assert_eq!(bucket("2001:db8::1"), bucket("2001:db8::ffff:1"));
    assert_ne!(bucket("2001:db8::1"), bucket("2001:db8:0:1::1"));
    assert_eq!(bucket("192.0.2.1"), bucket("::ffff:192.0.2.1"));
}

#[test]
fn answers_are_given_up_to_a_rate_and_a_burst_of_it() {
    let mut admission = Admission::new(1);
    admission.answered_us = 1;
    let given = |admission: &mut Admission, at_us: u64| {
        (0..1000).filter(|_| admission.may_answer(100, at_us)).count()
    };
    assert_eq!(given(&mut admission, 10_000_000), 10);
    assert_eq!(given(&mut admission, 10_000_000), 0);
    assert_eq!(given(&mut admission, 10_050_000), 5);
    assert!(!admission.may_answer(0, 99_000_000));
}

/// So many milliseconds, a turn each, in which messages wait or do not.
fn pass(admission: &mut Admission, from_ms: u64, ms: u64, behind: bool) -> u64 {
    for at in from_ms..from_ms + ms {
        admission.note_backlog(behind, 250_000, at * 1000);
    }
    from_ms + ms
}

#[test]
fn new_requests_are_shed_first_and_refreshes_come_back_first() {
    let mut admission = Admission::new(1);
    let at = pass(&mut admission, 1000, 200, true);
    assert_eq!((admission.new, admission.refresh), (ALL, ALL), "it may be a burst");
    let at = pass(&mut admission, at, 600, true);
    assert!(admission.new < 200 && admission.refresh == ALL, "{}", admission.new);
    let at = pass(&mut admission, at, 5000, true);
    assert_eq!((admission.new, admission.refresh), LEAST);
    let at = pass(&mut admission, at, 500, false);
    assert!(admission.new == LEAST.0 && admission.refresh > LEAST.1);
    pass(&mut admission, at, 4000, false);
    assert_eq!((admission.new, admission.refresh), (ALL, ALL));
    assert!(admission.is_open(0, MOST));
}

#[test]
fn a_worker_that_catches_up_again_and_again_is_not_overloaded() {
    let mut admission = Admission::new(1);
    let mut at = 1000;
    for _ in 0..50 {
        at = pass(&mut admission, at, 100, true);
        at = pass(&mut admission, at, 1, false);
    }
    assert_eq!((admission.new, admission.refresh), (ALL, ALL));
}

/// So many steps of 20 ms in which `offered` new requests come, as many of them as the shell brings.
fn flood(admission: &mut Admission, from_ms: u64, steps: u64, offered: u32) -> u64 {
    for step in 0..steps {
        let brought = offered * u32::from(admission.wanted_new()) / u32::from(ALL);
        admission.note_brought(admission.wanted_new());
        let let_in = brought * u32::from(admission.new_of_brought()) / u32::from(ALL);
        // A hundred are answered 503.
        admission.seen = brought;
        admission.silent = brought.saturating_sub(let_in + 100);
        admission.note_backlog(true, 250_000, (from_ms + step * 20) * 1000);
    }
    from_ms + steps * 20
}

#[test]
fn of_a_flood_no_more_is_brought_than_is_let_in_or_answered() {
    let mut admission = Admission::new(1);
    let at = flood(&mut admission, 1000, 300, 10_000);
    assert_eq!(admission.new, LEAST.0);
    let wanted = admission.wanted_new();
    // 200 are let in and 100 answered, of 10,000.
    assert!((30..=45).contains(&wanted), "{wanted}");
    assert!(admission.new_of_brought() > 400, "who is brought has his chance still");
    pass(&mut admission, at, 10_000, false);
    assert_eq!(admission.wanted_new(), ALL);
    admission.note_brought(ALL);
    assert_eq!(admission.new_of_brought(), ALL);
}

#[test]
fn where_all_are_answered_all_are_brought() {
    let mut admission = Admission::new(1);
    flood(&mut admission, 1000, 300, 50);
    assert_eq!((admission.new, admission.wanted_new()), (LEAST.0, ALL));
}

#[test]
fn a_shell_that_brings_all_changes_no_share() {
    let mut admission = Admission::new(1);
    pass(&mut admission, 1000, 2000, true);
    assert_eq!(admission.new_of_brought(), admission.new);
}
