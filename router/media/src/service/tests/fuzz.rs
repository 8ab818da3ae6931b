//! Whatever is signalled in whatever order: no port is lost, no session is left.

use proptest::prelude::*;

use super::*;

const TAGS: [&str; 4] = ["", "a", "b", "c"];
const METHODS: [Method; 6] =
    [Method::Invite, Method::Ack, Method::Bye, Method::Update, Method::Prack, Method::Info];
const STATUSES: [u16; 4] = [0, 0, 183, 200];
const ACTIONS: [Action; 5] =
    [Action::Manage, Action::Manage, Action::Offer, Action::Answer, Action::Delete];

fn body() -> impl Strategy<Value = String> {
    let media = (0u16..4, any::<bool>(), "[ab]").prop_map(|(port, video, host)| {
        let kind = if video { "video" } else { "audio" };
        format!("m={kind} {} RTP/AVP {host}0 0\r\n", port * 1_000)
    });
    let head = prop_oneof![
        Just("v=0\r\nc=IN IP4 192.0.2.1\r\n"),
        Just("v=0\r\nc=IN IP6 2001:db8::5\r\n"),
        Just("v=0\r\nc=IN IP4 0.0.0.0\r\n"),
        Just("v=0\r\n"),
        Just("garbage"),
    ];
    (head, proptest::collection::vec(media, 0..4)).prop_map(|(head, media)| {
        if head.is_empty() { String::new() } else { head.to_owned() + &media.concat() }
    })
}

fn message() -> impl Strategy<Value = (Action, Message, bool)> {
    let pick = |of: usize| 0..of;
    let names = (pick(4), pick(4), pick(2), pick(6), pick(4), pick(5));
    (names, proptest::option::of(0u32..3), body(), any::<bool>()).prop_map(
        |((from, to, call, method, status, action), branch, body, refuse)| {
            let message = Message {
                call_id: ["one", "two"][call].to_owned(),
                status: STATUSES[status],
                branch,
                body,
                ..Message::of(METHODS[method], TAGS[from], TAGS[to])
            };
            (ACTIONS[action], message, refuse)
        },
    )
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_is_left(
        messages in proptest::collection::vec((message(), 0u64..90), 0..60),
    ) {
        let mut stand = Stand::new();
        for ((action, message, refuse), seconds) in messages {
            let before = stand.service.list(stand.now(), 100).len();
            let passed = stand.order(action, "", &message);
            // A 2xx settles the call whatever stands in it.
            if passed.is_err() && message.status == 0 {
                prop_assert_eq!(stand.service.list(stand.now(), 100).len(), before);
            }
            if refuse {
                stand.refused(&message, message.branch);
            }
            if seconds > 80 {
                stand.pass(seconds);
            }
            let calls = stand.service.list(stand.now(), 100);
            let streams: usize = calls.iter().map(|call| call.view.streams.len()).sum();
            prop_assert!(stand.desk.0.lock().unwrap().sessions >= 2 * streams);
        }
        stand.service.close(stand.now());
        stand.check_empty();
    }
}
