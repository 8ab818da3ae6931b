//! Media on other machines: whole calls whose RTP goes through Debian's rtpengine, because a policy
//! says `media::manage`; nodes that die, and come back.

#[path = "media_stand.rs"]
mod media_stand;

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use media_stand::{DOMAIN, PACKETS, PATIENCE, Stand, relayed, wait_for_binding};
use serde_json::Value;
use viaduct_tests::or_skip;
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::netns::NO_NAMESPACE;
use viaduct_tests::support::router;
use viaduct_tests::support::rtpengine::{self, Rtpengine};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{Received, Request};
use viaduct_tests::support::sipp;

const NO_RTPENGINE: &str = "rtpengine-daemon is not installed";

/// Two networks, a router that relays nothing itself, and `count` nodes.
fn stand(count: u16) -> Result<Option<(Stand, Vec<Rtpengine>)>> {
    let mut nodes = Vec::new();
    let stand = Stand::with(|setup, [callers, _]| {
        let ip = callers.gateway().into();
        setup.store = "[media.rtpengine]\ntimeout_ms = 200\nretries = 2\ndown_s = 1\n".to_owned();
        for n in 0..count {
            let control = SocketAddr::new(ip, 2_223 + n);
            let first = 30_000 + n * 1_000;
            nodes.push(Rtpengine::start(control, ip, first..=first + 999)?);
            let text = format!("[[media.rtpengine.node]]\naddress = \"udp:{control}\"\n");
            setup.store.push_str(&text);
        }
        Ok(())
    })?;
    Ok(stand.map(|stand| (stand, nodes)))
}

fn call_id(call: &Value) -> Result<&str> {
    call.get("call_id").and_then(Value::as_str).context("no call_id")
}

#[test]
fn rtp_goes_through_a_node_both_ways_and_a_bye_ends_the_call_there() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    or_skip!(rtpengine::installed(), "{NO_RTPENGINE}");
    let (stand, nodes) = or_skip!(stand(1)?, "{NO_NAMESPACE}");
    let node = nodes.first().context("no node")?;
    let callee = stand.callee().start()?;
    wait_for_binding(&stand.router)?;
    let caller = stand.caller().start()?;
    let call = stand.shown()?;
    let call_id = call_id(&call)?;
    let control = node.control().to_string();
    ensure!(call.get("node").and_then(Value::as_str) == Some(&control), "{call}");
    ensure!(node.knows(call_id)?, "the node has no call:\n{}", node.log());
    // Both ways, as the callee sends all of it back.
    while relayed(&asked(&stand, call_id)?) < u64::from(2 * PACKETS) {
        ensure!(!caller.has_ended(), "the caller has given up:\n{}", node.log());
    }
    let caller = caller.finish()?;
    caller.all_good("caller", 1)?;
    callee.finish()?.all_good("callee", 1)?;
    for side in ["side=\"caller\"", "side=\"callee\""] {
        let line = stand.leg(side)?;
        let exact = format!("packets={} ", 2 * PACKETS);
        for part in [exact.as_str(), "dropped=0"] {
            ensure!(line.contains(part), "not {part} in {line}\n{}", node.log());
        }
    }
    ensure!(!node.knows(call_id)?, "the node still has the call");
    let told = format!("c=IN IP4 {}", node.control().ip());
    ensure!(caller.messages.contains(&told), "{told} is not in:\n{}", caller.messages);
    ensure!(stand.router.metric_of("media_ended", "reason=\"ended\"")? == 1, "metrics");
    ensure!(stand.router.metrics()?.contains("viaduct_media_node_up{node="), "metrics");
    ensure!(stand.router.cli(&["status"])?.contains("rtpengine, 1 of 1 nodes up"), "status");
    stand.router.check_alive()
}

/// One call from its INVITE to its BYE, on whichever node; which it was.
fn whole_call(stand: &Stand) -> Result<SocketAddr> {
    let callee = stand.callee().start()?;
    wait_for_binding(&stand.router)?;
    let caller = stand.caller().start()?;
    let call = stand.shown()?;
    caller.finish()?.all_good("caller", 1).with_context(|| stand.router.log())?;
    callee.finish()?.all_good("callee", 1)?;
    while stand.router.cli(&["--json", "media", "list"])?.trim() != "[]" {}
    let node = call.get("node").and_then(Value::as_str).context("no node")?;
    Ok(node.parse()?)
}

/// What an INVITE with a description gets in the end.
fn invited(stand: &Stand) -> Result<Received> {
    let local = SocketAddr::from((stand.callers.gateway(), 0));
    let mut client = SipClient::new(Transport::Udp, local, stand.router.listen())?;
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
        "10.255.255.1"
    );
    let to = format!("sip:bob@{DOMAIN}");
    let invite = Request::new("INVITE", &to, &format!("sip:alice@{DOMAIN}"), &to)
        .with("Contact", &format!("<{}>", client.contact("alice")))
        .with_body("application/sdp", &body);
    client.send(&invite)?;
    client.expect("a final answer", PATIENCE, |message| {
        message.status().is_some_and(|status| status >= 200)
    })
}

#[test]
fn new_calls_leave_a_dead_node_and_are_refused_where_none_is_left() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    or_skip!(rtpengine::installed(), "{NO_RTPENGINE}");
    let (stand, mut nodes) = or_skip!(stand(2)?, "{NO_NAMESPACE}");
    let first = whole_call(&stand)?;
    let position = nodes.iter().position(|node| node.control() == first);
    let position = position.context("on no node of ours")?;
    nodes[position].kill_hard()?;
    // Its Call-ID is the same, so it would go there again.
    let second = whole_call(&stand)?;
    ensure!(second != first && nodes[1 - position].control() == second, "on {second}");
    stand.router.wait_for_line("a node to be down", PATIENCE, |line| {
        line.contains("media node down") && line.contains(&first.to_string())
    })?;
    ensure!(stand.router.metric("media_commands_moved")? == 1, "moved");

    nodes[1 - position].kill_hard()?;
    let refused = invited(&stand)?;
    ensure!(refused.status() == Some(503), "{}", refused.text);
    ensure!(refused.header("Retry-After").is_some(), "{}", refused.text);
    ensure!(stand.router.cli(&["status"])?.contains("0 of 2 nodes up"), "status");
    ensure!(stand.router.cli(&["--json", "media", "list"])?.trim() == "[]", "a call is left");
    stand.router.check_alive()?;

    nodes[position].start_again()?;
    stand.router.wait_for_line("a node to be up", PATIENCE, |line| {
        line.contains("media node up") && line.contains(&first.to_string())
    })?;
    ensure!(whole_call(&stand)? == first, "back on its own node");
    stand.router.check_alive()
}

/// The router is killed in a call; the next one knows where the call is.
#[test]
fn r_m8_a_call_goes_on_after_kill_9_of_the_router_and_ends_on_its_node() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    or_skip!(rtpengine::installed(), "{NO_RTPENGINE}");
    let (mut stand, nodes) = or_skip!(stand(1)?, "{NO_NAMESPACE}");
    let node = nodes.first().context("no node")?;
    let callee = stand.callee().start()?;
    wait_for_binding(&stand.router)?;
    let caller = stand.caller_holding(9_000).start()?;
    let call = stand.shown()?;
    let call_id = call_id(&call)?;
    while relayed(&asked(&stand, call_id)?) < u64::from(2 * PACKETS) {
        ensure!(!caller.has_ended(), "the caller has given up:\n{}", stand.router.log());
    }
    stand.router.kill_hard()?;
    stand.router.start_again()?;
    ensure!(stand.shown()?.get("node") == call.get("node"), "another node");
    caller.finish()?.all_good("caller", 1).with_context(|| stand.router.log())?;
    callee.finish()?.all_good("callee", 1)?;
    for side in ["side=\"caller\"", "side=\"callee\""] {
        let line = stand.leg(side)?;
        let exact = format!("packets={} ", 2 * PACKETS);
        ensure!(line.contains(&exact), "not {exact} in {line}");
    }
    ensure!(!node.knows(call_id)?, "the node still has the call");
    stand.router.check_alive()
}

/// The call as its node knows it.
fn asked(stand: &Stand, call_id: &str) -> Result<Value> {
    let shown: Value =
        serde_json::from_str(&stand.router.cli(&["--json", "media", "show", call_id])?)?;
    shown.get(0).cloned().context("no call is shown")
}

/// A caller gives up before anybody has answered.
#[test]
fn a_call_that_is_cancelled_ends_on_its_node() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(rtpengine::installed(), "{NO_RTPENGINE}");
    let (stand, nodes) = or_skip!(stand(1)?, "{NO_NAMESPACE}");
    let node = nodes.first().context("no node")?;
    // A phone that rings and is not answered.
    let bob_at = SocketAddr::from((stand.callers.gateway(), 0));
    let mut bob = SipClient::new(Transport::Udp, bob_at, stand.router.listen())?;
    let contact = bob.contact("bob");
    let registered = bob.transact(&Request::register("bob", DOMAIN, &contact, 600))?;
    ensure!(registered.status() == Some(200), "{}", registered.text);
    let alice_at = SocketAddr::from((stand.callers.gateway(), 0));
    let mut alice = SipClient::new(Transport::Udp, alice_at, stand.router.listen())?;
    let to = format!("sip:bob@{DOMAIN}");
    let body = "v=0\r\no=- 1 1 IN IP4 10.255.255.1\r\ns=-\r\nc=IN IP4 10.255.255.1\r\nt=0 0\r\n\
                m=audio 4000 RTP/AVP 0\r\n";
    let invite = Request::new("INVITE", &to, &format!("sip:alice@{DOMAIN}"), &to)
        .with("Contact", &format!("<{}>", alice.contact("alice")))
        .with_body("application/sdp", body);
    let sent = alice.send(&invite)?;
    let rings = bob.expect("an INVITE", PATIENCE, |m| m.method() == Some("INVITE"))?;
    let call_id = rings.header("Call-ID").context("no Call-ID")?.to_owned();
    ensure!(rings.text.contains(&format!("c=IN IP4 {}", node.control().ip())), "{}", rings.text);
    ensure!(node.knows(&call_id)?, "the node has no call");
    let ringing = viaduct_tests::support::sip_text::response(&rings, "180 Ringing", "b", &[]);
    bob.send_raw(ringing.as_bytes())?;
    alice.expect("a 180", PATIENCE, |m| m.status() == Some(180))?;
    alice.send_raw(cancel_of(&sent)?.as_bytes())?;
    let cancel = bob.expect("a CANCEL", PATIENCE, |m| m.method() == Some("CANCEL"))?;
    let good = viaduct_tests::support::sip_text::response(&cancel, "200 OK", "b", &[]);
    bob.send_raw(good.as_bytes())?;
    let ended = viaduct_tests::support::sip_text::response(&rings, "487 Cancelled", "b", &[]);
    bob.send_raw(ended.as_bytes())?;
    alice.expect("a 487", PATIENCE, |m| m.status() == Some(487))?;
    stand.router.wait_for_line("the end of the call", PATIENCE, |line| {
        line.contains("call ended") && line.contains("refused")
    })?;
    ensure!(!node.knows(&call_id)?, "the node still has the call");
    stand.router.check_alive()
}

/// RFC 3261 9.1.
fn cancel_of(invite: &str) -> Result<String> {
    let (head, _) = invite.split_once("\r\n\r\n").context("no end of the head")?;
    let kept = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        ["via", "from", "to", "call-id", "max-forwards"].contains(&name.as_str())
    };
    let mut lines = head.lines();
    let first = lines.next().context("no first line")?.replacen("INVITE", "CANCEL", 1);
    let number = head.lines().find_map(|line| line.strip_prefix("CSeq: "));
    let number = number.and_then(|cseq| cseq.split(' ').next()).context("no CSeq")?;
    let lines: Vec<&str> = lines.filter(kept).collect();
    let lines = lines.join("\r\n");
    Ok(format!("{first}\r\n{lines}\r\nCSeq: {number} CANCEL\r\nContent-Length: 0\r\n\r\n"))
}
