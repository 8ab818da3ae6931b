//! What a node tells of a call, as [`StreamView`]s. A node counts packets and octets; it knows the
//! quality of a stream only from the RTCP reports of the phones.

use std::net::{IpAddr, SocketAddr};

use viaduct_engine::media::{Carrier, LegView, StreamView};

use super::bencode::{Dict, Value};

/// Streams of one call that are looked at.
const MOST_STREAMS: usize = 64;

/// The streams of a call with these tags, as the answer to `query` or `delete` has them. What is not
/// there, or makes no sense, is left out.
pub(super) fn streams(answer: &Dict, caller: &[u8], callee: &[u8]) -> Vec<StreamView> {
    let Some(Value::Dict(tags)) = answer.get(&b"tags"[..]) else { return Vec::new() };
    let none = Dict::new();
    let quality = answer.get(&b"SSRC"[..]).and_then(Value::dict).unwrap_or(&none);
    let medias = |tag: &[u8]| {
        let medias = tags.get(tag).and_then(|tag| tag.get("medias"));
        medias.map(Value::list).unwrap_or_default()
    };
    let callees = medias(callee);
    let pairs = medias(caller).iter().take(MOST_STREAMS).map(|ours| {
        let index = ours.get("index").and_then(Value::integer);
        let theirs = callees.iter().find(|t| t.get("index").and_then(Value::integer) == index);
        let kind = ours.get("type").map(Value::bytes).unwrap_or_default();
        Some(StreamView {
            kind: kind_of(kind),
            carrier: Carrier::Node,
            caller: leg(ours, quality)?,
            callee: theirs.and_then(|theirs| leg(theirs, quality)).unwrap_or_else(unknown),
        })
    });
    pairs.flatten().collect()
}

/// A word for people; a node is not to forge lines.
fn kind_of(kind: &[u8]) -> Box<str> {
    let legal = |c: &u8| c.is_ascii_alphanumeric() || *c == b'-';
    let short = kind.iter().copied().filter(legal).take(16).map(char::from);
    short.collect::<String>().into()
}

/// One side, RTP and RTCP together.
fn leg(media: &Value, quality: &Dict) -> Option<LegView> {
    let mut streams = media.get("streams").map(Value::list).unwrap_or_default().iter();
    let rtp = streams.next()?;
    let mut leg = LegView {
        local: local(rtp)?,
        peer: peer(rtp),
        locked: has_flag(rtp, b"confirmed"),
        mos_centi: mos_centi(rtp, quality),
        ..unknown()
    };
    for stream in [rtp].into_iter().chain(streams.take(3)) {
        let count = |key: &str| {
            let stats = stream.get("stats");
            stats.and_then(|stats| stats.get(key)).and_then(Value::count).unwrap_or(0)
        };
        leg.packets = leg.packets.saturating_add(count("packets"));
        leg.octets = leg.octets.saturating_add(count("bytes"));
        leg.dropped = leg.dropped.saturating_add(count("errors"));
    }
    Some(leg)
}

fn unknown() -> LegView {
    LegView {
        local: SocketAddr::from(([0, 0, 0, 0], 0)),
        peer: None,
        locked: false,
        packets: 0,
        octets: 0,
        dropped: 0,
        lost: None,
        jitter_us: None,
        mos_centi: None,
    }
}

fn local(stream: &Value) -> Option<SocketAddr> {
    let ip = ip(stream.get("local address")?)?;
    Some(SocketAddr::new(ip, port(stream.get("local port")?)?))
}

fn peer(stream: &Value) -> Option<SocketAddr> {
    let endpoint = stream.get("endpoint")?;
    let ip = ip(endpoint.get("address")?).filter(|ip| !ip.is_unspecified())?;
    Some(SocketAddr::new(ip, port(endpoint.get("port")?)?))
}

fn ip(value: &Value) -> Option<IpAddr> {
    std::str::from_utf8(value.bytes()).ok()?.parse().ok()
}

fn port(value: &Value) -> Option<u16> {
    u16::try_from(value.integer()?).ok()
}

fn has_flag(stream: &Value, wanted: &[u8]) -> bool {
    stream.get("flags").is_some_and(|flags| flags.list().iter().any(|f| f.bytes() == wanted))
}

/// The mean opinion score its receiver has reported, which the node gives in tenths.
fn mos_centi(stream: &Value, quality: &Dict) -> Option<u16> {
    let ssrc = stream.get("SSRC")?.integer()?.to_string();
    let mos = quality.get(ssrc.as_bytes())?.get("average MOS")?.get("MOS")?.integer()?;
    u16::try_from(mos.checked_mul(10)?).ok().filter(|mos| (100..=500).contains(mos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(tag: &str, port: u16, packets: u32) -> String {
        let text = |text: &str| format!("{}:{text}", text.len());
        let stream = |port: u16, packets: u32, flag: &str| {
            format!(
                "d10:local porti{port}e13:local address9:192.0.2.98:endpoint\
                 d7:address9:192.0.2.14:porti{}ee5:flagsl{}9:confirmede4:SSRCi7e5:stats\
                 d7:packetsi{packets}e5:bytesi{}e6:errorsi1eee",
                port + 1_000,
                text(flag),
                packets * 100
            )
        };
        format!(
            "{}d3:tag{}6:mediasld5:indexi1e4:type5:audio7:streamsl{}{}eeee",
            text(tag),
            text(tag),
            stream(port, packets, "RTP"),
            stream(port + 1, 2, "RTCP")
        )
    }

    fn read(text: &str) -> Dict {
        Value::read(text.as_bytes()).unwrap().dict().unwrap().clone()
    }

    #[test]
    fn both_sides_of_a_stream_are_read_with_their_rtcp() {
        let answer = read(&format!(
            "d4:SSRCd1:7d11:average MOSd3:MOSi43eeee4:tagsd{}{}ee",
            side("a", 30_000, 50),
            side("b", 30_010, 49)
        ));
        let streams = streams(&answer, b"a", b"b");
        let [stream] = &streams[..] else { panic!("{streams:?}") };
        assert_eq!((&*stream.kind, stream.carrier), ("audio", Carrier::Node));
        let caller = &stream.caller;
        assert_eq!(caller.local, "192.0.2.9:30000".parse().unwrap());
        assert_eq!(caller.peer, "192.0.2.1:31000".parse().ok());
        assert_eq!((caller.packets, caller.octets, caller.dropped), (52, 5_200, 2));
        assert_eq!((caller.mos_centi, caller.locked), (Some(430), true));
        assert_eq!(stream.callee.packets, 51);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let whole = format!("d4:tagsd{}ee", side("a", 30_000, 50));
        let alone = streams(&read(&whole), b"a", b"b");
        assert_eq!((alone.len(), alone[0].callee.packets), (1, 0));
        assert!(streams(&read(&whole), b"x", b"a").is_empty());
        for (wrong, instead) in [
            ("9:192.0.2.9", "9:192.0.2.x"),
            ("4:tagsd", "4:tagzd"),
            ("10:local porti30000e", "10:local porti70000e"),
            ("7:streamsl", "7:streamzl"),
        ] {
            let text = whole.replace(wrong, instead);
            assert!(streams(&read(&text), b"a", b"b").is_empty(), "{text}");
        }
        let odd = whole.replace("5:audio", "7:au\ndi\"o").replace("i50e", "i-50e");
        let odd = &streams(&read(&odd), b"a", b"b")[0];
        assert_eq!((&*odd.kind, odd.caller.packets), ("audio", 2));
    }
}
