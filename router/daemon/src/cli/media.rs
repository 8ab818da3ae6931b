//! `viaduct media list|show|kill`.

use super::client::{Client, encode};
use super::{Common, MediaCommand, print};
use crate::admin::Killed;
use crate::control::{MediaCall, MediaLeg, MediaStream};

pub(super) fn run(common: &Common, command: &MediaCommand) -> anyhow::Result<bool> {
    let client = Client::new(common)?;
    match command {
        MediaCommand::List => {
            let calls: Vec<MediaCall> = client.get("/v1/media")?;
            show(common, &calls, line)
        }
        MediaCommand::Show { call_id } => {
            let calls: Vec<MediaCall> = client.get(&format!("/v1/media/{}", encode(call_id)))?;
            show(common, &calls, whole)
        }
        MediaCommand::Kill { call_id } => {
            let killed: Killed = client.delete(&format!("/v1/media/{}", encode(call_id)))?;
            if common.json {
                return print(&format!("{}\n", serde_json::to_string(&killed)?));
            }
            print(&format!("{call_id}: media of {} ended\n", calls_in_words(killed.killed)))
        }
    }
}

fn show(
    common: &Common,
    calls: &[MediaCall],
    words: impl Fn(&MediaCall) -> String,
) -> anyhow::Result<bool> {
    if common.json {
        return print(&format!("{}\n", serde_json::to_string(calls)?));
    }
    print(&calls.iter().map(words).collect::<String>())
}

fn calls_in_words(count: usize) -> String {
    if count == 1 { "1 call".to_owned() } else { format!("{count} calls") }
}

fn line(call: &MediaCall) -> String {
    let state = if call.answered { "answered" } else { "early" };
    let packets = call.streams.iter().map(|s| s.caller.packets + s.callee.packets);
    let packets: u64 = packets.sum();
    let kinds: Vec<&str> = call.streams.iter().map(|stream| stream.kind.as_str()).collect();
    let kinds = kinds.join("+");
    let mut carriers: Vec<&str> = call.streams.iter().map(|s| s.carrier.as_str()).collect();
    carriers.dedup();
    let carriers = carriers.join("+");
    let MediaCall { call_id, age_s, node, .. } = call;
    match node {
        // What streams it has, the node knows.
        Some(node) if kinds.is_empty() => format!("{call_id}  {state}  {age_s} s  node {node}\n"),
        Some(node) => {
            format!("{call_id}  {state}  {age_s} s  {kinds}  {packets} packets  node {node}\n")
        }
        None => format!("{call_id}  {state}  {age_s} s  {kinds}  {packets} packets  {carriers}\n"),
    }
}

fn whole(call: &MediaCall) -> String {
    let mut text = line(call);
    text += &format!("  tags    {} {}\n", call.caller_tag, call.callee_tag);
    for stream in &call.streams {
        let MediaStream { kind, carrier, .. } = stream;
        text += &format!("  {kind} caller  {}, {carrier}\n", leg(&stream.caller));
        text += &format!("  {kind} callee  {}, {carrier}\n", leg(&stream.callee));
    }
    text
}

fn leg(leg: &MediaLeg) -> String {
    let peer = if leg.peer.is_empty() { "unknown" } else { &leg.peer };
    let state = if leg.locked { "locked" } else { "learning" };
    let MediaLeg { local, packets, octets, dropped, .. } = leg;
    let mut text = format!(
        "{peer} -> {local}  {state}  {packets} packets, {octets} octets, {dropped} dropped"
    );
    if let (Some(lost), Some(jitter_us), Some(mos)) = (leg.lost, leg.jitter_us, leg.mos) {
        text += &format!(", {lost} lost, jitter {jitter_us} us, MOS {mos:.2}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_on_a_node_says_on_which() {
        let leg = MediaLeg {
            local: "192.0.2.9:30000".to_owned(),
            peer: String::new(),
            locked: false,
            packets: 4,
            octets: 9,
            dropped: 0,
            lost: None,
            jitter_us: None,
            mos: None,
        };
        let stream = MediaStream {
            kind: "audio".to_owned(),
            carrier: "node".to_owned(),
            caller: leg.clone(),
            callee: leg,
        };
        let mut call = MediaCall {
            call_id: "c".to_owned(),
            caller_tag: "a".to_owned(),
            callee_tag: "b".to_owned(),
            age_s: 3,
            answered: true,
            node: Some("192.0.2.10:2223".to_owned()),
            streams: Vec::new(),
        };
        assert_eq!(line(&call), "c  answered  3 s  node 192.0.2.10:2223\n");
        call.streams.push(stream);
        assert_eq!(line(&call), "c  answered  3 s  audio  8 packets  node 192.0.2.10:2223\n");
        call.node = None;
        assert_eq!(line(&call), "c  answered  3 s  audio  8 packets  node\n");
    }
}
