use std::sync::Mutex;

use viaduct_engine::media::Action;

use super::*;
use crate::ng::nodes::NodeConfig;

const A: &str = "192.0.2.10:2223";
const B: &str = "192.0.2.11:2223";
const SDP: &str = "v=0\r\nm=audio 4000 RTP/AVP 0\r\n";
const THEIRS: &str = "v=0\r\nm=audio 30000 RTP/AVP 0\r\n";

/// A message of a call: tags are those of its request.
#[derive(Clone, Copy)]
struct Said {
    method: Method,
    status: u16,
    from: &'static str,
    to: &'static str,
    branch: Option<u32>,
    body: &'static str,
}

const INVITE: Said =
    Said { method: Method::Invite, status: 0, from: "a", to: "", branch: None, body: SDP };
const GOOD: Said = Said { status: 200, to: "b", branch: Some(0), ..INVITE };
const BYE: Said = Said { method: Method::Bye, to: "b", body: "", ..INVITE };

type Told = Arc<Mutex<Vec<String>>>;

/// A relay with two nodes that do what the test says.
struct Stand {
    relay: Relay,
    now: Now,
    /// Cookie, node, command.
    sent: Vec<(String, &'static str, Value)>,
    told: Told,
    records: Arc<Mutex<Vec<MediaRecord>>>,
    call_id: String,
}

impl Stand {
    /// The call goes to the first node.
    fn new() -> Stand {
        let node = |address: &str| NodeConfig { address: address.parse().unwrap(), weight: 1 };
        let client = ClientConfig {
            nodes: vec![node(A), node(B)],
            timeout_ms: 100,
            retries: 1,
            down_ms: 5_000,
        };
        let config = Config { client, calls: 3, lifetime_s: 100, unanswered_s: 10 };
        let mut drawn = 0;
        let draw = Box::new(move || {
            drawn += 1;
            drawn
        });
        let records = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&records);
        let sink = Box::new(move |record| kept.lock().unwrap().push(record));
        let relay = Relay::new(config, draw, sink);
        let now = Now { mono_us: 1_000_000, unix_ms: 1_000 };
        let (sent, told) = (Vec::new(), Told::default());
        let mut stand = Stand { relay, now, sent, told, records, call_id: String::new() };
        stand.call_id = stand.call_of(A);
        stand
    }

    /// A Call-ID whose call goes to that node first.
    fn call_of(&self, node: &str) -> String {
        let nodes = crate::ng::nodes::Nodes::new(&self.relay.config.client.nodes);
        let wanted = usize::from(node == B);
        let mut ids = (0..).map(|n| format!("call-{n}"));
        ids.find(|id| nodes.choose(id.as_bytes(), &[]) == Some(wanted)).unwrap()
    }

    fn with<T>(&self, said: Said, work: impl FnOnce(&MediaMessage<'_>) -> T) -> T {
        let call_id = self.call_id.clone();
        work(&MediaMessage {
            tags: Tags {
                call_id: call_id.as_bytes(),
                from: said.from.as_bytes(),
                to: said.to.as_bytes(),
            },
            method: said.method,
            status: said.status,
            branch: said.branch,
            source: "203.0.113.7".parse().unwrap(),
            local: "192.0.2.1".parse().unwrap(),
            content_type: b"application/sdp",
            body: said.body.as_bytes(),
        })
    }

    /// As the engine does it: an order, and the question where there is one. True: it waits.
    fn order(&mut self, action: Action, said: Said) -> Result<bool, MediaFault> {
        let order = Order { action, flags: MediaFlags::default() };
        let message = self.with(said, |message| MediaOrder::new(&order, message));
        let handled = self.relay.handle(self.now, &order, &message.message())?;
        let waits = match handled {
            Handled::Done(None) => false,
            Handled::Done(Some(_)) => panic!("a node writes bodies, nobody else"),
            Handled::Ask(order) => {
                let told = Arc::clone(&self.told);
                let reply = move |result: MediaResult| {
                    told.lock().unwrap().push(match result {
                        Ok(Some(body)) => String::from_utf8(body).unwrap(),
                        Ok(None) => "as it came".to_owned(),
                        Err(fault) => format!("{} {fault}", fault.status()),
                    });
                };
                self.relay.ask(self.now, &order, Box::new(reply));
                true
            }
        };
        self.act();
        Ok(waits)
    }

    fn manage(&mut self, said: Said) -> bool {
        self.order(Action::Manage, said).unwrap()
    }

    fn act(&mut self) {
        for act in self.relay.take_acts(self.now) {
            match act {
                Act::Tell(tell) => tell(),
                // The client's own.
                Act::Send(_, bytes) if bytes.ends_with(b"4:pinge") => {}
                Act::Send(to, bytes) => {
                    let (cookie, text) = bytes.split_at(16);
                    let cookie = String::from_utf8(cookie.to_vec()).unwrap();
                    let node = if to == A.parse().unwrap() { A } else { B };
                    self.sent.push((cookie, node, Value::read(&text[1..]).unwrap()));
                }
            }
        }
    }

    /// The only thing sent, which is this command to that node.
    fn sent(&mut self, node: &str, command: &str) -> (String, Value) {
        let sent = std::mem::take(&mut self.sent);
        let [(cookie, to, value)] = &sent[..] else { panic!("{sent:?}") };
        let said = value.get("command").unwrap().bytes();
        assert_eq!((*to, String::from_utf8_lossy(said).as_ref()), (node, command));
        (cookie.clone(), value.clone())
    }

    fn answer(&mut self, node: &str, cookie: &str, text: &str) {
        let bytes = format!("{cookie} {text}");
        self.relay.datagram(self.now, node.parse().unwrap(), bytes.as_bytes());
        self.act();
    }

    /// The node does what it was told.
    fn obey(&mut self, node: &str, command: &str) -> Value {
        let (cookie, value) = self.sent(node, command);
        let sdp = format!("3:sdp{}:{THEIRS}", THEIRS.len());
        self.answer(node, &cookie, &format!("d6:result2:ok{sdp}e"));
        value
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.now.mono_us += 50_000;
            self.relay.tick(self.now);
            self.act();
        }
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    /// A call that is up.
    fn established(&mut self) {
        assert!(self.manage(INVITE));
        self.obey(A, "offer");
        assert!(self.manage(GOOD));
        self.obey(A, "answer");
        assert_eq!(self.told(), [THEIRS, THEIRS]);
    }
}

fn text(value: &Value, key: &str) -> String {
    String::from_utf8_lossy(value.get(key).map(Value::bytes).unwrap_or(b"-")).into_owned()
}

#[test]
fn a_call_is_offered_answered_and_ended_on_one_node() {
    let mut stand = Stand::new();
    stand.manage(INVITE);
    let offer = stand.obey(A, "offer");
    assert_eq!((text(&offer, "from-tag"), text(&offer, "to-tag")), ("a".into(), "-".into()));
    assert_eq!((text(&offer, "sdp"), text(&offer, "via-branch")), (SDP.into(), "-".into()));
    stand.manage(GOOD);
    let answer = stand.obey(A, "answer");
    assert_eq!((text(&answer, "from-tag"), text(&answer, "to-tag")), ("a".into(), "b".into()));
    assert!(!stand.manage(BYE), "nobody waits for the end");
    let (cookie, delete) = stand.sent(A, "delete");
    assert_eq!(text(&delete, "from-tag"), "a");
    stand.answer(A, &cookie, "d6:result2:oke");
    let records = stand.records.lock().unwrap();
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&*record.caller_tag, &*record.callee_tag), ("a", "b"));
    assert_eq!((record.reason, record.answered), (EndReason::Ended, true));
    assert_eq!(stand.relay.numbers().calls, 0);
}

#[test]
fn whoever_offers_is_from_and_whoever_answers_is_to() {
    let mut stand = Stand::new();
    // A late offer (RFC 3261 13.2.1): in the 200, answered in the ACK.
    assert!(!stand.manage(Said { body: "", ..INVITE }));
    stand.manage(GOOD);
    let offer = stand.obey(A, "offer");
    assert_eq!((text(&offer, "from-tag"), text(&offer, "to-tag")), ("b".into(), "a".into()));
    stand.manage(Said { method: Method::Ack, to: "b", ..INVITE });
    let answer = stand.obey(A, "answer");
    assert_eq!((text(&answer, "from-tag"), text(&answer, "to-tag")), ("b".into(), "a".into()));
    // The callee changes it.
    stand.manage(Said { from: "b", to: "a", ..INVITE });
    let offer = stand.obey(A, "offer");
    assert_eq!((text(&offer, "from-tag"), text(&offer, "to-tag")), ("b".into(), "a".into()));
    stand.manage(Said { from: "b", to: "a", status: 200, ..INVITE });
    let answer = stand.obey(A, "answer");
    assert_eq!((text(&answer, "from-tag"), text(&answer, "to-tag")), ("b".into(), "a".into()));
    stand.manage(Said { from: "b", to: "a", ..BYE });
    stand.sent(A, "delete");
}

#[test]
fn an_early_answer_is_given_again_with_the_200() {
    let mut stand = Stand::new();
    stand.manage(INVITE);
    stand.obey(A, "offer");
    stand.manage(Said { status: 183, ..GOOD });
    stand.obey(A, "answer");
    stand.manage(GOOD);
    stand.obey(A, "answer");
    assert!(!stand.manage(Said { status: 180, body: "", ..GOOD }));
    assert!(!stand.manage(Said { status: 488, ..GOOD }), "no description of a call");
}

#[test]
fn a_new_call_goes_to_the_other_node_where_one_is_silent_and_stays_there() {
    let mut stand = Stand::new();
    stand.manage(INVITE);
    stand.pass(200);
    let mut sent = std::mem::take(&mut stand.sent);
    let last = sent.pop().unwrap();
    assert!(sent.len() == 2 && sent.iter().all(|(_, node, _)| *node == A));
    stand.sent.push(last);
    stand.obey(B, "offer");
    stand.manage(GOOD);
    stand.obey(B, "answer");
    // Its first node is back, and gets nothing of it but the end of what it took too late.
    let (late, ..) = sent[0].clone();
    stand.answer(A, &late, "d6:result2:ok3:sdp1:xe");
    let undone = stand.obey(A, "delete");
    assert_eq!(text(&undone, "from-tag"), "a");
    stand.manage(BYE);
    stand.sent(B, "delete");
    assert_eq!(stand.told(), [THEIRS, THEIRS]);
}

#[test]
fn where_no_node_answers_the_call_is_refused_and_forgotten() {
    let mut stand = Stand::new();
    stand.manage(INVITE);
    stand.pass(500);
    assert_eq!(stand.told(), ["503 no media node answers"]);
    stand.manage(Said { from: "x", ..INVITE });
    assert_eq!(stand.told(), ["503 no media node answers"], "at once");
    assert_eq!(stand.relay.numbers().calls, 0);
    assert!(stand.records.lock().unwrap().is_empty(), "no call has been");
}

#[test]
fn what_a_node_refuses_is_told_with_its_reason() {
    let mut stand = Stand::new();
    for (reason, told) in [
        ("Failed to parse SDP", "488 Failed to parse SDP"),
        ("Ran out of ports", "500 the media node says: Ran out of ports"),
    ] {
        stand.manage(INVITE);
        let (cookie, _) = stand.sent(A, "offer");
        let answer = format!("d6:result5:error12:error-reason{}:{reason}e", reason.len());
        stand.answer(A, &cookie, &answer);
        assert_eq!(stand.told(), [told]);
    }
    stand.manage(INVITE);
    let (cookie, _) = stand.sent(A, "offer");
    stand.answer(A, &cookie, "d6:result2:oke");
    assert_eq!(stand.told(), ["500 the media node has answered without a description"]);
    // What it has made of it is of no use.
    stand.obey(A, "delete");
    assert_eq!(stand.relay.numbers().calls, 0);
}

#[test]
fn the_end_of_a_call_waits_for_its_offer() {
    let mut stand = Stand::new();
    stand.manage(INVITE);
    let (cookie, _) = stand.sent(A, "offer");
    stand.with(INVITE, |message| message.tags.from.to_vec());
    let call_id = stand.call_id.clone();
    let tags = Tags { call_id: call_id.as_bytes(), from: b"a", to: b"" };
    stand.relay.refused(stand.now, tags, None);
    stand.act();
    assert!(stand.sent.is_empty(), "its offer is under way");
    stand.answer(A, &cookie, &format!("d6:result2:ok3:sdp{}:{THEIRS}e", THEIRS.len()));
    stand.obey(A, "delete");
    assert_eq!(stand.records.lock().unwrap()[0].reason, EndReason::Refused);
    // One whose offer no node takes ends by itself.
    stand.manage(INVITE);
    stand.sent.clear();
    stand.relay.refused(stand.now, tags, None);
    stand.pass(500);
    assert_eq!(stand.relay.numbers().calls, 0);
    assert!(stand.sent.iter().all(|(_, _, v)| text(v, "command") == "offer"), "{:?}", stand.sent);
}

#[test]
fn branches_have_names_of_their_own_until_one_has_the_call() {
    let mut stand = Stand::new();
    for branch in 0..2 {
        stand.manage(Said { branch: Some(branch), ..INVITE });
        let offer = stand.obey(A, "offer");
        assert_eq!(text(&offer, "via-branch"), format!("branch-{branch}"));
    }
    stand.manage(Said { branch: Some(1), ..GOOD });
    let answer = stand.obey(A, "answer");
    assert_eq!(text(&answer, "via-branch"), "branch-1");
    let call_id = stand.call_id.clone();
    let tags = Tags { call_id: call_id.as_bytes(), from: b"a", to: b"" };
    stand.relay.refused(stand.now, tags, Some(0));
    stand.act();
    let delete = stand.obey(A, "delete");
    assert_eq!(text(&delete, "via-branch"), "branch-0");
    assert_eq!(stand.relay.numbers().calls, 1, "the other branch has it");
    stand.manage(Said { to: "b", ..INVITE });
    let offer = stand.obey(A, "offer");
    assert_eq!((text(&offer, "via-branch"), text(&offer, "to-tag")), ("-".into(), "b".into()));
    stand.manage(BYE);
    let (_, delete) = stand.sent(A, "delete");
    assert_eq!(text(&delete, "via-branch"), "-");
}

#[test]
fn a_call_on_a_silent_node_is_refused_new_offers_and_ends_all_the_same() {
    let mut stand = Stand::new();
    stand.established();
    stand.manage(Said { to: "b", ..INVITE });
    stand.pass(200);
    assert_eq!(stand.told(), ["503 no media node answers"]);
    assert!(stand.sent.iter().all(|(_, node, _)| *node == A), "it lives there");
    stand.sent.clear();
    stand.manage(BYE);
    stand.pass(200);
    let records = stand.records.lock().unwrap();
    assert_eq!((records.len(), records[0].streams.len()), (1, 0));
}

#[test]
fn what_is_not_relayed_is_left_alone() {
    let mut stand = Stand::new();
    for said in [
        GOOD,
        Said { to: "b", ..INVITE },
        Said { method: Method::Ack, to: "b", ..INVITE },
        Said { method: Method::Options, ..INVITE },
        Said { method: Method::Message, body: "", ..INVITE },
    ] {
        assert!(!stand.manage(said));
    }
    assert!(stand.sent.is_empty());
    // A BYE may be of the router before this one: it is told to the node of its Call-ID.
    stand.manage(BYE);
    stand.sent(A, "delete");
}

#[test]
fn calls_have_a_bound_and_an_age() {
    let mut stand = Stand::new();
    for (n, from) in ["a", "c", "d"].into_iter().enumerate() {
        stand.call_id = stand.call_of(A);
        stand.manage(Said { from, ..INVITE });
        stand.obey(A, "offer");
        assert_eq!(stand.relay.numbers().calls, n as u64 + 1);
    }
    stand.told();
    stand.manage(Said { from: "e", ..INVITE });
    assert_eq!(stand.told(), ["503 3 calls are relayed already"]);
    stand.manage(GOOD);
    stand.obey(A, "answer");
    stand.now.mono_us += 10_000_000;
    stand.relay.end_old(stand.now);
    stand.act();
    assert_eq!(stand.sent.len(), 2, "those nobody has answered");
    stand.pass(200);
    stand.sent.clear();
    stand.now.mono_us += 90_000_000;
    stand.relay.end_old(stand.now);
    stand.act();
    assert_eq!(text(&stand.sent[0].2, "command"), "delete");
}

#[test]
fn how_a_call_stands_is_asked_and_remembered() {
    let mut stand = Stand::new();
    stand.established();
    let view = Arc::new(Mutex::new(None));
    let ask = |stand: &mut Stand, from: &[u8]| {
        let call_id = stand.call_id.clone();
        let tags = Tags { call_id: call_id.as_bytes(), from, to: b"b" };
        let view = Arc::clone(&view);
        let reply = Box::new(move |call| *view.lock().unwrap() = Some(call));
        stand.relay.ask_about(stand.now, &MediaDialog::new(tags), reply);
        stand.act();
    };
    ask(&mut stand, b"a");
    let (cookie, _) = stand.sent(A, "query");
    let media = "d5:indexi1e4:type5:audio7:streamsld10:local porti30000e\
                 13:local address9:192.0.2.95:statsd7:packetsi5eeeee";
    let tags = format!("4:tagsd1:ad6:mediasl{media}eee");
    stand.answer(A, &cookie, &format!("d6:result2:ok{tags}e"));
    let known = view.lock().unwrap().take().unwrap().unwrap();
    assert_eq!((known.answered, known.streams[0].caller.packets), (true, 5));
    let listed = stand.relay.list(stand.now, 10);
    assert_eq!(listed[0].view.streams[0].caller.packets, 5);
    assert_eq!(listed[0].node, A.parse().ok());
    // It has ended it itself.
    ask(&mut stand, b"a");
    let (cookie, _) = stand.sent(A, "query");
    stand.answer(A, &cookie, "d6:result5:error12:error-reason15:Unknown call-ide");
    assert_eq!(view.lock().unwrap().take(), Some(None));
    ask(&mut stand, b"x");
    assert_eq!(view.lock().unwrap().take(), Some(None), "of nobody");
    assert!(stand.sent.is_empty());
}

#[test]
fn a_call_that_has_too_much_to_do_is_busy() {
    let mut stand = Stand::new();
    stand.established();
    for _ in 0..=MOST_QUEUED {
        stand.manage(Said { to: "b", ..INVITE });
    }
    assert!(stand.told().is_empty());
    stand.manage(Said { to: "b", ..INVITE });
    assert_eq!(stand.told(), ["503 the call's media node is busy"]);
    // Its end is never lost, and what comes after it is.
    stand.manage(BYE);
    stand.manage(Said { to: "b", ..INVITE });
    assert_eq!(stand.told(), ["503 the call's media node is busy"]);
}

/// Keeps what it is told.
#[derive(Default)]
struct Book(Mutex<HashMap<Vec<u8>, Vec<u8>>>);

impl Journal for Book {
    fn put(&self, key: Key, value: Vec<u8>) {
        self.0.lock().unwrap().insert(key.octets(), value);
    }

    fn remove(&self, key: Key) {
        self.0.lock().unwrap().remove(&key.octets());
    }
}

#[test]
fn r_m8_a_new_process_knows_which_node_has_which_call() {
    let book = Arc::new(Book::default());
    let journal = || Arc::clone(&book) as Arc<dyn Journal>;
    let kept = || book.0.lock().unwrap().clone().into_iter().collect::<Vec<_>>();
    let mut before = Stand::new();
    before.relay.keep_in(before.now, journal(), Vec::new());
    before.established();
    let mut after = Stand::new();
    after.now = Now { mono_us: 1, unix_ms: before.now.unix_ms + 60_000 };
    after.relay.keep_in(after.now, journal(), kept());
    let listed = after.relay.list(after.now, 10);
    assert_eq!((listed[0].node, listed[0].view.age_s), (A.parse().ok(), 60));
    after.manage(Said { to: "b", ..INVITE });
    let offer = after.obey(A, "offer");
    assert_eq!(text(&offer, "to-tag"), "b");
    after.manage(BYE);
    after.obey(A, "delete");
    assert!(kept().is_empty());
    // What makes no sense is forgotten, and so is a call on a node nobody knows any more.
    let mut before = Stand::new();
    before.relay.keep_in(before.now, journal(), Vec::new());
    before.established();
    let (key, octets) = kept().remove(0);
    let mut elsewhere = octets.clone();
    let at = octets.windows(4).position(|four| *four == [192, 0, 2, 10]).unwrap();
    elsewhere[at + 3] = 99;
    for octets in [octets[..9].to_vec(), elsewhere] {
        book.put(Key::of(&key).unwrap(), octets);
        let mut other = Stand::new();
        other.relay.keep_in(other.now, journal(), kept());
        assert!(other.relay.list(other.now, 10).is_empty() && kept().is_empty());
    }
}
