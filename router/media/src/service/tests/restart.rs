//! A second process goes on with the calls of the first (R-M8).

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::service::{Journal, Key, Restored};

/// A file in memory.
#[derive(Clone, Default)]
struct File(Arc<Mutex<HashMap<Key, Vec<u8>>>>);

impl Journal for File {
    fn put(&self, key: Key, value: Vec<u8>) {
        self.0.lock().unwrap().insert(key, value);
    }

    fn remove(&self, key: Key) {
        self.0.lock().unwrap().remove(&key);
    }
}

impl File {
    fn all(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.0.lock().unwrap().iter().map(|(key, value)| (key.octets(), value.clone())).collect()
    }

    fn calls(&self) -> usize {
        let file = self.0.lock().unwrap();
        file.keys().filter(|key| matches!(key, Key::Call(_) | Key::Session(_))).count()
    }
}

/// A process that keeps its calls in `file`, later by so many seconds than the one before.
fn start(file: &File, config: Config, later_s: u64) -> (Stand, Restored) {
    let mut stand = Stand::with(config);
    stand.now_ms = later_s * 1_000;
    stand.desk.0.lock().unwrap().now_ms = stand.now_ms;
    let restored = stand.service.keep(stand.now(), Arc::new(file.clone()), file.all());
    (stand, restored)
}

fn offer(call_id: &str) -> Message {
    Message { call_id: call_id.to_owned(), ..Message::invite("a") }.with(&sdp("192.0.2.1", 4_000))
}

/// A call that is up; our addresses for both sides.
fn call(stand: &Stand, call_id: &str) -> [SocketAddr; 2] {
    let offer = offer(call_id);
    let for_b = place(&stand.manage(&offer).unwrap());
    let answer = offer.answer(200, "b").with(&sdp("192.0.2.2", 5_000));
    [place(&stand.manage(&answer).unwrap()), for_b]
}

fn bye(call_id: &str) -> Message {
    Message { call_id: call_id.to_owned(), ..Message::of(Method::Bye, "b", "a") }
}

#[test]
fn r_m8_a_call_goes_on_with_its_ports_its_learned_peer_and_its_counts() {
    let file = File::default();
    let (mut first, restored) = start(&file, config(), 0);
    assert_eq!(restored, Restored::default());
    let [for_a, for_b] = call(&first, "call");
    // The caller is really at another port, which is learned.
    first.packet(for_a, "192.0.2.1:4444");
    first.pass(1);
    assert!(first.packet(for_a, "192.0.2.1:4444").is_some());
    first.pass(5);
    drop(first);

    let (mut second, restored) = start(&file, config(), 20);
    assert_eq!(restored, Restored { calls: 1, ..Restored::default() });
    assert_eq!(second.packet(for_a, "192.0.2.1:4000"), None, "settled is settled");
    let to = second.packet(for_b, "192.0.2.2:5000").unwrap();
    assert_eq!(to, "192.0.2.1:4444".parse().unwrap());
    assert!(second.packet(for_a, "192.0.2.1:4444").is_some());
    second.manage(&bye("call")).unwrap();
    let record = second.last_record();
    assert_eq!((record.reason.word(), record.answered), ("ended", true));
    assert_eq!(record.duration_ms, 20_000);
    let stream = &record.streams[0];
    assert_eq!((stream.caller.packets, stream.callee.packets), (3, 1));
    assert_eq!(stream.caller.dropped, 1);
    second.pass(5);
    assert_eq!(file.calls(), 0, "nothing is left behind");
    second.check_empty();
}

#[test]
fn r_m8_a_re_invite_after_the_restart_finds_its_call_and_its_ports() {
    let file = File::default();
    let (first, _) = start(&file, config(), 0);
    let [for_a, for_b] = call(&first, "call");
    drop(first);
    let (mut second, _) = start(&file, config(), 2);
    // From who was called, and to another place.
    let again = Message::of(Method::Invite, "b", "a").with(&sdp("192.0.2.9", 5_900));
    assert_eq!(place(&second.manage(&again).unwrap()), for_a);
    let answer = again.answer(200, "a").with(&sdp("192.0.2.1", 4_000));
    assert_eq!(place(&second.manage(&answer).unwrap()), for_b);
    let to = second.packet(for_a, "192.0.2.1:4000").unwrap();
    assert_eq!(to, "192.0.2.9:5900".parse().unwrap());
    second.manage(&bye("call")).unwrap();
    second.check_empty();
}

#[test]
fn r_m8_an_offer_under_way_is_answered_or_refused_after_the_restart() {
    for refused in [false, true] {
        let file = File::default();
        let (first, _) = start(&file, config(), 0);
        first.manage(&offer("call")).unwrap();
        drop(first);
        let (mut second, restored) = start(&file, config(), 1);
        assert_eq!(restored.calls, 1);
        let offer = offer("call");
        if refused {
            second.refused(&offer, None);
        } else {
            let answer = offer.answer(200, "b").with(&sdp("192.0.2.2", 5_000));
            let for_a = place(&second.manage(&answer).unwrap());
            assert!(second.packet(for_a, "192.0.2.1:4000").is_some());
            second.manage(&bye("call")).unwrap();
        }
        second.check_empty();
    }
}

#[test]
fn ports_of_calls_that_go_on_are_given_to_no_other() {
    let file = File::default();
    let mut small = config();
    // Room for five calls.
    small.interfaces[0].ports = 30_000..=30_019;
    let (first, _) = start(&file, small.clone(), 0);
    let mut taken: Vec<SocketAddr> =
        ["1", "2", "3"].iter().flat_map(|id| call(&first, id)).collect();
    drop(first);
    let (second, _) = start(&file, small, 1);
    taken.extend(["4", "5"].iter().flat_map(|id| call(&second, id)));
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), 10);
    assert_eq!(second.manage(&offer("6")).unwrap_err().status(), 503);
}

#[test]
fn calls_that_cannot_go_on_end_with_a_record_and_their_ports_are_free() {
    let gone = |change: &dyn Fn(&mut Config), later_s: u64, taken: &[u16]| {
        let file = File::default();
        let (mut first, _) = start(&file, config(), 0);
        let [for_a, _] = call(&first, "call");
        first.packet(for_a, "192.0.2.1:4000").unwrap();
        first.pass(5);
        drop(first);
        let mut config = config();
        change(&mut config);
        let mut second = Stand::with(config);
        second.now_ms = later_s * 1_000;
        {
            let mut desk = second.desk.0.lock().unwrap();
            desk.now_ms = second.now_ms;
            desk.taken = taken.iter().map(|_| for_a.port()).collect();
        }
        let restored = second.service.keep(second.now(), Arc::new(file.clone()), file.all());
        assert_eq!(restored, Restored { ended: 1, ..Restored::default() });
        let record = second.last_record();
        assert_eq!(record.reason.word(), "stopped");
        assert_eq!(record.streams[0].caller.packets, 1, "what is known is told");
        second.desk.0.lock().unwrap().taken.clear();
        second.check_empty();
        assert_eq!(file.calls(), 0);
    };
    gone(&|_| {}, 66, &[]);
    gone(&|config| config.interfaces[0].name = "another".into(), 10, &[]);
    gone(&|_| {}, 10, &[1]);
}

#[test]
fn a_stop_keeps_calls_and_what_they_have_counted_till_then() {
    let file = File::default();
    let (first, _) = start(&file, config(), 0);
    let [for_a, _] = call(&first, "call");
    first.packet(for_a, "192.0.2.1:4000").unwrap();
    first.service.close(first.now());
    assert!(first.records.lock().unwrap().is_empty());
    drop(first);
    let (second, _) = start(&file, config(), 3);
    second.manage(&bye("call")).unwrap();
    assert_eq!(second.last_record().streams[0].caller.packets, 1);
}

proptest! {
    /// Damage costs the calls that are damaged, and nothing else.
    #[test]
    fn whatever_is_in_the_file_it_is_read_without_a_panic(
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        junk in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let file = File::default();
        let (mut first, _) = start(&file, config(), 0);
        call(&first, "call");
        first.pass(5);
        drop(first);
        let whole = file.0.lock().unwrap().clone();
        for value in file.0.lock().unwrap().values_mut() {
            let at = at.index(value.len());
            value[at] = octet;
            let cut = cut.index(value.len() * 2);
            value.truncate(cut.max(1));
        }
        file.put(Key::Call(9), junk.clone());
        file.put(Key::Session(9), junk);
        let (second, _) = start(&file, config(), 1);
        drop(second);
        *file.0.lock().unwrap() = whole;
        let (second, restored) = start(&file, config(), 1);
        prop_assert_eq!(restored.calls, 1);
        second.manage(&bye("call")).unwrap();
    }

    #[test]
    fn keys_are_read_as_they_were_written(kind in 0u8..4, id in any::<u64>()) {
        let key = match kind {
            0 => Key::Call(id),
            1 => Key::Session(id),
            2 => Key::Alive,
            _ => Key::Owner,
        };
        prop_assert_eq!(Key::of(&key.octets()), Some(key));
    }
}
