//! Intervals: what is asked, what is given (RFC 3261 10.3 step 7).

use super::*;

fn given(desk: &mut Desk, lines: &[&str]) -> Vec<String> {
    desk.set = None;
    let answer = desk.register("c", 1, lines).unwrap();
    let contacts = lines_of(&answer.headers, "Contact");
    contacts.iter().map(|c| c.rsplit_once(";expires=").unwrap().1.to_owned()).collect()
}

#[test]
fn the_parameter_beats_the_header_and_the_header_the_default() {
    let mut desk = Desk::new();
    let cases: [(&[&str], &[&str]); 6] = [
        (&["Contact: <sip:1@h>;expires=100, <sip:2@h>", "Expires: 200"], &["100", "200"]),
        (&["Contact: <sip:1@h>"], &["3600"]),
        (&["Contact: <sip:1@h>;expires=x"], &["3600"]),
        (&["Contact: <sip:1@h>;expires", "Expires: 100"], &["3600"]),
        (&["Contact: <sip:1@h>", "Expires: Thu, 01 Dec 1994"], &["3600"]),
        (&["Contact: <sip:1@h>;expires=99999999999"], &["4294967295"]),
    ];
    for (lines, expected) in cases {
        assert_eq!(given(&mut desk, lines), expected, "{lines:?}");
    }
    desk.registrar.default_expires_s = 1800;
    assert_eq!(given(&mut desk, &["Contact: <sip:1@h>"]), ["1800"]);
    assert_eq!(given(&mut desk, &["Contact: <sip:1@h>;expires=x"]), ["3600"], "RFC 3261 10.2.1.1");
}

#[test]
fn short_and_long_intervals_are_moved_to_the_bounds() {
    let mut desk = Desk::new();
    assert_eq!(given(&mut desk, &["Contact: <sip:1@h>;expires=5"]), ["60"]);
    desk.registrar.max_expires_s = 600;
    assert_eq!(given(&mut desk, &["Contact: <sip:1@h>;expires=7200"]), ["600"]);
    desk.flags = SaveFlags::parse("e10E20").unwrap();
    assert_eq!(given(&mut desk, &["Contact: <sip:1@h>;expires=5"]), ["10"]);
    assert_eq!(given(&mut desk, &["Contact: <sip:1@h>;expires=50"]), ["20"]);
    desk.flags = SaveFlags::parse("e0E0").unwrap();
    assert_eq!(given(&mut desk, &["Contact: <sip:1@h>;expires=5"]), ["5"]);
    assert_eq!(given(&mut desk, &["Contact: <sip:1@h>;expires=7200"]), ["7200"]);
}

#[test]
fn short_intervals_are_refused_with_423_where_configured() {
    let mut desk = Desk::new();
    desk.registrar.reject_short_expires = true;
    let refusal = desk.register("c", 1, &["Contact: <sip:1@h>;expires=59"]).unwrap_err();
    assert_eq!((refusal.status, text(&refusal.headers)), (423, "Min-Expires: 60\r\n".into()));
    assert_eq!(desk.status("c", 1, &["Contact: <sip:1@h>;expires=60"]), 200);
    assert_eq!(desk.status("c", 2, &["Contact: <sip:1@h>;expires=0"]), 200);
    // An hour or more is never too brief, whatever the bound.
    desk.flags = SaveFlags::parse("e7200").unwrap();
    assert_eq!(desk.status("c", 3, &["Contact: <sip:1@h>;expires=3599"]), 423);
    assert_eq!(given(&mut desk, &["Contact: <sip:1@h>;expires=3600"]), ["7200"]);
}

#[test]
fn expiries_are_spread_within_deviation_percentage_and_bounds() {
    let mut desk = Desk::new();
    desk.registrar.max_expires_s = 3620;
    desk.registrar.expires_deviation_s = 100;
    let mut seen = std::collections::BTreeSet::new();
    let mut each = |desk: &mut Desk, asked: &str, range: std::ops::RangeInclusive<u32>| {
        seen.clear();
        for seed in 0..500u64 {
            desk.seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let given: u32 = given(desk, &[asked])[0].parse().unwrap();
            assert!(range.contains(&given), "{given} for {asked}");
            seen.insert(given);
        }
        seen.len()
    };
    assert!(each(&mut desk, "Contact: <sip:1@h>;expires=3600", 3500..=3620) > 50);
    assert!(each(&mut desk, "Contact: <sip:1@h>;expires=60", 60..=160) > 20);
    desk.registrar.expires_deviation_s = 0;
    desk.registrar.expires_shorten_percent = 10;
    assert!(each(&mut desk, "Contact: <sip:1@h>;expires=1000", 900..=1000) > 50);
    desk.flags = SaveFlags::parse("e0").unwrap();
    assert_eq!(each(&mut desk, "Contact: <sip:1@h>;expires=1", 1..=1), 1, "never to 0");
}
