//! Media through the router: whole calls with real RTP between phones in two networks that cannot
//! reach each other, whose descriptions name addresses nobody can reach. In user space, and in front
//! of the stack.

#[path = "../../router/transport/tests/support/detach.rs"]
mod detach;
#[path = "media_stand.rs"]
mod media_stand;

use std::cell::Cell;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use media_stand::{PACKETS, PATIENCE, Stand, locals, relayed, wait_for_binding};
use serde_json::Value;
use viaduct_tests::or_skip;
use viaduct_tests::support::netns::{NO_NAMESPACE, Namespace};
use viaduct_tests::support::packets::{line_of_status, wait_for_verdicts};
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sipp;

#[test]
fn phones_behind_nat_hear_each_other_and_every_packet_is_counted() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    let stand = or_skip!(Stand::new()?, "{NO_NAMESPACE}");
    let callee = stand.callee().start()?;
    let registered = |line: &str| line.contains("viaduct ready");
    stand.router.wait_for_line("the router", PATIENCE, registered)?;
    wait_for_binding(&stand.router)?;
    let caller = stand.caller().start()?;
    let call = stand.shown()?;
    let call_id = call.get("call_id").and_then(Value::as_str).context("no call_id")?;
    ensure!(stand.router.cli(&["media", "show", call_id])?.contains("audio caller"), "{call}");
    let caller = caller.finish()?;
    caller.all_good("caller", 1)?;
    callee.finish()?.all_good("callee", 1)?;
    for side in ["side=\"caller\"", "side=\"callee\""] {
        let line = stand.leg(side)?;
        let exact = format!("packets={} ", 2 * PACKETS);
        for part in [exact.as_str(), "dropped=0", "lost=0", "mos=4."] {
            ensure!(line.contains(part), "not {part} in {line}");
        }
    }
    // What the caller was told is the router's address on its own side.
    let told = format!("c=IN IP4 {}", stand.callers.gateway());
    ensure!(caller.messages.contains(&told), "{told} is not in:\n{}", caller.messages);
    ensure!(stand.router.metric_of("media_ended", "reason=\"ended\"")? == 1, "metrics");
    stand.router.check_alive()
}

/// CVE-2025-53399: strangers who know the ports send all the time, before the phones do and after.
#[test]
fn strangers_get_nothing_and_are_heard_by_nobody() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    let stand = or_skip!(Stand::new()?, "{NO_NAMESPACE}");
    let callee = stand.callee().start()?;
    wait_for_binding(&stand.router)?;
    let caller = stand.caller().start()?;
    let call = stand.shown()?;
    let mut sprayed = 0;
    // One at the address of the phones' own network, one at the signalled port.
    let strangers = [
        UdpSocket::bind(SocketAddr::from((stand.callers.gateway(), 6_000)))?,
        UdpSocket::bind(SocketAddr::from((stand.callees.gateway(), 0)))?,
    ];
    let mut packet = [0x55u8; 92];
    packet[..12].copy_from_slice(&[0x80, 0, 9, 9, 0, 0, 0, 0, 0, 0, 0, 66]);
    let targets = locals(&call)?;
    while !caller.has_ended() {
        for (stranger, target) in strangers.iter().zip(targets.iter().cycle()) {
            stranger.send_to(&packet, target)?;
            sprayed += 1;
        }
        for stranger in &strangers {
            // The other one's ports as well.
            stranger.send_to(&packet, targets[1])?;
            sprayed += 1;
        }
        // A flood of one source is cut off by its prefix; this one is to reach the latch.
        std::thread::sleep(Duration::from_millis(2));
    }
    caller.finish()?.all_good("caller", 1)?;
    callee.finish()?.all_good("callee", 1)?;
    for stranger in &strangers {
        stranger.set_nonblocking(true)?;
        let mut buffer = [0; 2_048];
        let heard = stranger.recv_from(&mut buffer);
        ensure!(heard.is_err(), "reflected to a stranger: {heard:?}");
    }
    let mut dropped = 0;
    for side in ["side=\"caller\"", "side=\"callee\""] {
        let line = stand.leg(side)?;
        let exact = format!("packets={} ", 2 * PACKETS);
        ensure!(line.contains(&exact), "injected, or lost: {line}");
        let count = line.split("dropped=").nth(1).and_then(|rest| rest.split(' ').next());
        dropped += count.context("no dropped=")?.parse::<u64>()?;
    }
    ensure!(dropped > 200, "of {sprayed} sprayed packets {dropped} have arrived");
    stand.router.check_alive()
}

/// The router is killed in a call, between two re-INVITEs and its media; a new one goes on.
#[test]
fn r_m8_a_call_goes_on_after_kill_9_of_the_router_and_every_packet_is_counted() -> Result<()> {
    outlives(|router| {
        // What is counted is kept every few seconds: of two times the second began after this.
        let kept = router.metric("media_kept")?;
        router.wait_for_metric("media_kept", kept + 2)?;
        router.kill_hard()
    })
}

#[test]
fn r_m8_a_call_goes_on_after_a_stop_and_a_start_of_the_router() -> Result<()> {
    outlives(Router::stop)
}

fn outlives(end: impl FnOnce(&mut Router) -> Result<()>) -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    let mut stand = or_skip!(Stand::new()?, "{NO_NAMESPACE}");
    let callee = stand.callee().start()?;
    wait_for_binding(&stand.router)?;
    let caller = stand.caller_holding(9_000).start()?;
    let before = locals(&stand.shown()?)?;
    // Both ways, the callee echoes.
    while relayed(&stand.shown()?) < u64::from(2 * PACKETS) {
        ensure!(!caller.has_ended(), "the caller has given up:\n{}", stand.router.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    end(&mut stand.router)?;
    stand.router.start_again()?;
    let call = stand.shown()?;
    ensure!(locals(&call)? == before, "other ports: {call}");
    ensure!(relayed(&call) == u64::from(2 * PACKETS), "forgotten: {call}");
    caller.finish()?.all_good("caller", 1).with_context(|| stand.router.log())?;
    callee.finish()?.all_good("callee", 1)?;
    for side in ["side=\"caller\"", "side=\"callee\""] {
        let line = stand.leg(side)?;
        let exact = format!("packets={} ", 2 * PACKETS);
        for part in [exact.as_str(), "dropped=0", "lost=0"] {
            ensure!(line.contains(part), "not {part} in {line}");
        }
    }
    ensure!(stand.router.cli(&["--json", "media", "list"])?.trim() == "[]", "it is still there");
    stand.router.check_alive()
}

/// Media are relayed in front of the stack: the drivers of both cables send what the other receives.
fn over_xdp(setup: &mut Setup, sides: [&Namespace; 2]) -> Result<()> {
    setup.store = setup.store.replacen("[media]\n", "[media]\nxdp = \"auto\"\n", 1);
    // Checksums as a wire would have them, not left to the receiving end of the cable.
    sides.iter().try_for_each(|side| side.offload(&["tx", "off", "gro", "on"]))
}

/// Routes may be asked for in front of the stack, as long as this is there.
struct Forwarding {
    before: String,
}

const FORWARDING: &str = "/proc/sys/net/ipv4/conf/lo/forwarding";

impl Forwarding {
    fn on() -> Result<Forwarding> {
        let before = fs::read_to_string(FORWARDING)?;
        fs::write(FORWARDING, "1")?;
        Ok(Forwarding { before })
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        let _ = fs::write(FORWARDING, &self.before);
    }
}

/// The kernel's numbers of the program at this machine's end of a cable, and of that end.
fn attached(side: &Namespace) -> Result<(u32, u32)> {
    let output = Command::new("ip").args(["-d", "link", "show", "dev", side.cable()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let id = text.split("prog/xdp id ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let index = text.split(':').next().unwrap_or_default();
    Ok((id.with_context(|| format!("no program:\n{text}"))?.parse()?, index.trim().parse()?))
}

/// A call over XDP, with `during` done while it plays for the second time. Each packet arrives and
/// is counted.
fn call_over_xdp(stand: &Stand, mode: &str, during: impl FnOnce() -> Result<()>) -> Result<()> {
    let way = format!("{} ({mode})", stand.callers.cable());
    let line = line_of_status(&stand.router)?;
    ensure!(line.contains(&way), "not {way:?} but {line:?}\n{}", stand.router.log());
    let callee = stand.callee().start()?;
    wait_for_binding(&stand.router)?;
    let caller = stand.caller().start()?;
    // Both ways, as the callee sends all of it back.
    while relayed(&stand.shown()?) <= u64::from(2 * PACKETS) {
        ensure!(!caller.has_ended(), "the caller has given up:\n{}", stand.router.log());
    }
    // A session that signalling has changed is placed again within a second.
    while stand.shown()?.pointer("/streams/0/carrier").and_then(Value::as_str) != Some("xdp") {
        ensure!(!caller.has_ended(), "XDP is never said to carry it:\n{}", stand.router.log());
    }
    let status = stand.router.cli(&["status"])?;
    ensure!(status.contains("XDP, "), "{status}");
    during()?;
    caller.finish()?.all_good("caller", 1)?;
    callee.finish()?.all_good("callee", 1)?;
    for side in ["side=\"caller\"", "side=\"callee\""] {
        let line = stand.leg(side)?;
        let exact = format!("packets={} ", 2 * PACKETS);
        for part in [exact.as_str(), "dropped=0", "lost=0", "mos=4."] {
            ensure!(line.contains(part), "not {part} in {line}");
        }
    }
    stand.router.check_alive()
}

#[test]
fn r_m8_settled_calls_are_relayed_in_front_of_the_stack() -> Result<()> {
    relayed_in_front("xdp = \"off\"", "native")
}

/// One interface has room for one program: that for SIP jumps to that for media.
#[test]
fn r_m8_settled_calls_are_relayed_behind_sip_over_af_xdp() -> Result<()> {
    relayed_in_front("xdp = \"required\"", "native, behind SIP")
}

fn relayed_in_front(listen_keys: &'static str, mode: &str) -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    let _forwarding = or_skip!(Forwarding::on().ok(), "{FORWARDING} cannot be written");
    let stand = Stand::with(|setup, sides| {
        setup.listen_keys = listen_keys;
        over_xdp(setup, sides)
    })?;
    let stand = or_skip!(stand, "{NO_NAMESPACE}");
    call_over_xdp(&stand, mode, || Ok(()))?;
    // The first time the peers were learned, which user space does; the second time all of it.
    wait_for_verdicts(&stand.router, "media_relayed", u64::from(2 * PACKETS))?;
    ensure!(stand.router.metric_of("xdp_packets", "media_dropped")? == 0, "dropped");
    Ok(())
}

#[test]
fn r_m8_a_call_goes_on_in_user_space_when_the_program_is_detached() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    let _forwarding = or_skip!(Forwarding::on().ok(), "{FORWARDING} cannot be written");
    let stand = or_skip!(Stand::with(over_xdp)?, "{NO_NAMESPACE}");
    call_over_xdp(&stand, "native", || {
        // From one of the two cables it is on.
        let (program, interface) = attached(&stand.callers)?;
        detach::detach(program, interface);
        Ok(())
    })?;
    wait_for_verdicts(&stand.router, "media_relayed", 1)?;
    // It is put there again by itself.
    let seen = Cell::new(0);
    stand.router.wait_for_line("the program on that cable again", PATIENCE, |line| {
        seen.set(seen.get() + usize::from(line.contains("relaying in XDP")));
        seen.get() >= 3
    })?;
    Ok(())
}
