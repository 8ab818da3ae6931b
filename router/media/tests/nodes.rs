//! Calls on Debian's rtpengine: what the relay says is what it understands, and RTP passes.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use viaduct_engine::Now;
use viaduct_engine::media::{
    Action, Carrier, EndReason, Handled, Media as _, MediaFlags, MediaMessage, MediaRecord,
    MediaResult, Order, Tags,
};
use viaduct_media::ng::{ClientConfig, Config, NgRelay, NodeConfig};
use viaduct_message::Method;
use viaduct_tests::or_skip;
use viaduct_tests::support::net::own_address;
use viaduct_tests::support::rtpengine::{self, Rtpengine};

const PATIENCE: Duration = Duration::from_secs(20);
const NOT_THERE: &str = "rtpengine-daemon is not installed";
const CALL_ID: &str = "c0ffee@192.0.2.1";

/// A relay with one node, and what has ended.
struct Stand {
    node: Rtpengine,
    relay: Arc<NgRelay>,
    ended: mpsc::Receiver<MediaRecord>,
}

impl Stand {
    fn new() -> Result<Stand> {
        let ip = own_address();
        let node = Rtpengine::start((ip, 2_223).into(), ip, 30_000..=30_099)?;
        let nodes = vec![NodeConfig { address: node.control(), weight: 1 }];
        let client = ClientConfig { nodes, timeout_ms: 500, retries: 4, down_ms: 100 };
        let config = Config { client, calls: 10, lifetime_s: 0, unanswered_s: 600 };
        let start = Instant::now();
        let clock = move || Now { mono_us: start.elapsed().as_micros() as u64, unix_ms: 1 };
        let (told, ended) = mpsc::channel();
        let sink = move |record| drop(told.send(record));
        let relay = NgRelay::start(config, Box::new(clock), Box::new(sink), None)?;
        Ok(Stand { node, relay, ended })
    }

    /// What an order gives: the body, or the fault.
    fn order(&self, flags: &str, message: &MediaMessage<'_>) -> Result<MediaResult> {
        let order = Order { action: Action::Manage, flags: MediaFlags::parse(flags)? };
        match self.relay.handle(Now::default(), &order, message)? {
            Handled::Done(body) => Ok(Ok(body)),
            Handled::Ask(question) => {
                let (told, heard) = mpsc::channel();
                self.relay.answer(&question, Box::new(move |result| drop(told.send(result))));
                heard.recv_timeout(PATIENCE).context("no answer")
            }
        }
    }

    /// The address and port the node has put into a description.
    fn described(&self, flags: &str, message: &MediaMessage<'_>) -> Result<SocketAddr> {
        let body = self.order(flags, message)??.context("as it came")?;
        let body = String::from_utf8(body)?;
        let line = |start: &str| {
            let line = body.lines().find_map(|line| line.strip_prefix(start));
            line.map(str::to_owned).with_context(|| format!("no {start} in {body}"))
        };
        let port = line("m=audio ")?.split(' ').next().unwrap_or_default().parse()?;
        Ok(SocketAddr::new(line("c=IN IP4 ")?.parse()?, port))
    }

    fn wait_for_end(&self) -> Result<MediaRecord> {
        self.ended.recv_timeout(PATIENCE).with_context(|| self.node.log())
    }
}

fn message<'a>(
    (method, status): (Method, u16),
    (from, to): (&'a str, &'a str),
    source: IpAddr,
    body: &'a str,
) -> MediaMessage<'a> {
    MediaMessage {
        tags: Tags { call_id: CALL_ID.as_bytes(), from: from.as_bytes(), to: to.as_bytes() },
        method,
        status,
        branch: (status != 0).then_some(0),
        source,
        local: source,
        content_type: b"application/sdp",
        body: body.as_bytes(),
    }
}

/// A phone's description, which names an address that is not its own.
fn sdp(port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 10.255.255.1\r\ns=-\r\nc=IN IP4 10.255.255.1\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

fn rtp(sequence: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xff; 160]);
    packet
}

/// Sends until the other side hears it: the first packets may come before the node is ready.
fn talk(from: &UdpSocket, at: SocketAddr, to: &UdpSocket, ssrc: u32) -> Result<()> {
    to.set_read_timeout(Some(Duration::from_millis(100)))?;
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 2_048];
    for sequence in 0.. {
        from.send_to(&rtp(sequence, ssrc), at)?;
        if let Ok((len, _)) = to.recv_from(&mut buffer)
            && buffer.get(..len).is_some_and(|packet| packet.ends_with(&[0xff; 160]))
        {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "nothing passes from {from:?} by {at}");
    }
    Ok(())
}

const FLAGS: &str = "SIP-source-address replace-origin replace-session-connection";

#[test]
fn rtp_passes_both_ways_and_the_final_counts_are_told() -> Result<()> {
    or_skip!(rtpengine::installed(), "{NOT_THERE}");
    let stand = Stand::new()?;
    let phones = [UdpSocket::bind((own_address(), 0))?, UdpSocket::bind((own_address(), 0))?];
    let [alice, bob] = [phones[0].local_addr()?, phones[1].local_addr()?];
    let offer = sdp(alice.port());
    let to_bob =
        stand.described(FLAGS, &message((Method::Invite, 0), ("a", ""), alice.ip(), &offer))?;
    ensure!(stand.node.knows(CALL_ID)?, "the node has no call");
    let answer = sdp(bob.port());
    let answer = message((Method::Invite, 200), ("a", "b"), bob.ip(), &answer);
    let to_alice = stand.described(FLAGS, &answer)?;
    talk(&phones[0], to_alice, &phones[1], 7)?;
    talk(&phones[1], to_bob, &phones[0], 8)?;

    let shown = stand.relay.show(CALL_ID.as_bytes());
    let [call] = &shown[..] else { bail!("{shown:?}") };
    ensure!(call.node == Some(stand.node.control()) && call.view.answered, "{call:?}");
    let stream = call.view.streams.first().context("no stream")?;
    ensure!(stream.caller.packets > 0 && stream.callee.packets > 0, "{stream:?}");
    ensure!(stream.caller.peer == Some(alice) && stream.caller.local == to_alice, "{stream:?}");

    let bye = message((Method::Bye, 0), ("b", "a"), bob.ip(), "");
    ensure!(stand.order("", &bye)? == Ok(None), "a BYE waits for nobody");
    let record = stand.wait_for_end()?;
    ensure!((&*record.caller_tag, &*record.callee_tag) == ("a", "b"), "{record:?}");
    ensure!(record.reason == EndReason::Ended && record.answered, "{record:?}");
    let [ended] = &record.streams[..] else { bail!("{record:?}") };
    ensure!((&*ended.kind, ended.carrier) == ("audio", Carrier::Node), "{ended:?}");
    ensure!(ended.caller.packets >= stream.caller.packets, "{ended:?}");
    ensure!(ended.caller.octets == ended.caller.packets * 172, "{ended:?}");
    ensure!(!stand.node.knows(CALL_ID)?, "the node still has the call");
    ensure!(stand.relay.list(10).is_empty(), "and so has the relay");
    Ok(())
}

#[test]
fn each_kind_of_flag_is_understood() -> Result<()> {
    or_skip!(rtpengine::installed(), "{NOT_THERE}");
    let stand = Stand::new()?;
    let offer = sdp(4_000);
    let source = own_address();
    for (n, flags) in [
        "",
        "ICE=keep",
        "TOS=184 address-family=IP4 media-handover",
        "replace-origin",
        "media-address=198.51.100.7",
    ]
    .into_iter()
    .enumerate()
    {
        let from = format!("a{n}");
        let message = message((Method::Invite, 0), (&from, ""), source, &offer);
        let told = stand.described(flags, &message).with_context(|| stand.node.log())?;
        let named = flags.contains("media-address");
        let wanted = if named { "198.51.100.7".parse()? } else { stand.node.control().ip() };
        ensure!(told.ip() == wanted, "{flags}: {told}");
        let tags = message.tags;
        stand.relay.refused(Now::default(), tags, None);
        ensure!(stand.wait_for_end()?.reason == EndReason::Refused, "{flags}");
    }
    let log = stand.node.log();
    let unknown: Vec<&str> = log.lines().filter(|line| line.contains("Unknown")).collect();
    ensure!(unknown.is_empty(), "{unknown:?}");
    Ok(())
}

#[test]
fn each_branch_has_its_own_media_and_a_failed_one_ends_alone() -> Result<()> {
    or_skip!(rtpengine::installed(), "{NOT_THERE}");
    let stand = Stand::new()?;
    let (offer, source) = (sdp(4_000), own_address());
    let mut told = Vec::new();
    for branch in 0..2 {
        let invite = message((Method::Invite, 0), ("a", ""), source, &offer);
        told.push(stand.described("", &MediaMessage { branch: Some(branch), ..invite })?);
    }
    ensure!(told[0] != told[1], "the branches share {}", told[0]);
    let answer = message((Method::Invite, 200), ("a", "b"), source, &offer);
    stand.described("", &MediaMessage { branch: Some(1), ..answer })?;
    let tags = message((Method::Invite, 0), ("a", ""), source, "").tags;
    stand.relay.refused(Now::default(), tags, Some(0));
    // Commands of a call go one after the other: this one comes after the end of the branch.
    ensure!(stand.relay.show(CALL_ID.as_bytes()).len() == 1, "the call has gone with its branch");
    ensure!(stand.node.knows(CALL_ID)?, "the node has lost the call");
    let again = message((Method::Invite, 0), ("a", "b"), source, &offer);
    stand.described("", &again)?;
    let bye = message((Method::Bye, 0), ("a", "b"), source, "");
    ensure!(stand.order("", &bye)? == Ok(None), "a BYE waits for nobody");
    stand.wait_for_end()?;
    ensure!(!stand.node.knows(CALL_ID)?, "the node still has the call");
    Ok(())
}

#[test]
fn what_is_no_description_is_refused_with_the_nodes_reason() -> Result<()> {
    or_skip!(rtpengine::installed(), "{NOT_THERE}");
    let stand = Stand::new()?;
    let invite = message((Method::Invite, 0), ("a", ""), own_address(), "hello");
    let fault = stand.order("", &invite)?.err().context("it was taken")?;
    ensure!(fault.status() == 488, "{fault}");
    ensure!(stand.relay.list(10).is_empty(), "a call has been left behind");
    Ok(())
}

#[test]
fn a_node_that_comes_back_is_found_again() -> Result<()> {
    or_skip!(rtpengine::installed(), "{NOT_THERE}");
    let mut stand = Stand::new()?;
    stand.node.kill_hard()?;
    let (offer, source) = (sdp(4_000), own_address());
    let invite = message((Method::Invite, 0), ("a", ""), source, &offer);
    let fault = stand.order("", &invite)?.err().context("nobody answers, and yet")?;
    ensure!(fault.status() == 503, "{fault}");
    stand.node.start_again()?;
    let deadline = Instant::now() + PATIENCE;
    while !stand.relay.numbers().nodes[0].up {
        ensure!(Instant::now() < deadline, "it is not found again");
        std::thread::sleep(Duration::from_millis(5));
    }
    stand.described("", &invite)?;
    Ok(())
}
