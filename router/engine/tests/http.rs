//! HTTP requests of policies: asked and run again, bounded, and answered alike in all runs of a
//! request.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use std::sync::Arc;

use viaduct_engine::http::{HttpFault, HttpMethod, HttpOrigin, HttpRequest, HttpResponse};
use viaduct_engine::registrar::SaveFlags;
use viaduct_engine::{CommitFault, Event, Input, Phase, Query, QueryFault, Run, Verdict};
use viaduct_message::Method;
use world::{ALICE, BOB, Sent, World, request, settings};

fn get(path: &str) -> HttpRequest {
    HttpRequest {
        method: HttpMethod::Get,
        origin: HttpOrigin { secure: false, host: "api.example.com".into(), port: 80 },
        path: path.into(),
        headers: Box::default(),
        body: Box::default(),
        timeout_ms: None,
    }
}

fn response(status: u16, body: &str) -> Arc<HttpResponse> {
    let body = body.as_bytes().into();
    Arc::new(HttpResponse { status, headers: Box::default(), body })
}

/// Answers a request with what the last of `requests` HTTP requests gave, or with the fault's name.
fn decide(run: &mut Run, requests: usize) -> Verdict {
    let mut last = None;
    for n in 0..requests {
        match run.http(get(&format!("/{n}"))) {
            Err(HttpFault::Ask) => return Verdict::Ask { fallback: 503 },
            other => last = Some(other),
        }
    }
    match last.unwrap() {
        Ok(response) => {
            let reason = String::from_utf8_lossy(&response.body).into_owned();
            Verdict::Reply { status: response.status, reason: reason.into() }
        }
        Err(fault) => Verdict::Reply { status: 599, reason: fault.to_string().into() },
    }
}

fn world(requests: usize) -> World {
    World::with(settings(), &[Phase::Request], move |_, run: &mut Run| Ok(decide(run, requests)))
}

fn call(branch: &str) -> String {
    request("MESSAGE", "sip:bob@example.com", ALICE, branch, "")
}

fn first_line(sent: &Sent) -> &str {
    sent.text.lines().next().unwrap()
}

#[test]
fn a_response_comes_by_asking_and_running_again() {
    let mut world = world(3);
    world.http = Ok(response(404, "Blocked"));
    let sent = world.udp(ALICE, &call("h1"));
    assert_eq!((sent.len(), first_line(&sent[0])), (1, "SIP/2.0 404 Blocked"));
    assert_eq!(world.engine.counters().asked, 3, "three URLs, each asked once");
}

#[test]
fn a_failed_request_is_the_policys_to_judge() {
    for fault in [HttpFault::Timeout, HttpFault::Unreachable, HttpFault::TooLarge] {
        let mut world = world(1);
        world.http = Err(fault);
        let sent = world.udp(ALICE, &call("h2"));
        assert_eq!(first_line(&sent[0]), format!("SIP/2.0 599 {fault}"));
        assert!(world.events.is_empty(), "{:?}", world.events);
    }
}

#[test]
fn one_request_causes_four_at_most() {
    let mut world = world(5);
    world.http = Ok(response(200, "fine"));
    let sent = world.udp(ALICE, &call("h3"));
    assert_eq!(first_line(&sent[0]), "SIP/2.0 599 too-many");
    assert_eq!(world.engine.counters().asked, 4);
}

#[test]
fn the_policy_waits_where_the_world_is_slow_and_others_go_on() {
    let mut world = world(1);
    world.http = Ok(response(200, "late"));
    world.held_asks = Some(Vec::new());
    assert!(world.udp(ALICE, &call("h4")).is_empty());
    assert!(world.udp(ALICE, &call("h4")).is_empty(), "a retransmission asks nothing");
    assert!(world.udp(ALICE, &call("h5")).is_empty(), "nor does another request wait for it");
    let held = world.held_asks.take().unwrap();
    assert_eq!(held.len(), 2, "each request has its own");
    for (token, query) in held {
        assert!(
            matches!(&query, Query::Http(request) if request.url() == "http://api.example.com/0")
        );
        assert_eq!(first_line(&world.answer(token, query)[0]), "SIP/2.0 200 late");
    }
}

#[test]
fn past_the_patience_the_fallback_answers() {
    let mut world = world(1);
    world.held_asks = Some(Vec::new());
    world.udp(ALICE, &call("h6"));
    let sent = world.advance(5_001);
    assert_eq!(sent.last().unwrap().status(), 503);
    let failed = Event::QueryFailed { what: "http", fault: QueryFault::Unavailable, status: 503 };
    assert_eq!(world.events, [failed]);
}

#[test]
fn a_phase_that_cannot_wait_is_told_so() {
    let phases = [Phase::Request, Phase::Branch];
    let mut world = World::with(settings(), &phases, |phase, run: &mut Run| {
        if phase == Phase::Branch {
            assert_eq!(run.http(get("/")), Err(HttpFault::WrongPhase));
            return Ok(Verdict::Continue);
        }
        run.set_destination(&format!("sip:{BOB}")).unwrap();
        Ok(Verdict::Relay)
    });
    let sent = world.udp(ALICE, &call("h7"));
    assert!(sent.iter().any(|s| s.method() == "MESSAGE"), "{sent:?}");
}

/// Saves, and hits a rate and a counter, after one HTTP request and in one run with the rest.
fn counting(run: &mut Run) -> Verdict {
    if run.http(get("/")) == Err(HttpFault::Ask) {
        return Verdict::Ask { fallback: 503 };
    }
    let hits = run.table_hit("rates", "alice", 60).unwrap();
    let added = run.table_add("sums", "alice", 10, 60).unwrap();
    run.log(2, &format!("{hits} hits, {added} in all"));
    run.count("seen", 1);
    let _ = run.save("location", &SaveFlags::parse("p1").unwrap(), None);
    Verdict::Answered
}

/// What was logged and counted.
fn told(world: &World) -> Vec<String> {
    let tell = |event: &Event| match event {
        Event::PolicyLog { text, .. } => Some(text.clone()),
        Event::PolicyCount { name, by } => Some(format!("{name} {by}")),
        _ => None,
    };
    world.events.iter().filter_map(tell).collect()
}

#[test]
fn what_is_decided_again_after_a_conflict_asks_and_counts_once() {
    let register = request(
        "REGISTER",
        "sip:example.com",
        ALICE,
        "h8",
        "Contact: <sip:alice@192.0.2.11:5062>\r\n",
    );
    for outcome in [Ok(()), Err(CommitFault::Store)] {
        let mut world = World::new(|_, run: &mut Run| Ok(counting(run)));
        world.http = Ok(response(200, ""));
        world.held_commits = Some(Vec::new());
        world.udp(ALICE, &register);
        for _ in 0..2 {
            let (token, _) = world.held_commits.as_mut().unwrap().remove(0);
            let conflict = Input::Committed { token, result: Err(CommitFault::Conflict) };
            assert!(world.input(conflict).is_empty());
            assert_eq!(told(&world), [""; 0], "it is not decided yet");
        }
        let (token, changes) = world.held_commits.take().unwrap().remove(0);
        world.apply(changes);
        let sent = world.input(Input::Committed { token, result: outcome });
        assert_eq!(sent[0].status(), if outcome.is_ok() { 200 } else { 503 });
        assert_eq!(told(&world), ["1 hits, 10 in all", "seen 1"], "{outcome:?}");
        assert_eq!(world.engine.counters().asked, 1, "nobody is asked twice");
        world.held_asks = None;
        let again = register.replace("h8", "h9").replace("CSeq: 1", "CSeq: 2");
        world.udp(ALICE, &again);
        assert_eq!(told(&world)[2..], ["2 hits, 20 in all", "seen 1"]);
    }
}

#[test]
fn a_reply_route_that_decides_again_counts_once() {
    let phases = [Phase::Request, Phase::Reply];
    let mut world = World::with(settings(), &phases, |phase, run: &mut Run| {
        if phase == Phase::Request {
            run.set_destination(&format!("sip:{BOB}")).unwrap();
            return Ok(Verdict::Relay);
        }
        if run.message().cseq().is_ok_and(|cseq| cseq.method == Method::Register) {
            let hits = run.table_hit("rates", "alice", 60).unwrap();
            run.log(2, &format!("{hits} hits"));
            let _ = run.save("location", &SaveFlags::parse("p1").unwrap(), None);
        }
        Ok(Verdict::Continue)
    });
    let contact = "Contact: <sip:alice@192.0.2.11:5062>\r\n";
    let sent = world.udp(ALICE, &request("REGISTER", "sip:example.com", ALICE, "h10", contact));
    let ok = sent.iter().find(|s| s.method() == "REGISTER").unwrap().answer(200, "OK", contact);
    world.held_commits = Some(Vec::new());
    world.udp(BOB, &ok);
    let (token, _) = world.held_commits.as_mut().unwrap().remove(0);
    world.input(Input::Committed { token, result: Err(CommitFault::Conflict) });
    let (token, changes) = world.held_commits.take().unwrap().remove(0);
    world.apply(changes);
    let sent = world.input(Input::Committed { token, result: Ok(()) });
    assert_eq!((sent[0].status(), told(&world)), (200, vec!["1 hits".to_owned()]));
}

#[test]
fn what_a_run_got_is_noted_and_serves_to_make_it_again() {
    use viaduct_engine::run::HttpWitness;
    let digest = Some(HttpWitness::digest(&get("/a")));
    let known = HttpWitness {
        method: HttpMethod::Get,
        url: "http://api.example.com/a".into(),
        digest,
        result: Ok(response(200, "recorded")),
    };
    let mut world = World::new(move |_, run: &mut Run| {
        run.answer_from(Vec::new(), vec![known.clone()]);
        assert_eq!(run.http(get("/a")).unwrap().body[..], *b"recorded");
        let other = HttpRequest { body: b"x"[..].into(), ..get("/a") };
        assert_eq!(run.http(other), Err(HttpFault::Unreachable), "another body, another request");
        assert!(run.take_witness().unwrap().missing, "and it is told that it was not there");
        Ok(Verdict::Reply { status: 200, reason: "".into() })
    });
    assert_eq!(world.udp(ALICE, &call("h11"))[0].status(), 200);
    let mut world = World::new(|_, run: &mut Run| {
        run.watch();
        let verdict = decide(run, 1);
        let noted = run.take_witness().unwrap().http;
        let asked = matches!(verdict, Verdict::Ask { .. });
        assert_eq!(noted.len(), usize::from(!asked), "{noted:?}");
        Ok(verdict)
    });
    world.http = Ok(response(200, "fine"));
    assert_eq!(world.udp(ALICE, &call("h12"))[0].status(), 200);
}
