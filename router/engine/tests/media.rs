//! Orders about media, from the run that stages them to the message that goes on: what is told to
//! the relay, when, and what is taken back.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use std::sync::{Arc, Mutex};

use viaduct_engine::media::{
    Action, CallView, Handled, Media, MediaFault, MediaFlags, MediaMessage, Order, Tags,
};
use viaduct_engine::run::MediaRefusal;
use viaduct_engine::{Event, Now, Phase, PolicyFailure, Run, Shared, Verdict};
use world::{ALICE, BOB, CAROL, Sent, World, request, settings};

const SDP: &str = "v=0\r\nm=audio 4000 RTP/AVP 0\r\n";
const TARGETS: [&str; 2] = ["sip:bob@192.0.2.12:5064", "sip:carol@192.0.2.13:5066"];
const ALL: [Phase; 4] = [Phase::Request, Phase::Branch, Phase::Reply, Phase::Failure];

/// Notes what it is told, and gives every description a mark.
#[derive(Default)]
struct Witness {
    told: Mutex<Vec<String>>,
    fault: Mutex<Option<MediaFault>>,
}

impl Witness {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    fn tell(&self, line: String) {
        self.told.lock().unwrap().push(line);
    }
}

impl Media for Witness {
    fn handle(
        &self,
        _: Now,
        order: &Order,
        message: &MediaMessage<'_>,
    ) -> Result<Handled, MediaFault> {
        let method = format!("{:?}", message.method).to_uppercase();
        let status = message.status;
        let branch = message.branch.map(|branch| format!(" branch {branch}"));
        let branch = branch.unwrap_or_default();
        self.tell(format!("{:?} {method} {status}{branch}", order.action));
        if let Some(fault) = self.fault.lock().unwrap().clone() {
            return Err(fault);
        }
        let body = message.body;
        let relayed = [body, branch.as_bytes(), b"a=relayed\r\n"].concat();
        Ok(Handled::Done((!body.is_empty()).then_some(relayed)))
    }

    fn refused(&self, _: Now, tags: Tags<'_>, branch: Option<u32>) {
        assert!(!tags.call_id.is_empty() && !tags.from.is_empty());
        self.tell(format!("refused {branch:?}"));
    }

    fn query(&self, _: Now, _: Tags<'_>) -> Option<CallView> {
        None
    }

    fn check(&self, flags: &MediaFlags) -> Result<(), String> {
        flags.inside.as_ref().map_or(Ok(()), |name| Err(format!("no {name}")))
    }
}

fn world(
    phases: &[Phase],
    targets: usize,
    mut decide: impl FnMut(Phase, &mut Run) -> Result<Verdict, PolicyFailure> + Send + 'static,
) -> (World, Arc<Witness>) {
    let witness = Arc::new(Witness::default());
    let media: Arc<dyn Media> = Arc::<Witness>::clone(&witness);
    let shared = Shared { media: Some(media), ..Shared::default() };
    let settings = viaduct_engine::Settings { shared, ..settings() };
    let world = World::with(settings, phases, move |phase, run| {
        if phase == Phase::Request && !run.traits().in_dialog {
            for target in &TARGETS[..targets] {
                run.add_target(target, 1000).unwrap();
            }
        }
        decide(phase, run)
    });
    (world, witness)
}

/// Manages media in these phases.
fn managed(phases: &'static [Phase], targets: usize) -> (World, Arc<Witness>) {
    world(phases, targets, move |phase, run| {
        run.media(Action::Manage, "").unwrap();
        Ok(if phase == Phase::Request { Verdict::Relay } else { Verdict::Continue })
    })
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

#[test]
fn offer_and_answer_go_on_as_the_relay_wrote_them() {
    let (mut world, media) = managed(&[Phase::Request, Phase::Reply], 1);
    let sent = invite(&mut world);
    let out = to(&sent, BOB, "INVITE");
    assert_eq!(body(out), format!("{SDP}a=relayed\r\n"));
    let early = world.udp(BOB, &with_sdp(&out.answer(183, "Session Progress", "")));
    assert_eq!(body(to(&early, ALICE, "SIP/2.0 183")), format!("{SDP} branch 0a=relayed\r\n"));
    let answer = world.udp(BOB, &with_sdp(&out.answer(200, "OK", "")));
    assert_eq!(body(to(&answer, ALICE, "SIP/2.0 200")), format!("{SDP} branch 0a=relayed\r\n"));
    let told = media.take();
    assert_eq!(
        told,
        ["Manage INVITE 0", "Manage INVITE 183 branch 0", "Manage INVITE 200 branch 0"]
    );
    world.advance(200_000);
    assert!(media.take().is_empty(), "an answered call is not taken back");
}

#[test]
fn an_answer_in_an_ack_is_rewritten_and_bye_is_told() {
    let (mut world, media) = managed(&[Phase::Request], 1);
    let ack = world::in_dialog("ACK", TARGETS[0], ALICE, "ack", "");
    let sent = world.udp(ALICE, &with_sdp(&ack));
    assert_eq!(body(to(&sent, BOB, "ACK")), format!("{SDP}a=relayed\r\n"));
    world.udp(ALICE, &world::in_dialog("BYE", TARGETS[0], ALICE, "bye", ""));
    assert_eq!(media.take(), ["Manage ACK 0", "Manage BYE 0"]);
}

#[test]
fn each_branch_has_an_offer_of_its_own_and_its_end_is_told() {
    let (mut world, media) = managed(&[Phase::Branch, Phase::Reply], 2);
    let sent = invite(&mut world);
    let (bob, carol) = (to(&sent, BOB, "INVITE"), to(&sent, CAROL, "INVITE"));
    assert!(body(bob).contains("branch 0") && body(carol).contains("branch 1"));
    media.take();
    world.udp(BOB, &bob.answer(486, "Busy Here", ""));
    assert_eq!(media.take(), ["refused Some(0)"]);
    world.udp(CAROL, &with_sdp(&carol.answer(183, "Session Progress", "")));
    world.udp(CAROL, &with_sdp(&carol.answer(200, "OK", "")));
    assert_eq!(media.take(), ["Manage INVITE 183 branch 1", "Manage INVITE 200 branch 1"]);
    world.advance(200_000);
    assert!(media.take().is_empty());
}

#[test]
fn what_fails_is_taken_back_however_it_fails() {
    for status in [407, 486, 503, 603] {
        let (mut world, media) = managed(&[Phase::Request], 1);
        let sent = invite(&mut world);
        world.udp(BOB, &to(&sent, BOB, "INVITE").answer(status, "No", ""));
        assert_eq!(media.take(), ["Manage INVITE 0", "refused None"], "{status}");
    }
    let (mut world, media) = managed(&[Phase::Request], 1);
    invite(&mut world);
    world.advance(40_000);
    assert_eq!(media.take(), ["Manage INVITE 0", "refused None"], "timer B");
    let (mut world, media) = managed(&[Phase::Request], 1);
    let sent = invite(&mut world);
    world.udp(BOB, &to(&sent, BOB, "INVITE").answer(180, "Ringing", ""));
    let cancel = request("CANCEL", "sip:bob@example.com", ALICE, "m", "");
    world.udp(ALICE, &cancel);
    let sent = to(&sent, BOB, "INVITE").answer(487, "Request Terminated", "");
    world.udp(BOB, &sent);
    assert_eq!(media.take(), ["Manage INVITE 0", "refused None"], "cancelled");
}

#[test]
fn an_offer_the_relay_refuses_is_answered_and_goes_nowhere() {
    let (mut world, media) = managed(&[Phase::Request, Phase::Reply], 1);
    *media.fault.lock().unwrap() = Some(MediaFault::Busy("full".to_owned()));
    let sent = invite(&mut world);
    assert_eq!(to(&sent, ALICE, "SIP/2.0 503").status(), 503);
    assert!(sent.iter().all(|sent| sent.to != BOB.parse().unwrap()));
    let told = |event: &Event| matches!(event, Event::MediaFailed { status: 503, .. });
    assert!(world.events.iter().any(told));
    assert_eq!(world.engine.counters().media_failed, 1);
}

#[test]
fn a_response_the_relay_refuses_goes_on_as_it_came() {
    let (mut world, media) = managed(&[Phase::Request, Phase::Reply], 1);
    let sent = invite(&mut world);
    *media.fault.lock().unwrap() = Some(MediaFault::Description("bad".to_owned()));
    let answer = with_sdp(&to(&sent, BOB, "INVITE").answer(200, "OK", ""));
    let answer = world.udp(BOB, &answer);
    assert_eq!(body(to(&answer, ALICE, "SIP/2.0 200")), SDP);
}

#[test]
fn a_branch_the_relay_refuses_counts_as_failed() {
    let (mut world, media) = managed(&[Phase::Branch], 1);
    *media.fault.lock().unwrap() = Some(MediaFault::Description("bad".to_owned()));
    let sent = invite(&mut world);
    assert_eq!(to(&sent, ALICE, "SIP/2.0 488").status(), 488);
}

#[test]
fn nothing_is_told_of_a_run_that_fails_or_a_request_that_is_answered() {
    use viaduct_engine::FailureKind;
    let (mut failing, media) = world(&[Phase::Request], 1, |_, run| {
        run.media(Action::Manage, "").unwrap();
        Err(PolicyFailure { kind: FailureKind::Trap, status: 500 })
    });
    invite(&mut failing);
    assert!(media.take().is_empty());
    let (mut answering, media) = world(&[Phase::Request], 1, |_, run| {
        run.media(Action::Offer, "").unwrap();
        Ok(Verdict::Reply { status: 403, reason: "".into() })
    });
    invite(&mut answering);
    assert!(media.take().is_empty());
}

#[test]
fn a_delete_counts_where_the_call_ends_and_not_where_it_is_tried_again() {
    let (mut ending, media) = world(&ALL, 1, |phase, run| match phase {
        Phase::Failure => {
            run.media(Action::Delete, "").unwrap();
            Ok(Verdict::Continue)
        }
        Phase::Request => Ok(Verdict::Relay),
        _ => Ok(Verdict::Continue),
    });
    let sent = invite(&mut ending);
    ending.udp(BOB, &to(&sent, BOB, "INVITE").answer(486, "Busy Here", ""));
    assert_eq!(media.take(), ["Delete INVITE 0"]);
    let (mut trying, media) = world(&ALL, 1, |phase, run| match phase {
        Phase::Failure => {
            run.media(Action::Delete, "").unwrap();
            run.add_target(TARGETS[1], 1000).unwrap();
            Ok(Verdict::Relay)
        }
        Phase::Request => Ok(Verdict::Relay),
        _ => Ok(Verdict::Continue),
    });
    let sent = invite(&mut trying);
    trying.udp(BOB, &to(&sent, BOB, "INVITE").answer(486, "Busy Here", ""));
    assert!(media.take().is_empty());
}

#[test]
fn what_cannot_be_obeyed_is_refused_when_it_is_staged() {
    let (mut world, media) = world(&[Phase::Request], 1, |_, run| {
        let flags = run.media(Action::Manage, "transcode-PCMU").unwrap_err();
        assert!(flags.to_string().contains("`transcode-PCMU`"));
        let name = run.media(Action::Manage, "in-iface=x").unwrap_err();
        assert_eq!(name, MediaRefusal::Flags("no x".to_owned()));
        assert_eq!(run.media(Action::Answer, ""), Ok(()));
        Ok(Verdict::Relay)
    });
    invite(&mut world);
    assert_eq!(media.take(), ["Answer INVITE 0"]);
    let mut without = World::new(|_, run| {
        assert_eq!(run.media(Action::Manage, ""), Err(MediaRefusal::Off));
        assert_eq!(run.media_query(), Ok(None));
        Ok(Verdict::Relay)
    });
    invite(&mut without);
}
