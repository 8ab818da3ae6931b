use super::*;

const A: &str = "192.0.2.10:2223";
const B: &str = "192.0.2.11:2223";
const OK: &str = "d6:result2:oke";

/// A client with two nodes, and what it has done.
struct Stand {
    client: Client,
    now_ms: u64,
    /// In order: `> node cookie text`, `ticket ok by node`, `ticket reason`, `node up`.
    said: Vec<String>,
    /// Cookies of commands in the order they were made up.
    cookies: Vec<String>,
    /// Pings: when, whom, cookie.
    pings: Vec<(u64, &'static str, String)>,
}

impl Stand {
    fn new() -> Stand {
        let node = |address: &str| NodeConfig { address: address.parse().unwrap(), weight: 1 };
        let config = ClientConfig {
            nodes: vec![node(A), node(B)],
            timeout_ms: 100,
            retries: 2,
            down_ms: 1_000,
        };
        let mut drawn = 0;
        let draw = Box::new(move || {
            drawn += 1;
            drawn
        });
        let client = Client::new(config, draw);
        Stand { client, now_ms: 0, said: Vec::new(), cookies: Vec::new(), pings: Vec::new() }
    }

    /// A Call-ID whose call goes to that node first.
    fn call(&self, node: usize) -> Box<[u8]> {
        let mut ids = (0..).map(|n| format!("call-{n}").into_bytes());
        ids.find(|id| self.client.nodes.choose(id, &[]) == Some(node)).unwrap().into()
    }

    fn command(&mut self, ticket: u64, route: Route, call_id: &[u8]) {
        let undo = if route == Route::Any { b"undo".to_vec() } else { Vec::new() };
        let text = format!("c{ticket}").into_bytes();
        let command = Command { ticket, route, call_id: call_id.into(), text, undo };
        self.client.submit(self.now_ms, command);
        self.drain();
    }

    fn answer(&mut self, from: &str, cookie: &str, text: &str) {
        let bytes = format!("{cookie} {text}");
        self.client.datagram(self.now_ms, from.parse().unwrap(), bytes.as_bytes());
        self.drain();
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(due) = self.client.deadline_ms().filter(|due| *due <= end) {
            self.now_ms = due;
            self.client.tick(due);
            self.drain();
        }
        self.now_ms = end;
        self.client.tick(end);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.client.poll() {
            if let Output::Send { to, bytes } = &output
                && bytes.ends_with(b" d7:command4:pinge")
            {
                let node = if to.to_string() == A { A } else { B };
                let cookie = String::from_utf8_lossy(&bytes[..16]).into_owned();
                self.pings.push((self.now_ms, node, cookie));
                continue;
            }
            self.said.push(match output {
                Output::Send { to, bytes } => {
                    let text = String::from_utf8(bytes).unwrap();
                    let (cookie, text) = text.split_once(' ').unwrap();
                    if !self.cookies.iter().any(|known| known == cookie) {
                        self.cookies.push(cookie.to_owned());
                    }
                    let number = self.cookies.iter().position(|known| known == cookie).unwrap();
                    format!("> {} #{number} {text}", if to.to_string() == A { "A" } else { "B" })
                }
                Output::Done { ticket, node, result } => match result {
                    Ok(_) => format!("{ticket} ok by {}", name(node)),
                    Err(failure) => format!("{ticket} {failure}, {}", name(node)),
                },
                Output::Turned { node, up } => {
                    format!("{} {}", name(Some(node)), if up { "up" } else { "down" })
                }
            });
        }
    }

    /// When which node was pinged since the last call.
    fn take_pings(&mut self) -> Vec<(u64, &'static str)> {
        std::mem::take(&mut self.pings).into_iter().map(|(at, node, _)| (at, node)).collect()
    }

    /// The last ping is answered.
    fn pong(&mut self) {
        let (_, node, cookie) = self.pings.last().unwrap().clone();
        self.answer(node, &cookie, "d6:result4:ponge");
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    fn cookie(&self, number: usize) -> String {
        self.cookies[number].clone()
    }
}

fn name(node: Option<usize>) -> &'static str {
    match node {
        Some(0) => "A",
        Some(1) => "B",
        _ => "nobody",
    }
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_cookie_and_counts_once() {
    let mut stand = Stand::new();
    let call = stand.call(0);
    stand.command(7, Route::Any, &call);
    stand.pass(150);
    assert_eq!(stand.take(), ["> A #0 c7", "> A #0 c7"]);
    let cookie = stand.cookie(0);
    stand.answer(A, &cookie, OK);
    // What it says to the command that was sent twice.
    stand.answer(A, &cookie, OK);
    stand.pass(10_000);
    assert_eq!(stand.take(), ["7 ok by A"]);
    let counts = stand.client.counts();
    assert_eq!((counts.commands, counts.resent, counts.stray), (1, 1, 1));
    assert_eq!(stand.client.under_way(), 0);
    assert_eq!(stand.client.deadline_ms(), None);
}

#[test]
fn only_who_was_asked_can_answer_and_only_with_the_cookie() {
    let mut stand = Stand::new();
    let call = stand.call(0);
    stand.command(1, Route::Any, &call);
    stand.take();
    let cookie = stand.cookie(0);
    stand.answer(B, &cookie, OK);
    stand.answer("192.0.2.66:2223", &cookie, OK);
    stand.answer(A, "00000000000000ff", OK);
    stand.answer(A, &cookie.to_uppercase().replace('0', "+"), OK);
    for junk in ["", " ", "short", "0000000000000001", "0000000000000001d6:result2:oke"] {
        stand.client.datagram(0, A.parse().unwrap(), junk.as_bytes());
    }
    assert!(stand.take().is_empty());
    assert_eq!(stand.client.counts().stray, 9);
    stand.answer(A, &cookie, OK);
    assert_eq!(stand.take(), ["1 ok by A"]);
}

#[test]
fn what_cannot_be_read_is_asked_for_again() {
    let mut stand = Stand::new();
    let call = stand.call(1);
    stand.command(1, Route::Any, &call);
    let cookie = stand.cookie(0);
    stand.answer(B, &cookie, "d6:result2:ok");
    stand.answer(B, &cookie, "i1e");
    stand.pass(100);
    stand.answer(B, &cookie, OK);
    assert_eq!(stand.take(), ["> B #0 c1", "> B #0 c1", "1 ok by B"]);
    assert_eq!(stand.client.counts().malformed, 2);
}

#[test]
fn a_node_that_says_no_is_up_and_nobody_else_is_asked() {
    let mut stand = Stand::new();
    let call = stand.call(0);
    stand.command(1, Route::Any, &call);
    let cookie = stand.cookie(0);
    stand.answer(A, &cookie, "d12:error-reason9:No\nports!6:result5:errore");
    stand.command(2, Route::Node(0), &call);
    let cookie = stand.cookie(1);
    stand.answer(A, &cookie, "d6:result5:errore");
    let no_reason = "2 the media node gave no reason, A";
    assert_eq!(stand.take(), ["> A #0 c1", "1 Noports!, A", "> A #1 c2", no_reason]);
    assert!(stand.client.nodes().iter().all(|node| node.up));
}

#[test]
fn a_full_node_gives_a_new_call_to_the_next_one_and_stays_up() {
    let mut stand = Stand::new();
    let call = stand.call(0);
    stand.command(1, Route::Any, &call);
    let full = "d6:result10:load limite";
    stand.answer(A, &stand.cookie(0), full);
    stand.answer(B, &stand.cookie(1), OK);
    assert_eq!(stand.take(), ["> A #0 c1", "> B #1 c1", "1 ok by B"]);
    stand.command(2, Route::Any, &call);
    stand.answer(A, &stand.cookie(2), full);
    stand.answer(B, &stand.cookie(3), full);
    let full = "2 the media nodes are full, B";
    assert_eq!(stand.take(), ["> A #2 c2", "> B #3 c2", full]);
    assert!(stand.client.nodes().iter().all(|node| node.up));
}

#[test]
fn a_silent_node_is_left_out_until_it_answers_a_ping() {
    let mut stand = Stand::new();
    let call = stand.call(0);
    stand.command(1, Route::Any, &call);
    stand.pass(300);
    stand.answer(B, &stand.cookie(1), OK);
    let first = ["> A #0 c1", "> A #0 c1", "> A #0 c1", "A down", "> B #1 c1", "1 ok by B"];
    assert_eq!(stand.take(), first);
    // Left out now.
    stand.command(2, Route::Any, &call);
    stand.answer(B, &stand.cookie(2), OK);
    assert_eq!(stand.take(), ["> B #2 c2", "2 ok by B"]);
    // Pinged with its second try, after its time, which comes to nothing, and again.
    stand.pass(1_600);
    let pings = [100, 200, 300, 1_400, 1_500, 1_600].map(|at| (at, A));
    assert_eq!(stand.take_pings(), pings);
    stand.pass(800);
    let again: Vec<u64> = stand.pings.iter().map(|(at, ..)| *at).collect();
    assert_eq!(again, [2_700]);
    stand.pong();
    stand.command(3, Route::Any, &call);
    stand.answer(A, &stand.cookie(3), OK);
    assert_eq!(stand.take(), ["A up", "> A #3 c3", "3 ok by A"]);
    assert_eq!(stand.client.counts().timeouts, 1);
}

#[test]
fn one_command_without_an_answer_is_no_proof_that_its_node_is_down() {
    let mut stand = Stand::new();
    let call = stand.call(0);
    // Its datagram is too large for the network; a ping passes.
    stand.command(1, Route::Any, &call);
    stand.pass(100);
    assert_eq!(stand.pings.len(), 1);
    stand.pong();
    stand.pass(200);
    stand.answer(B, &stand.cookie(1), OK);
    let said = ["> A #0 c1", "> A #0 c1", "> A #0 c1", "> B #1 c1", "1 ok by B"];
    assert_eq!(stand.take(), said);
    assert!(stand.client.nodes().iter().all(|node| node.up));
    // Others are not kept from it.
    stand.command(2, Route::Any, &call);
    stand.answer(A, &stand.cookie(2), OK);
    assert_eq!(stand.take(), ["> A #2 c2", "2 ok by A"]);
}

#[test]
fn what_does_not_fit_a_datagram_is_not_sent() {
    let mut stand = Stand::new();
    for (more, said) in [(0, "> "), (1, "1 too large for a media node, nobody")] {
        let text = vec![b'x'; MOST_BYTES - COOKIE + more];
        let (route, call_id) = (Route::Any, Box::default());
        stand.client.submit(0, Command { ticket: 1, route, call_id, text, undo: Vec::new() });
        stand.drain();
        assert!(stand.take()[0].starts_with(said));
    }
}

#[test]
fn where_nobody_answers_a_call_fails_and_later_ones_fail_at_once() {
    let mut stand = Stand::new();
    let call = stand.call(1);
    stand.command(1, Route::Any, &call);
    stand.pass(599);
    assert!(!stand.take().iter().any(|said| said.starts_with("1 ")));
    stand.pass(1);
    assert_eq!(stand.take(), ["A down", "1 no media node answers, A"]);
    stand.command(2, Route::Any, &call);
    assert_eq!(stand.take(), ["2 no media node answers, nobody"]);
    // Each is pinged a while after it went down, and an answer brings it back.
    stand.pass(800);
    let (at, node, _) = stand.pings.last().unwrap();
    assert_eq!((*at, *node), (1_400, B));
    stand.pong();
    stand.command(3, Route::Any, &call);
    stand.answer(B, &stand.cookie(2), OK);
    assert_eq!(stand.take().last().unwrap(), "3 ok by B");
}

#[test]
fn a_command_for_one_node_goes_nowhere_else_but_is_tried_though_that_is_down() {
    let mut stand = Stand::new();
    let call = stand.call(0);
    stand.command(1, Route::Node(0), &call);
    stand.pass(300);
    stand.command(2, Route::Node(0), &call);
    stand.answer(A, &stand.cookie(1), OK);
    assert_eq!(
        stand.take(),
        [
            "> A #0 c1",
            "> A #0 c1",
            "> A #0 c1",
            "A down",
            "1 no media node answers, A",
            "> A #1 c2",
            "A up",
            "2 ok by A"
        ]
    );
}

#[test]
fn what_a_node_takes_after_the_call_went_elsewhere_is_undone_there() {
    let mut stand = Stand::new();
    let call = stand.call(0);
    stand.command(1, Route::Any, &call);
    stand.pass(300);
    stand.answer(B, &stand.cookie(1), OK);
    stand.take();
    stand.answer(A, &stand.cookie(0), OK);
    stand.answer(A, &stand.cookie(0), OK);
    assert_eq!(stand.take(), ["A up", "> A #2 undo"]);
    stand.answer(A, &stand.cookie(2), OK);
    assert_eq!(stand.client.counts().late, 1);
    // One that comes after all patience is a stranger's.
    stand.command(2, Route::Any, &call);
    stand.pass(300);
    stand.take();
    stand.pass(LATE_MS);
    stand.take();
    stand.answer(A, &stand.cookie(3), OK);
    assert!(stand.take().is_empty());
}

#[test]
fn commands_under_way_have_a_bound() {
    let mut stand = Stand::new();
    for n in 0..MOST_COMMANDS {
        stand.command(0, Route::Node(n % 2), b"c");
    }
    stand.command(9, Route::Any, b"c");
    assert_eq!(stand.take().last().unwrap(), "9 too many commands to media nodes, nobody");
    stand.pass(400);
    assert_eq!(stand.client.under_way(), 0);
    assert!(stand.client.deadline_ms().is_some(), "both are down, and will be pinged");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Command(bool, usize),
        Answer(usize, usize, usize),
        Pass(u64),
        Junk(Vec<u8>),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (any::<bool>(), 0..4usize).prop_map(|(any, call)| Step::Command(any, call)),
            (0..64usize, 0..3usize, 0..4usize).prop_map(|(c, n, t)| Step::Answer(c, n, t)),
            (0..500u64).prop_map(Step::Pass),
            proptest::collection::vec(any::<u8>(), 0..24).prop_map(Step::Junk),
        ]
    }

    proptest! {
        /// Whatever nodes say and whenever they do, each command ends once, and nothing is left.
        #[test]
        fn every_command_ends_once(steps in proptest::collection::vec(any_step(), 0..60)) {
            let mut stand = Stand::new();
            let mut tickets = 0u64;
            for step in steps {
                match step {
                    Step::Command(any, call) => {
                        tickets += 1;
                        let route = if any { Route::Any } else { Route::Node(call % 2) };
                        stand.command(tickets, route, format!("call-{call}").as_bytes());
                    }
                    Step::Answer(number, from, text) if !stand.cookies.is_empty() => {
                        let cookie = stand.cookie(number % stand.cookies.len());
                        let texts =
                            [OK, "d6:result5:errore", "d6:result10:load limite", "d6:result"];
                        stand.answer([A, B, "192.0.2.66:1"][from], &cookie, texts[text]);
                    }
                    Step::Answer(..) => {}
                    Step::Pass(ms) => stand.pass(ms),
                    Step::Junk(bytes) => {
                        stand.client.datagram(stand.now_ms, A.parse().unwrap(), &bytes);
                        stand.drain();
                    }
                }
            }
            stand.pass(600);
            let said = stand.take();
            for ticket in 1..=tickets {
                let mark = format!("{ticket} ");
                let ends = said.iter().filter(|line| line.starts_with(&mark)).count();
                prop_assert_eq!(ends, 1, "{} in {:?}", ticket, said);
            }
        }
    }
}
