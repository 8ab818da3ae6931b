//! The call flows of RFC 3327 and RFC 5626, played message by message: each node is an engine of
//! its own, and what it sends is compared with what the RFC prints.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use viaduct_engine::registrar::{LookupFlags, OutboundMode, SaveFlags};
use viaduct_engine::run::AddPathMode;
use viaduct_engine::{ConnId, Flow, Hop, Input, Phase, Run, Settings, Transport, Verdict};
use viaduct_message::Method;
use world::World;
use world::corpus::{between, contacts, final_of, fixed, flow, headers, list, node, request, same};

/// Registrar and home proxy.
fn registrar(settings: Settings) -> World {
    World::with(settings, &[Phase::Request], |_, run: &mut Run| {
        if run.method() == Method::Register {
            let _ = run.save("location", &SaveFlags::parse("p1").unwrap(), None);
            return Ok(Verdict::Answered);
        }
        match run.lookup("location", &LookupFlags::default(), None) {
            Ok(_) => Ok(Verdict::Relay),
            Err(_) => Ok(Verdict::Reply { status: 480, reason: "".into() }),
        }
    })
}

/// A proxy of RFC 3327 5.5: with Path or without, to one next hop, staying in dialogs or not.
fn proxy(settings: Settings, path: bool, next: &'static str, stays: bool) -> World {
    World::with(settings, &[Phase::Request], move |_, run: &mut Run| {
        if run.method() == Method::Register {
            if path {
                run.add_path(AddPathMode::UaSupported, None, false).unwrap();
            }
            run.set_destination(next).unwrap();
        } else if stays {
            run.record_route();
        }
        Ok(Verdict::Relay)
    })
}

const UA1: &str = "192.0.2.4:5060";
const P1: &str = "112.68.155.4:5060";
const P2: &str = "178.73.76.230:5060";
const P3: &str = "19.31.97.3:5060";
const REGISTRAR: &str = "143.70.6.83:5060";

struct Chain {
    p1: World,
    p2: World,
    p3: World,
    registrar: World,
}

fn chain() -> Chain {
    let domains = ["EXAMPLEHOME.COM"];
    let mut all = Chain {
        p1: proxy(node(P1, "P1.EXAMPLEVISITED.COM", &[]), true, "sip:178.73.76.230", true),
        p2: proxy(node(P2, "P2.EXAMPLEVISITED.COM", &[]), false, "sip:19.31.97.3", false),
        p3: proxy(node(P3, "P3.EXAMPLEHOME.COM", &[]), true, "sip:143.70.6.83", true),
        registrar: registrar(node(REGISTRAR, "REGISTRAR.EXAMPLEHOME.COM", &domains)),
    };
    for (name, addr) in [("P1.EXAMPLEVISITED.COM", P1), ("P3.EXAMPLEHOME.COM", P3)] {
        let hop = Hop { transport: Transport::Udp, addr: addr.parse().unwrap() };
        for world in [&mut all.p1, &mut all.p2, &mut all.p3, &mut all.registrar] {
            world.names.insert(name.to_owned(), vec![hop]);
        }
    }
    all
}

fn udp(at: &str, from: &str) -> Flow {
    between(at, from, Transport::Udp, 0)
}

#[test]
fn rfc_3327_5_5_1_a_register_collects_its_path_and_the_answer_brings_it_back() {
    let Some(flow) = flow("rfc3327/5.5.1_example-of-mechanism-in-register-transaction.yaml") else {
        return;
    };
    register_along(&mut chain(), &flow);
}

fn register_along(chain: &mut Chain, flow: &[String]) {
    let sent = chain.p1.receive(udp(P1, UA1), &flow[0]);
    let at_p1 = request(&sent, "REGISTER").text.clone();
    same("P1", &at_p1, &flow[1]);
    let sent = chain.p2.receive(udp(P2, P1), &at_p1);
    let at_p2 = request(&sent, "REGISTER").text.clone();
    same("P2", &at_p2, &flow[2]);
    let sent = chain.p3.receive(udp(P3, P2), &at_p2);
    let at_p3 = request(&sent, "REGISTER").text.clone();
    same("P3", &at_p3, &flow[3]);
    let sent = chain.registrar.receive(udp(REGISTRAR, P3), &at_p3);
    let mut ok = final_of(&sent).text.clone();
    same("registrar", &ok, &flow[4]);
    let way = [
        (&mut chain.p3, P3, REGISTRAR, &flow[5]),
        (&mut chain.p2, P2, P3, &flow[6]),
        (&mut chain.p1, P1, P2, &flow[7]),
    ];
    for (node, at, from, expected) in way {
        ok = final_of(&node.receive(udp(at, from), &ok)).text.clone();
        same(at, &ok, expected);
    }
}

#[test]
fn rfc_3327_5_5_2_a_call_follows_the_path() {
    let Some(register) = flow("rfc3327/5.5.1_example-of-mechanism-in-register-transaction.yaml")
    else {
        return;
    };
    let Some(call) = flow("rfc3327/5.5.2_example-of-mechanism-in-invite-transaction.yaml") else {
        return;
    };
    let mut chain = chain();
    register_along(&mut chain, &register);
    let sent = chain.registrar.receive(udp(REGISTRAR, "71.91.180.10:5060"), &call[0]);
    let at_home = request(&sent, "INVITE");
    same("registrar", &at_home.text, &call[1]);
    assert_eq!(at_home.to, P3.parse().unwrap());
    let sent = chain.p3.receive(udp(P3, REGISTRAR), &at_home.text);
    let at_p3 = request(&sent, "INVITE");
    same("P3", &at_p3.text, &call[2]);
    assert_eq!(at_p3.to, P1.parse().unwrap(), "P2 has not asked to be visited");
    let sent = chain.p1.receive(udp(P1, P3), &at_p3.text);
    let at_p1 = request(&sent, "INVITE");
    same("P1", &at_p1.text, &call[3]);
    assert_eq!(at_p1.to, UA1.parse().unwrap());
}

const EP1: &str = "192.0.2.15:5060";
const EP2: &str = "192.0.2.16:5060";
const PROXY: &str = "192.0.2.5:5060";
const PHONE: &str = "192.0.2.2:40000";
const ALICE: &str = "192.0.2.77:5060";

/// An edge proxy of RFC 5626: tokens for the phone's flows in Path and Record-Route.
fn edge(addr: &str, name: &'static str, secret: u8) -> World {
    let settings = Settings { secret: [secret; 16], ..node(addr, name, &[]) };
    World::with(settings, &[Phase::Request], |_, run: &mut Run| {
        let traits = run.traits();
        if run.method() == Method::Register {
            run.add_path_flow(AddPathMode::Always).unwrap();
            run.set_destination("sip:192.0.2.5").unwrap();
        } else if !traits.in_dialog {
            let to_phone = traits.by_received;
            assert!(run.record_route_flows(!to_phone, to_phone));
            if !to_phone {
                run.set_destination("sip:192.0.2.5").unwrap();
            }
        }
        Ok(Verdict::Relay)
    })
}

struct Outbound {
    ep1: World,
    ep2: World,
    proxy: World,
}

fn outbound() -> Outbound {
    let mut settings = node(PROXY, "192.0.2.5", &["example.com"]);
    settings.registrar.outbound = OutboundMode::Supported;
    let mut proxy = registrar(settings);
    for (name, addr) in [("ep1.example.com", EP1), ("ep2.example.com", EP2)] {
        let hop = Hop { transport: Transport::Udp, addr: addr.parse().unwrap() };
        proxy.names.insert(name.to_owned(), vec![hop]);
    }
    let (ep1, ep2) = (edge(EP1, "ep1.example.com", 1), edge(EP2, "ep2.example.com", 2));
    Outbound { ep1, ep2, proxy }
}

/// Messages of RFC 5626 9.3 to 9.5 leave out what is not to the point.
fn whole(text: &str, via: &str) -> String {
    let (start, rest) = text.split_once("\r\n").unwrap();
    format!("{start}\r\nVia: SIP/2.0/{via}\r\nMax-Forwards: 70\r\n{rest}")
}

/// Bob registers over one edge; the 200 as he gets it.
fn register_over(edge: &mut World, at: &str, proxy: &mut World, text: &str, conn: u64) -> String {
    proxy.now.unix_ms += 10;
    let sent = edge.receive(between(at, PHONE, Transport::Tcp, conn), text);
    let forwarded = request(&sent, "REGISTER");
    assert_eq!((forwarded.to, forwarded.transport), (PROXY.parse().unwrap(), Transport::Udp));
    let path = list(&forwarded.text, "Path");
    assert!(path.last().unwrap().contains(";ob"), "we are the first hop: {path:?}");
    let ok = proxy.receive(udp(PROXY, at), &forwarded.text);
    final_of(&edge.receive(udp(at, PROXY), &final_of(&ok).text)).text.clone()
}

fn register_twice(nodes: &mut Outbound) -> Option<()> {
    let flow = flow("rfc5626/9.2_registration.yaml")?;
    for (index, contacts_now) in [(0, 1), (2, 2)] {
        let (edge, at) = if index == 0 { (&mut nodes.ep1, EP1) } else { (&mut nodes.ep2, EP2) };
        let ok = register_over(edge, at, &mut nodes.proxy, &flow[index], 7);
        assert_eq!(list(&ok, "Require"), ["outbound"]);
        assert!(ok.starts_with("SIP/2.0 200 "), "{ok}");
        assert_eq!(list(&ok, "Contact").len(), contacts_now, "{ok}");
        let ours: Vec<String> = contacts(&ok).into_iter().flatten().collect();
        let printed: Vec<String> = contacts(&flow[index + 1]).into_iter().flatten().collect();
        // The RFC's second 200 has slips in its instances; reg-ids and expiries are what count.
        for part in printed.iter().filter(|part| !part.starts_with("+sip.instance")) {
            assert!(ours.contains(part), "{part} is not in {ours:?}");
        }
        assert_eq!(fixed(&ok).ids, fixed(&flow[index + 1]).ids);
        let path = list(&ok, "Path");
        let (ours, printed) = (path.last().unwrap(), list(&flow[index + 1], "Path"));
        let until_lr = |value: &str| value.split(";lr").next().unwrap().to_owned();
        assert_eq!(until_lr(ours), until_lr(&printed[0]));
        assert!(ours.contains(";ob") && printed[0].contains(";ob"), "{ours}");
    }
    Some(())
}

#[test]
fn rfc_5626_9_2_two_flows_are_registered_over_two_edges() {
    register_twice(&mut outbound());
}

#[test]
fn rfc_5626_9_3_a_call_after_an_edge_has_crashed_takes_the_other_flow() {
    let mut nodes = outbound();
    let Some(call) = flow("rfc5626/9.3_incoming_call_and_proxy_crash.yaml") else { return };
    if register_twice(&mut nodes).is_none() {
        return;
    }
    // The one registered last is tried first, so that is the one that crashes.
    nodes.ep2 = edge(EP2, "ep2.example.com", 3);
    let from_alice = whole(&call[0], "UDP 192.0.2.77;branch=z9hG4bKalice");
    let sent = nodes.proxy.receive(udp(PROXY, ALICE), &from_alice);
    let first = request(&sent, "INVITE").clone();
    assert_eq!(first.to, EP2.parse().unwrap());
    assert_eq!(first.first_line(), call[1].lines().next().unwrap());
    let failed = nodes.ep2.receive(udp(EP2, PROXY), &first.text);
    same("rebooted edge", &final_of(&failed).text, &call[2]);
    let sent = nodes.proxy.receive(udp(PROXY, EP2), &final_of(&failed).text);
    let second = request(&sent, "INVITE").clone();
    assert_eq!((second.to, second.first_line()), (EP1.parse().unwrap(), first.first_line()));
    let sent = nodes.ep1.receive(udp(EP1, PROXY), &second.text);
    let at_bob = request(&sent, "INVITE").clone();
    assert_eq!((at_bob.flow.conn, at_bob.may_open), (ConnId::new(3, 7), false));
    assert!(list(&at_bob.text, "Route").is_empty());
    let record_route = list(&at_bob.text, "Record-Route");
    assert!(record_route[0].starts_with("<sip:TOKEN@ep1") && !record_route[0].contains(";ob"));
    // 26 to 34: the answer, ACK and BYE of Alice, who has the edge in her route set.
    let ok = at_bob.answer(200, "OK", "Contact: <sip:bob@192.0.2.2;transport=tcp>\r\n");
    let sent = nodes.ep1.receive(between(EP1, PHONE, Transport::Tcp, 7), &ok);
    let sent = nodes.proxy.receive(udp(PROXY, EP1), &final_of(&sent).text);
    let at_alice = final_of(&sent).text.clone();
    let mut route = headers(&at_alice, "Record-Route");
    route.reverse();
    let to_tag = headers(&at_alice, "To")[0].split(";tag=").nth(1).unwrap().to_owned();
    for (method, printed) in [("ACK", &call[6]), ("BYE", &call[7])] {
        let text = whole(printed, &format!("UDP 192.0.2.77;branch=z9hG4bK{method}"));
        let rest = text.split("Route: ").next().unwrap().replace("skduk2", &to_tag);
        let text = format!("{rest}Route: {}\r\n\r\n", route.join(", "));
        let sent = nodes.ep1.receive(udp(EP1, ALICE), &text);
        let at_bob = request(&sent, method);
        assert_eq!(at_bob.flow.conn, ConnId::new(3, 7), "{method}");
        assert_eq!(at_bob.first_line(), printed.lines().next().unwrap());
    }
}

#[test]
fn rfc_5626_9_4_a_flow_that_broke_is_registered_again() {
    let mut nodes = outbound();
    let Some(again) = flow("rfc5626/9.4_re-registration.yaml") else { return };
    if register_twice(&mut nodes).is_none() {
        return;
    }
    let text = whole(&again[0], "TCP 192.0.2.2;branch=z9hG4bKagain");
    let ok = register_over(&mut nodes.ep1, EP1, &mut nodes.proxy, &text, 8);
    assert_eq!(list(&ok, "Contact").len(), 2, "no third flow: {ok}");
    let call = flow("rfc5626/9.3_incoming_call_and_proxy_crash.yaml").unwrap();
    let from_alice = whole(&call[0], "UDP 192.0.2.77;branch=z9hG4bKalice");
    let sent = nodes.proxy.receive(udp(PROXY, ALICE), &from_alice);
    let sent = nodes.ep1.receive(udp(EP1, PROXY), &request(&sent, "INVITE").text);
    assert_eq!(request(&sent, "INVITE").flow.conn, ConnId::new(3, 8), "over the new connection");
}

#[test]
fn rfc_5626_9_5_an_outgoing_call_keeps_the_edge_and_the_flow() {
    let Some(call) = flow("rfc5626/9.5_outgoing_call.yaml") else { return };
    let mut nodes = outbound();
    let bob = between(EP1, PHONE, Transport::Tcp, 7);
    let sent = nodes.ep1.receive(bob, &whole(&call[0], "TCP 192.0.2.2;branch=z9hG4bKout"));
    let invite = request(&sent, "INVITE");
    assert_eq!(
        (invite.first_line(), invite.to),
        (call[0].lines().next().unwrap(), PROXY.parse().unwrap())
    );
    assert!(list(&invite.text, "Route").is_empty());
    let route = headers(&invite.text, "Record-Route").join(", ");
    let (top, bottom) = route.split_once(", ").unwrap();
    // 50: Bob's own BYE, with our token as the RFC has it.
    let printed = fixed(&call[1]);
    assert_eq!(printed.lists[1].1, ["<sip:TOKEN@ep1.example.com;lr>"]);
    let bye = whole(&call[1], "TCP 192.0.2.2;branch=z9hG4bKbye");
    let bye = bye.replace(
        "<sip:3yJEbr1GYZK9cPYk5Snocez6DzO7w+AX@ep1.example.com;lr>",
        &format!("{bottom}, {top}"),
    );
    nodes.ep1.names.insert(
        "a.example".to_owned(),
        vec![Hop { transport: Transport::Udp, addr: ALICE.parse().unwrap() }],
    );
    let sent = nodes.ep1.receive(bob, &bye);
    assert_eq!(request(&sent, "BYE").to, ALICE.parse().unwrap(), "51: straight to Alice");
    // And Alice's, back over Bob's connection.
    let bye = bye
        .replace(&format!("{bottom}, {top}"), &format!("{top}, {bottom}"))
        .replace("BYE sip:alice@a.example", "BYE sip:bob@192.0.2.2;transport=tcp;ob")
        .replace("TCP 192.0.2.2;branch=z9hG4bKbye", "UDP 192.0.2.77;branch=z9hG4bKbye2");
    let sent = nodes.ep1.receive(udp(EP1, ALICE), &bye);
    assert_eq!(request(&sent, "BYE").flow.conn, ConnId::new(3, 7));
}

#[test]
fn rfc_5626_9_1_a_notify_comes_back_over_the_flow_of_its_subscribe() {
    let Some(flow) = flow("rfc5626/9.1_subscription-to-configuration-package.yaml") else { return };
    let mut edge = outbound().ep1;
    let bob = between(EP1, PHONE, Transport::Tcp, 7);
    let sent = edge.receive(bob, &flow[0]);
    // 2: to Config, which is the next hop.
    let subscribe = request(&sent, "SUBSCRIBE").clone();
    assert_eq!((subscribe.to, subscribe.transport), (PROXY.parse().unwrap(), Transport::Udp));
    assert_eq!(fixed(&subscribe.text).start, fixed(&flow[0]).start);
    assert_eq!(fixed(&subscribe.text).ids, fixed(&flow[0]).ids);
    assert_eq!(contacts(&subscribe.text), contacts(&flow[0]), "Contact keeps its ob");
    let route = headers(&subscribe.text, "Record-Route").join(", ");
    assert!(list(&subscribe.text, "Record-Route").iter().all(|v| !v.contains(";ob")), "{route}");
    // 3 and 4.
    let sent = edge.receive(udp(EP1, PROXY), &subscribe.answer(200, "OK", "Expires: 0\r\n"));
    assert_eq!((final_of(&sent).status(), final_of(&sent).flow), (200, bob));
    // 5 and 6: Config has our Record-Route as its route set, where the RFC prints one value.
    let printed = &fixed(&flow[1]).lists[1].1;
    assert_eq!(printed, &["<sip:TOKEN@ep1.example.com;lr>"]);
    let token = headers(&flow[1], "Route").remove(0);
    let notify = flow[1].replace(&token, &route).replace("SIP/2.0/TCP", "SIP/2.0/UDP");
    let sent = edge.receive(udp(EP1, PROXY), &notify);
    let at_bob = request(&sent, "NOTIFY").clone();
    assert_eq!((at_bob.flow, at_bob.may_open), (bob, false), "over his connection and no other");
    assert_eq!(fixed(&at_bob.text).start, fixed(&flow[1]).start);
    assert_eq!(fixed(&at_bob.text).ids, fixed(&flow[1]).ids);
    assert!(list(&at_bob.text, "Route").is_empty(), "{}", at_bob.text);
    // 7 and 8.
    let sent = edge.receive(bob, &at_bob.answer(200, "OK", ""));
    assert_eq!((final_of(&sent).status(), final_of(&sent).to), (200, PROXY.parse().unwrap()));
    // The connection has gone: nobody else is told what was for Bob.
    let again = notify.replace("CSeq: 1 NOTIFY", "CSeq: 2 NOTIFY").replace("n81dd2", "n81dd3");
    let sent = edge.receive(udp(EP1, PROXY), &again);
    let lost = request(&sent, "NOTIFY").token;
    let sent = edge.input(Input::SendFailed { token: lost });
    assert_eq!(final_of(&sent).status(), 430);
}

#[test]
fn rfc_5626_3_2_a_registrar_without_an_edge_finds_the_phone_by_its_flow() {
    let Some(flow) = flow("rfc5626/3.2_single-registrar-and-ua.yaml") else { return };
    let mut settings = node(PROXY, "192.0.2.5", &["example.com"]);
    settings.registrar.flow_timer_s = 120;
    let mut proxy = registrar(settings);
    let bob = |conn| between(PROXY, PHONE, Transport::Tcp, conn);
    let ok = final_of(&proxy.receive(bob(7), &flow[0])).clone();
    assert_eq!((ok.status(), ok.flow), (200, bob(7)));
    assert_eq!(fixed(&ok.text).ids, fixed(&flow[0]).ids);
    assert_eq!(list(&ok.text, "Require"), ["outbound"], "the flow is taken");
    assert_eq!(headers(&ok.text, "Flow-Timer"), ["120"], "we are the first hop");
    assert!(list(&ok.text, "Path").is_empty());
    let listed: Vec<String> = contacts(&ok.text).into_iter().flatten().collect();
    for part in contacts(&flow[0]).into_iter().flatten() {
        assert!(listed.contains(&part), "{part} is not in {listed:?}");
    }
    let call = |branch| {
        format!(
            "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:alice@a.example>;tag=1\r\n\
             To: <sip:bob@example.com>\r\nCall-ID: {branch}\r\nCSeq: 1 INVITE\r\n\
             Content-Length: 0\r\n\r\n"
        )
    };
    let sent = proxy.receive(udp(PROXY, ALICE), &call("one"));
    let invite = request(&sent, "INVITE");
    assert_eq!((invite.flow, invite.may_open), (bob(7), false));
    assert_eq!(invite.first_line(), "INVITE sip:line1@192.0.2.2;transport=tcp SIP/2.0");
    // The flow failed, so the phone opens another and registers it with the same reg-id.
    let again = flow[0]
        .replace("CSeq: 1 ", "CSeq: 2 ")
        .replace("bad0ce-11-1036", "bad0ce-11-1037")
        .replace("line1@", "line2@");
    let ok = final_of(&proxy.receive(bob(8), &again)).clone();
    assert_eq!(contacts(&ok.text).len(), 1, "the key is instance and reg-id: {}", ok.text);
    let sent = proxy.receive(udp(PROXY, ALICE), &call("two"));
    assert_eq!(request(&sent, "INVITE").flow, bob(8));
}
