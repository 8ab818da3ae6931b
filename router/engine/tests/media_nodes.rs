//! A media relay on another machine: what waits for its answers, what goes on meanwhile, and what
//! becomes of messages whose answer never comes.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use std::sync::{Arc, Mutex};

use viaduct_engine::media::{
    Action, CallView, Handled, Media, MediaFault, MediaFlags, MediaMessage, MediaOrder, Order, Tags,
};
use viaduct_engine::{Event, Fact, Now, Phase, Query, QueryFault, Run, Shared, Token, Verdict};
use world::{ALICE, BOB, CAROL, Sent, World, in_dialog, request, settings};

const SDP: &str = "v=0\r\nm=audio 4000 RTP/AVP 0\r\n";
const TARGETS: [&str; 2] = ["sip:bob@192.0.2.12:5064", "sip:carol@192.0.2.13:5066"];
const BUSY: &str = "no media node answers";

/// A relay that is asked about every description.
#[derive(Default)]
struct Elsewhere {
    told: Mutex<Vec<String>>,
}

impl Elsewhere {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Media for Elsewhere {
    fn handle(
        &self,
        _: Now,
        order: &Order,
        message: &MediaMessage<'_>,
    ) -> Result<Handled, MediaFault> {
        Ok(match message.body {
            [] => {
                let method = format!("{:?}", message.method);
                self.told.lock().unwrap().push(method);
                Handled::Done(None)
            }
            _ => Handled::Ask(Arc::new(MediaOrder::new(order, message))),
        })
    }

    fn refused(&self, _: Now, _: Tags<'_>, branch: Option<u32>) {
        self.told.lock().unwrap().push(format!("refused {branch:?}"));
    }

    fn query(&self, _: Now, _: Tags<'_>) -> Option<CallView> {
        Some(CallView { age_s: 1, answered: false, streams: Vec::new() })
    }

    fn is_elsewhere(&self, _: Tags<'_>) -> bool {
        true
    }

    fn check(&self, _: &MediaFlags) -> Result<(), String> {
        Ok(())
    }
}

/// A router whose policy manages media in these phases, and whose questions wait for the test.
fn managed(phases: &'static [Phase], targets: usize) -> (World, Arc<Elsewhere>) {
    world(phases, targets, |run| run.media(Action::Manage, "").unwrap())
}

fn world(
    phases: &'static [Phase],
    targets: usize,
    decide: impl Fn(&mut Run) + Send + 'static,
) -> (World, Arc<Elsewhere>) {
    let relay = Arc::new(Elsewhere::default());
    let media: Arc<dyn Media> = Arc::<Elsewhere>::clone(&relay);
    let shared = Shared { media: Some(media), ..Shared::default() };
    let settings = viaduct_engine::Settings { shared, ..settings() };
    let mut world = World::with(settings, &[Phase::Request, Phase::Branch, Phase::Reply], {
        move |phase, run| {
            if phase == Phase::Request && !run.traits().in_dialog {
                for target in &TARGETS[..targets] {
                    run.add_target(target, 1000).unwrap();
                }
            }
            if phases.contains(&phase) {
                decide(run);
            }
            Ok(if phase == Phase::Request { Verdict::Relay } else { Verdict::Continue })
        }
    });
    world.held_asks = Some(Vec::new());
    (world, relay)
}

fn with_sdp(text: &str) -> String {
    let length = format!("Content-Length: {}", SDP.len());
    let head =
        text.replace("Content-Length: 0", &format!("Content-Type: application/sdp\r\n{length}"));
    head + SDP
}

fn invite(world: &mut World) -> Vec<Sent> {
    let text = request("INVITE", "sip:bob@example.com", ALICE, "m", "");
    world.udp(ALICE, &with_sdp(&text))
}

/// The questions that wait: their tokens, and method, status and branch.
fn asked(world: &mut World) -> Vec<(Token, String)> {
    let held = world.held_asks.as_mut().unwrap();
    let said = |(token, query): (Token, Query)| {
        let Query::Media(order) = query else { panic!("{query:?}") };
        let MediaMessage { method, status, branch, .. } = order.message();
        let branch = branch.map(|branch| format!(" branch {branch}")).unwrap_or_default();
        (token, format!("{method:?} {status}{branch}"))
    };
    held.drain(..).map(said).collect()
}

/// The one question that waits.
fn question(world: &mut World, wanted: &str) -> Token {
    let asked = asked(world);
    let [(token, said)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(said, wanted);
    *token
}

fn relayed(world: &mut World, token: Token) -> Vec<Sent> {
    let body = format!("{SDP}a=node\r\n").into_bytes();
    world.told(token, Fact::Media(Ok(Some(body))))
}

fn failed(world: &mut World, token: Token) -> Vec<Sent> {
    world.told(token, Fact::Media(Err(MediaFault::Busy(BUSY.to_owned()))))
}

fn to<'a>(sent: &'a [Sent], to: &str, what: &str) -> &'a Sent {
    let found = sent.iter().find(|s| s.to == to.parse().unwrap() && s.text.starts_with(what));
    found.unwrap_or_else(|| panic!("no {what} to {to} in {sent:#?}"))
}

/// The body, which is as long as the message says.
fn body(sent: &Sent) -> &str {
    let body = sent.text.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(sent.header("Content-Length"), body.len().to_string());
    body
}

fn is_relayed(sent: &Sent) -> bool {
    body(sent) == format!("{SDP}a=node\r\n")
}

const REQUEST_AND_REPLY: &[Phase] = &[Phase::Request, Phase::Reply];

/// An INVITE that has been sent on, its offer relayed.
fn offered(world: &mut World) -> Sent {
    invite(world);
    let token = question(world, "Invite 0");
    to(&relayed(world, token), BOB, "INVITE").clone()
}

#[test]
fn an_invite_waits_with_a_100_and_is_sent_on_with_the_nodes_body() {
    let (mut world, relay) = managed(REQUEST_AND_REPLY, 1);
    let sent = invite(&mut world);
    assert_eq!((sent.len(), to(&sent, ALICE, "SIP/2.0 100").status()), (1, 100));
    // It is sent again meanwhile: absorbed, and asked about once.
    let again = invite(&mut world);
    assert!(again.iter().all(|sent| sent.status() == 100));
    let token = question(&mut world, "Invite 0");
    let sent = relayed(&mut world, token);
    assert_eq!(sent.len(), 1, "no second 100: {sent:#?}");
    assert!(is_relayed(to(&sent, BOB, "INVITE")));
    let answer = with_sdp(&to(&sent, BOB, "INVITE").answer(200, "OK", ""));
    assert!(world.udp(BOB, &answer).is_empty());
    let token = question(&mut world, "Invite 200 branch 0");
    let sent = relayed(&mut world, token);
    assert!(is_relayed(to(&sent, ALICE, "SIP/2.0 200")));
    world.advance(200_000);
    assert!(relay.take().is_empty());
    assert_eq!(world.engine.counters().media_failed, 0);
}

#[test]
fn an_offer_nobody_relays_is_a_503_with_a_time_to_come_again() {
    let (mut world, relay) = managed(REQUEST_AND_REPLY, 1);
    invite(&mut world);
    let token = question(&mut world, "Invite 0");
    let sent = failed(&mut world, token);
    let answer = to(&sent, ALICE, "SIP/2.0 503");
    assert!(!answer.header("Retry-After").is_empty());
    assert!(sent.iter().all(|sent| sent.to != BOB.parse().unwrap()));
    let told = |event: &Event| matches!(event, Event::MediaFailed { status: 503, .. });
    assert!(world.events.iter().any(told));
    assert!(relay.take().is_empty(), "nothing to take back");
    // Whoever should ask cannot.
    let (mut world, _) = managed(REQUEST_AND_REPLY, 1);
    invite(&mut world);
    let token = question(&mut world, "Invite 0");
    let sent = world.no_answer(token, QueryFault::Unavailable);
    assert_eq!(to(&sent, ALICE, "SIP/2.0 500").status(), 500);
}

#[test]
fn a_call_cancelled_while_it_waits_is_taken_back_and_never_sent() {
    let (mut world, relay) = managed(REQUEST_AND_REPLY, 1);
    invite(&mut world);
    let token = question(&mut world, "Invite 0");
    let sent = world.udp(ALICE, &request("CANCEL", "sip:bob@example.com", ALICE, "m", ""));
    assert_eq!(to(&sent, ALICE, "SIP/2.0 487").status(), 487);
    assert_eq!(relay.take(), ["refused None"]);
    assert!(relayed(&mut world, token).is_empty());
}

#[test]
fn responses_keep_their_order_behind_one_that_waits() {
    let (mut world, _) = managed(REQUEST_AND_REPLY, 1);
    let out = offered(&mut world);
    let early = with_sdp(&out.answer(183, "Session Progress", ""));
    assert!(world.udp(BOB, &early).is_empty());
    let first = question(&mut world, "Invite 183 branch 0");
    let good = with_sdp(&out.answer(200, "OK", ""));
    assert!(world.udp(BOB, &out.answer(180, "Ringing", "")).is_empty());
    assert!(world.udp(BOB, &good).is_empty());
    assert!(world.udp(BOB, &good).is_empty(), "a retransmission");
    let sent = relayed(&mut world, first);
    let lines: Vec<u16> = sent.iter().map(Sent::status).collect();
    assert_eq!(lines, [183, 180]);
    let second = question(&mut world, "Invite 200 branch 0");
    let sent = relayed(&mut world, second);
    assert!(sent.len() == 1 && is_relayed(to(&sent, ALICE, "SIP/2.0 200")));
}

#[test]
fn a_refusal_behind_an_early_answer_is_not_lost() {
    let (mut world, relay) = managed(REQUEST_AND_REPLY, 1);
    let out = offered(&mut world);
    world.udp(BOB, &with_sdp(&out.answer(183, "Session Progress", "")));
    let token = question(&mut world, "Invite 183 branch 0");
    let sent = world.udp(BOB, &out.answer(486, "Busy Here", ""));
    assert!(sent.iter().all(|sent| sent.to == BOB.parse().unwrap()), "its ACK alone");
    let sent = relayed(&mut world, token);
    let lines: Vec<u16> = sent.iter().map(Sent::status).collect();
    assert_eq!(lines, [183, 486]);
    assert!(relay.take().contains(&"refused None".to_owned()));
}

#[test]
fn a_cancel_comes_too_late_for_a_200_that_waits() {
    let (mut world, relay) = managed(REQUEST_AND_REPLY, 1);
    let out = offered(&mut world);
    world.udp(BOB, &with_sdp(&out.answer(200, "OK", "")));
    let token = question(&mut world, "Invite 200 branch 0");
    let sent = world.udp(ALICE, &request("CANCEL", "sip:bob@example.com", ALICE, "m", ""));
    assert!(sent.iter().all(|sent| sent.status() == 200 && sent.header("CSeq").contains("CANCEL")));
    let sent = relayed(&mut world, token);
    assert!(is_relayed(to(&sent, ALICE, "SIP/2.0 200")));
    assert!(relay.take().is_empty());
}

#[test]
fn an_answer_nobody_relays_goes_on_as_it_came_and_is_told_of() {
    let (mut world, _) = managed(REQUEST_AND_REPLY, 1);
    let out = offered(&mut world);
    world.udp(BOB, &with_sdp(&out.answer(200, "OK", "")));
    let token = question(&mut world, "Invite 200 branch 0");
    let sent = failed(&mut world, token);
    assert_eq!(body(to(&sent, ALICE, "SIP/2.0 200")), SDP);
    assert_eq!(world.engine.counters().media_failed, 1);
}

#[test]
fn an_answer_in_an_ack_waits_and_a_bye_does_not() {
    let (mut world, relay) = managed(REQUEST_AND_REPLY, 1);
    let ack = in_dialog("ACK", TARGETS[0], ALICE, "ack", "");
    assert!(world.udp(ALICE, &with_sdp(&ack)).is_empty());
    let token = question(&mut world, "Ack 0");
    let sent = relayed(&mut world, token);
    assert!(is_relayed(to(&sent, BOB, "ACK")));
    let sent = world.udp(ALICE, &in_dialog("BYE", TARGETS[0], ALICE, "bye", ""));
    to(&sent, BOB, "BYE");
    assert_eq!(relay.take(), ["Bye"]);
}

#[test]
fn a_reinvite_waits_and_fails_with_a_503_that_leaves_the_dialog_alone() {
    let (mut world, _) = managed(REQUEST_AND_REPLY, 1);
    let text = with_sdp(&in_dialog("INVITE", TARGETS[0], ALICE, "re", ""));
    let sent = world.udp(ALICE, &text);
    assert_eq!(to(&sent, ALICE, "SIP/2.0 100").status(), 100);
    let token = question(&mut world, "Invite 0");
    let sent = failed(&mut world, token);
    assert_eq!(to(&sent, ALICE, "SIP/2.0 503").status(), 503);
}

#[test]
fn each_branch_waits_for_its_own_offer() {
    let (mut world, relay) = managed(&[Phase::Branch, Phase::Reply], 2);
    let sent = invite(&mut world);
    assert!(sent.iter().all(|sent| sent.to == ALICE.parse().unwrap()));
    let mut asked = asked(&mut world);
    asked.sort_by(|(_, a), (_, b)| a.cmp(b));
    let said: Vec<&str> = asked.iter().map(|(_, said)| said.as_str()).collect();
    assert_eq!(said, ["Invite 0 branch 0", "Invite 0 branch 1"]);
    let sent = relayed(&mut world, asked[1].0);
    let carol = to(&sent, CAROL, "INVITE").clone();
    assert!(is_relayed(&carol) && sent.len() == 1);
    // The other node call fails: that branch alone has.
    assert!(failed(&mut world, asked[0].0).is_empty());
    let good = with_sdp(&carol.answer(200, "OK", ""));
    assert!(world.udp(CAROL, &good).is_empty());
    let token = question(&mut world, "Invite 200 branch 1");
    let sent = relayed(&mut world, token);
    assert!(is_relayed(to(&sent, ALICE, "SIP/2.0 200")));
    assert!(relay.take().is_empty());
}

#[test]
fn branches_cancelled_while_they_wait_are_never_sent() {
    let (mut world, relay) = managed(&[Phase::Branch], 2);
    invite(&mut world);
    let asked = asked(&mut world);
    let sent = world.udp(ALICE, &request("CANCEL", "sip:bob@example.com", ALICE, "m", ""));
    assert_eq!(to(&sent, ALICE, "SIP/2.0 487").status(), 487);
    assert_eq!(relay.take(), ["refused None"]);
    for (token, _) in asked {
        assert!(relayed(&mut world, token).is_empty());
    }
}

#[test]
fn answers_nobody_waits_for_change_nothing() {
    let (mut world, _) = managed(REQUEST_AND_REPLY, 1);
    let out = offered(&mut world);
    world.udp(BOB, &with_sdp(&out.answer(200, "OK", "")));
    let token = question(&mut world, "Invite 200 branch 0");
    relayed(&mut world, token);
    assert!(relayed(&mut world, token).is_empty(), "a second answer");
    world.advance(200_000);
    assert!(relayed(&mut world, token).is_empty(), "long after");
    assert_eq!(world.engine.transactions(), 0);
}

#[test]
fn how_media_stand_is_asked_in_a_request_and_known_elsewhere() {
    let (mut world, _) = asking();
    let sent = world.udp(ALICE, &in_dialog("BYE", TARGETS[0], ALICE, "bye", ""));
    assert!(sent.is_empty());
    let (token, query) = world.held_asks.as_mut().unwrap().pop().unwrap();
    let Query::MediaCall(dialog) = query else { panic!("{query:?}") };
    let call = CallView { age_s: 77, answered: true, streams: Vec::new() };
    let sent = world.told(token, Fact::MediaCall(dialog, Some(call)));
    let out = to(&sent, BOB, "BYE").clone();
    world.udp(BOB, &out.answer(200, "OK", ""));
    let logs: Vec<String> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::PolicyLog { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(logs, ["Request 77", "Reply 1"]);
}

/// A policy that wants to know how media stand, and stops where it has to be asked.
fn asking() -> (World, Arc<Elsewhere>) {
    let relay = Arc::new(Elsewhere::default());
    let media: Arc<dyn Media> = Arc::<Elsewhere>::clone(&relay);
    let shared = Shared { media: Some(media), ..Shared::default() };
    let settings = viaduct_engine::Settings { shared, ..settings() };
    let mut world = World::with(settings, REQUEST_AND_REPLY, |phase, run| {
        let Ok(call) = run.media_query() else { return Ok(Verdict::Ask { fallback: 500 }) };
        run.log(2, &format!("{phase:?} {}", call.map_or(0, |call| call.age_s)));
        Ok(if phase == Phase::Request { Verdict::Relay } else { Verdict::Continue })
    });
    world.held_asks = Some(Vec::new());
    (world, relay)
}
