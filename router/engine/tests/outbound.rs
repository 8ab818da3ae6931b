//! RFC 5626 and 5627 through the engine: flow tokens in Path and Record-Route, one target a phone,
//! GRUUs, and keep-alives.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use viaduct_engine::registrar::{LookupFlags, SaveFlags, Target};
use viaduct_engine::run::AddPathMode;
use viaduct_engine::{ConnId, Flow, Input, Ping, PingId, Run, Transport, Verdict};
use viaduct_message::Method;
use world::{ALICE, BOB, CAROL, Sent, World, in_dialog, request, settings};

const INNER: &str = "sip:192.0.2.12:5064";

fn reg(call: &str, cseq: u32, extra: &str) -> String {
    request("REGISTER", "sip:example.com", ALICE, &format!("{call}{cseq}"), extra)
        .replace("To: <sip:bob@example.com>", "To: <sip:alice@example.com>")
        .replace(&format!("Call-ID: call-{call}{cseq}"), &format!("Call-ID: {call}"))
        .replace("CSeq: 1 ", &format!("CSeq: {cseq} "))
}

fn flow_contact(reg_id: u32, uri: &str) -> String {
    format!(
        "Contact: <{uri}>;reg-id={reg_id};+sip.instance=\"<urn:uuid:1>\"\r\n\
         Supported: path, outbound, gruu\r\n"
    )
}

/// An edge proxy: Path with flow tokens, Record-Route with the flow of both sides.
fn edge() -> World {
    World::new(|_, run: &mut Run| {
        if run.method() == Method::Register {
            run.add_path_flow(AddPathMode::Always).unwrap();
            run.set_destination(INNER).unwrap();
        } else if !run.traits().in_dialog {
            assert!(run.record_route_flows(!run.traits().by_received, true));
            if !run.traits().by_received {
                run.set_destination(INNER).unwrap();
            }
        }
        Ok(Verdict::Relay)
    })
}

fn forwarded<'a>(sent: &'a [Sent], method: &str) -> &'a Sent {
    sent.iter().find(|s| s.method() == method).unwrap_or_else(|| panic!("no {method}: {sent:?}"))
}

fn path_of(world: &mut World, flow: Flow) -> String {
    let sent = world.receive(flow, &reg("r", 1, &flow_contact(1, "sip:alice@10.0.0.4")));
    forwarded(&sent, "REGISTER").header("Path").to_owned()
}

fn invite(branch: &str, path: &str) -> String {
    let route: String = path.split(", ").map(|value| format!("Route: {value}\r\n")).collect();
    request("INVITE", "sip:alice@10.0.0.4", BOB, branch, &route)
}

#[test]
fn r_o1_what_comes_back_with_our_token_goes_over_the_flow() {
    let mut world = edge();
    let path = path_of(&mut world, World::flow(ALICE, Transport::Udp));
    assert!(path.starts_with("<sip:~101") && path.contains(";lr;ob"), "{path}");
    let sent = world.udp(BOB, &invite("in", &path));
    let out = forwarded(&sent, "INVITE");
    assert_eq!((out.to, out.headers("Route").len()), (ALICE.parse().unwrap(), 0));
    let at = path.find('@').unwrap() - 4;
    let forged = format!(
        "{}{}{}",
        &path[..at],
        if &path[at..=at] == "A" { "B" } else { "A" },
        &path[at + 1..]
    );
    assert_eq!(world.udp(BOB, &invite("forged", &forged))[0].status(), 403);
}

#[test]
fn r_p9_a_stream_is_reached_over_its_own_connection_or_430() {
    let mut world = edge();
    let phone = World::flow(ALICE, Transport::Tcp);
    let path = path_of(&mut world, phone);
    assert_eq!(path.matches(";r2=on").count(), 2, "TCP in, UDP out: {path}");
    let sent = world.udp(BOB, &invite("in", &path));
    let out = forwarded(&sent, "INVITE");
    assert_eq!((out.transport, out.flow.conn, out.may_open), (Transport::Tcp, phone.conn, false));
    let token = out.token;
    let sent = world.input(Input::SendFailed { token });
    assert_eq!(sent.iter().map(Sent::status).find(|s| *s >= 200), Some(430), "{sent:?}");
    // After a restart the numbers of connections begin anew.
    let mut later = settings();
    later.secret = [8; 16];
    let mut world =
        World::with(later, &[viaduct_engine::Phase::Request], |_, _| Ok(Verdict::Relay));
    assert_eq!(world.udp(BOB, &invite("later", &path))[0].status(), 430);
}

#[test]
fn r_o1_in_a_dialog_each_side_is_found_by_its_flow() {
    let mut world = edge();
    let path = path_of(&mut world, World::flow(ALICE, Transport::Udp));
    let sent = world.udp(BOB, &invite("in", &path));
    let values = forwarded(&sent, "INVITE").headers("Record-Route").join(", ");
    let (top, bottom) = values.split_once(", ").unwrap();
    assert!(top.contains("sip:~1") && !bottom.contains("sip:~1"), "{values}");
    let route = format!("Route: {bottom}, {top}\r\n");
    let bye = in_dialog("BYE", "sip:alice@10.0.0.4", BOB, "bye", &route);
    let sent = world.udp(BOB, &bye);
    assert_eq!(forwarded(&sent, "BYE").to, ALICE.parse().unwrap());
    // Alice's own request, from whatever port her NAT has given her meanwhile.
    let route = format!("Route: {top}, {bottom}\r\n");
    let bye = in_dialog("BYE", "sip:bob@192.0.2.12:5064", CAROL, "bye2", &route);
    let sent = world.udp(CAROL, &bye);
    assert_eq!(forwarded(&sent, "BYE").to, BOB.parse().unwrap());
}

/// Registrar and home proxy.
fn home() -> World {
    World::new(|_, run: &mut Run| {
        if run.method() == Method::Register {
            let _ = run.save("location", &SaveFlags::parse("p1").unwrap(), None);
            return Ok(Verdict::Answered);
        }
        match run.lookup("location", &LookupFlags::default(), None) {
            Ok(_) => Ok(Verdict::Relay),
            Err(viaduct_engine::registrar::LookupFault::Gruu) => {
                Ok(Verdict::Reply { status: 404, reason: "".into() })
            }
            Err(_) => Ok(Verdict::Reply { status: 480, reason: "".into() }),
        }
    })
}

/// Two flows of one phone, by way of two edges at BOB (newer) and CAROL.
fn two_flows() -> World {
    let mut world = home();
    for (reg_id, edge) in [(1, "192.0.2.13:5066"), (2, "192.0.2.12:5064")] {
        let extra = format!(
            "Via: SIP/2.0/UDP phone;branch=z9hG4bKp\r\n{}Path: <sip:{edge};lr;ob>\r\n",
            flow_contact(reg_id, "sip:alice@10.0.0.4")
        );
        world.now.unix_ms += 10;
        let sent = world.udp(ALICE, &reg(&format!("r{reg_id}"), 1, &extra));
        assert_eq!((sent[0].status(), sent[0].header("Require")), (200, "outbound"));
    }
    world
}

#[test]
fn rfc_5626_7_one_flow_at_a_time_and_the_next_on_430() {
    let mut world = two_flows();
    let call = request("INVITE", "sip:alice@example.com", ALICE, "call", "");
    let sent = world.udp(ALICE, &call);
    let invites: Vec<&Sent> = sent.iter().filter(|s| s.method() == "INVITE").collect();
    assert_eq!(invites.len(), 1, "never two targets of one phone: {sent:?}");
    assert_eq!(invites[0].to, BOB.parse().unwrap(), "the newest first");
    let failed = invites[0].answer(430, "Flow Failed", "");
    let sent = world.udp(BOB, &failed);
    let second = forwarded(&sent, "INVITE");
    assert_eq!(second.to, CAROL.parse().unwrap());
    let busy = second.answer(486, "Busy Here", "");
    let sent = world.udp(CAROL, &busy);
    assert!(sent.iter().any(|s| s.first_line().starts_with("SIP/2.0 486")), "{sent:?}");
}

#[test]
fn rfc_5626_7_a_binding_goes_when_its_flow_has_failed() {
    let mut world = two_flows();
    let both = ["sip:alice@10.0.0.4", "sip:alice@10.0.0.4"];
    assert_eq!(world.contacts("alice@example.com"), both);
    let call = request("INVITE", "sip:alice@example.com", ALICE, "call", "");
    let first = forwarded(&world.udp(ALICE, &call), "INVITE").clone();
    assert_eq!(first.to, BOB.parse().unwrap());
    let sent = world.udp(BOB, &first.answer(430, "Flow Failed", ""));
    let second = forwarded(&sent, "INVITE").clone();
    assert_eq!(world.contacts("alice@example.com").len(), 1, "the flow that is left");
    assert_eq!(world.engine.counters().flows_failed, 1);
    let again = request("INVITE", "sip:alice@example.com", ALICE, "again", "");
    assert_eq!(forwarded(&world.udp(ALICE, &again), "INVITE").to, CAROL.parse().unwrap());
    // The phone has come back by the other flow meanwhile: what failed is not that.
    let extra = format!(
        "Via: SIP/2.0/UDP phone;branch=z9hG4bKp\r\n{}Path: <sip:192.0.2.13:5066;lr;ob>\r\n",
        flow_contact(1, "sip:alice@10.0.0.4")
    );
    world.now.unix_ms += 10;
    assert_eq!(world.udp(ALICE, &reg("r1", 2, &extra))[0].status(), 200);
    world.udp(CAROL, &second.answer(430, "Flow Failed", ""));
    assert_eq!(world.contacts("alice@example.com").len(), 1, "it has been registered anew");
    assert_eq!(world.engine.counters().flows_failed, 1);
}

#[test]
fn rfc_5626_7_a_connection_that_is_gone_takes_its_binding_along() {
    let mut world = home();
    let phone = World::flow(ALICE, Transport::Tcp);
    let sent = world.receive(phone, &reg("r", 1, &flow_contact(1, "sip:alice@10.0.0.4")));
    assert_eq!(sent[0].status(), 200);
    let call = request("INVITE", "sip:alice@example.com", BOB, "call", "");
    let out = forwarded(&world.udp(BOB, &call), "INVITE").clone();
    assert_eq!((out.flow, out.may_open), (phone, false));
    let sent = world.input(Input::SendFailed { token: out.token });
    // RFC 5626 11.5: 430 is for proxies, not for callers.
    assert!(sent.iter().any(|s| s.first_line().starts_with("SIP/2.0 480")), "{sent:?}");
    assert!(world.contacts("alice@example.com").is_empty());
}

#[test]
fn rfc_5626_7_a_flow_that_icmp_says_is_dead_is_followed_by_the_next() {
    let mut world = home();
    for (reg_id, phone) in [(1, CAROL), (2, BOB)] {
        world.now.unix_ms += 10;
        let register = reg(&format!("r{reg_id}"), 1, &flow_contact(reg_id, "sip:alice@10.0.0.4"));
        let sent = world.receive(World::flow(phone, Transport::Udp), &register);
        assert_eq!(sent[0].status(), 200);
    }
    let call = request("INVITE", "sip:alice@example.com", ALICE, "call", "");
    let first = forwarded(&world.udp(ALICE, &call), "INVITE").clone();
    assert_eq!(first.to, BOB.parse().unwrap());
    let flow = World::flow(BOB, Transport::Udp);
    let sent = world.input(Input::Undelivered { flow, bytes: first.text.as_bytes() });
    assert_eq!(forwarded(&sent, "INVITE").to, CAROL.parse().unwrap());
    assert_eq!(world.contacts("alice@example.com").len(), 1);
}

#[test]
fn rfc_5626_7_an_edge_that_is_down_is_passed_over_and_its_binding_stays() {
    let mut world = two_flows();
    let call = request("INVITE", "sip:alice@example.com", ALICE, "call", "");
    let first = forwarded(&world.udp(ALICE, &call), "INVITE").clone();
    let flow = World::flow(BOB, Transport::Udp);
    let sent = world.input(Input::Undelivered { flow, bytes: first.text.as_bytes() });
    assert_eq!(forwarded(&sent, "INVITE").to, CAROL.parse().unwrap());
    assert_eq!(world.contacts("alice@example.com").len(), 2, "its flow may be there again");
}

#[test]
fn rfc_5626_7_any_other_answer_is_the_phone_s_own() {
    let mut world = two_flows();
    let call = request("INVITE", "sip:alice@example.com", ALICE, "call", "");
    let sent = world.udp(ALICE, &call);
    let busy = forwarded(&sent, "INVITE").answer(486, "Busy Here", "");
    let sent = world.udp(BOB, &busy);
    assert!(sent.iter().all(|s| s.method() != "INVITE"), "{sent:?}");
    assert!(sent.iter().any(|s| s.first_line().starts_with("SIP/2.0 486")));
}

#[test]
fn rfc_5626_7_a_timeout_tries_the_next_flow() {
    let mut world = two_flows();
    let call = request("MESSAGE", "sip:alice@example.com", ALICE, "m", "");
    assert_eq!(forwarded(&world.udp(ALICE, &call), "MESSAGE").to, BOB.parse().unwrap());
    let sent = world.advance(33_000);
    assert!(sent.iter().any(|s| s.method() == "MESSAGE" && s.to == CAROL.parse().unwrap()));
}

/// The two GRUUs the phone was given.
fn gruus(world: &mut World, call: &str, cseq: u32) -> (String, String) {
    let sent = world.udp(ALICE, &reg(call, cseq, &flow_contact(1, "sip:alice@192.0.2.11:5062")));
    let contact = sent[0].header("Contact").to_owned();
    let value = |name: &str| {
        let (_, rest) = contact.split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    (value("pub-gruu"), value("temp-gruu"))
}

#[test]
fn r_o3_gruus_lead_to_their_phone_in_and_out_of_dialogs() {
    let mut world = home();
    let (public, temporary) = gruus(&mut world, "r", 1);
    let other = "Contact: <sip:alice@192.0.2.13:5066>\r\n";
    world.udp(ALICE, &reg("other", 1, other));
    for (branch, uri) in [("a", &public), ("b", &temporary)] {
        for text in [
            request("INVITE", uri, BOB, branch, ""),
            in_dialog("BYE", uri, BOB, &format!("{branch}2"), ""),
        ] {
            let sent = world.udp(BOB, &text);
            let out: Vec<&Sent> = sent.iter().filter(|s| s.to == ALICE.parse().unwrap()).collect();
            assert_eq!(out.len(), 1, "{uri}: {sent:?}");
            assert!(out[0].first_line().contains(" sip:alice@192.0.2.11:5062 "), "no gr is left");
        }
    }
    let all = world.udp(BOB, &request("INVITE", "sip:alice@example.com", BOB, "c", ""));
    assert_eq!(all.iter().filter(|s| s.method() == "INVITE").count(), 2, "the AoR is both phones");
}

#[test]
fn r_o3_a_temporary_gruu_is_404_once_its_registration_has_ended() {
    let mut world = home();
    let (_, first) = gruus(&mut world, "r", 1);
    let (_, second) = gruus(&mut world, "r", 2);
    let status = |world: &mut World, branch: &str, uri: &str| {
        let sent = world.udp(BOB, &request("MESSAGE", uri, BOB, branch, ""));
        sent.iter().find(|s| s.method() == "SIP/2.0").map_or(0, Sent::status)
    };
    assert_ne!(first, second);
    assert_eq!((status(&mut world, "1", &first), status(&mut world, "2", &second)), (0, 0));
    gruus(&mut world, "restarted", 1);
    assert_eq!(status(&mut world, "3", &first), 404);
    assert_eq!(status(&mut world, "4", &second), 404);
    let unknown = "sip:alice@example.com;gr=urn:uuid:9";
    assert_eq!(status(&mut world, "5", unknown), 480, "well formed, and nobody there");
}

fn ping(target: Target, options: bool) -> Input<'static> {
    let id = PingId { slot: 5, generation: 9 };
    Input::Ping(Ping { id, target, options, may_open: false, from: "sip:ping@example.com".into() })
}

#[test]
fn pings_go_along_the_path_and_any_answer_is_a_pong() {
    let mut world = home();
    let target = Target {
        uri: b"sip:alice@10.0.0.4;method=x"[..].into(),
        route: b"<sip:192.0.2.12:5064;lr>, <sip:p1.example;lr>"[..].into(),
        ..Target::default()
    };
    let sent = world.input(ping(target.clone(), true));
    let [options] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(options.first_line(), "OPTIONS sip:alice@10.0.0.4 SIP/2.0");
    assert_eq!(options.to, BOB.parse().unwrap());
    assert_eq!(options.header("Route"), "<sip:192.0.2.12:5064;lr>, <sip:p1.example;lr>");
    world.udp(BOB, &options.answer(100, "Trying", ""));
    assert!(world.pongs.is_empty(), "a provisional may be a proxy's");
    world.udp(BOB, &options.answer(404, "Not Found", ""));
    assert_eq!(world.pongs, [PingId { slot: 5, generation: 9 }]);
    assert_eq!(world.engine.transactions(), 0);
    assert!(world.input(ping(target, false)).is_empty(), "bytes would end at the proxy");
}

#[test]
fn four_bytes_go_to_the_address_behind_the_nat_and_streams_get_none() {
    let mut world = home();
    let behind = Target {
        uri: b"sip:alice@10.0.0.4"[..].into(),
        destination: b"sip:192.0.2.11:5062"[..].into(),
        ..Target::default()
    };
    let sent = world.input(ping(behind, false));
    let [bytes] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((bytes.to, &*bytes.text), (ALICE.parse().unwrap(), "\0\0\0\0"));
    let flow = Flow { conn: ConnId::new(3, 1), ..World::flow(ALICE, Transport::Tcp) };
    let stream = Target { flow: Some(flow), uri: b"sip:a@h"[..].into(), ..Target::default() };
    assert!(world.input(ping(stream.clone(), false)).is_empty());
    let sent = world.input(ping(stream, true));
    assert_eq!((sent[0].flow.conn, sent[0].may_open), (ConnId::new(3, 1), false));
}
