//! `viaduct trace`: calls as a ladder, with what the policy called and decided at each message.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use viaduct_policy::record::case::{Line, Passed};
use viaduct_policy::record::{Case, Header};
use viaduct_transport::tap::pcap;

use super::client::Client;
use super::{Common, TraceArguments, print, replay};
use crate::control::{RecordPart, RecordRequest};

/// How often the router is asked for more.
const TURN: Duration = Duration::from_millis(250);
/// Runs and messages of one trace.
const MOST: u64 = 100_000;
/// Width of the arrow between two parties.
const ARROW: usize = 34;

/// What is shown, in order of time.
enum Step {
    Message(Passed),
    Run(Box<Case>),
}

impl Step {
    fn at_us(&self) -> u64 {
        match self {
            Step::Message(passed) => passed.at_us,
            Step::Run(case) => case.now_ms.saturating_mul(1000),
        }
    }

    fn call_id(&self) -> String {
        let message = match self {
            Step::Message(passed) => &passed.message,
            Step::Run(case) => &case.message,
        };
        header(&text(&message.bytes().unwrap_or_default()), "Call-ID")
    }
}

pub(super) fn run(common: &Common, arguments: &TraceArguments) -> anyhow::Result<bool> {
    let steps = match (&arguments.record, &arguments.party) {
        (Some(file), party) => {
            let steps = from_record(file, party.as_deref())?;
            print(&ladders(&steps, &mut Starts::new()))?;
            steps
        }
        (None, Some(party)) => live(common, arguments, party)?,
        (None, None) => bail!("name a Call-ID or a user, or a record with --record"),
    };
    if let Some(file) = &arguments.pcap {
        let count = write_pcap(file, &steps).with_context(|| file.display().to_string())?;
        print(&format!("{}: {count} messages\n", file.display()))?;
    }
    if steps.is_empty() { print("nothing has passed\n") } else { Ok(true) }
}

fn from_record(file: &Path, party: Option<&str>) -> anyhow::Result<Vec<Step>> {
    let record = replay::read(file)?;
    if record.messages.is_empty() {
        bail!("{}: holds no messages; record with --messages", file.display());
    }
    let mut messages = record.messages.into_iter().peekable();
    let mut steps = Vec::new();
    for (place, case) in record.cases.into_iter().enumerate() {
        while let Some((_, passed)) = messages.next_if(|(before, _)| *before <= place) {
            steps.push(Step::Message(passed));
        }
        steps.push(Step::Run(Box::new(case)));
    }
    steps.extend(messages.map(|(_, passed)| Step::Message(passed)));
    if let Some(party) = party {
        let concerns = |step: &Step| step.call_id() == party || names(step, party);
        let calls: Vec<String> =
            steps.iter().filter(|step| concerns(step)).map(Step::call_id).collect();
        steps.retain(|step| calls.contains(&step.call_id()));
    }
    Ok(in_order(steps))
}

fn names(step: &Step, user: &str) -> bool {
    let Step::Message(passed) = step else { return false };
    let text = text(&passed.message.bytes().unwrap_or_default());
    ["From", "To"].iter().any(|name| header(&text, name).contains(&format!(":{user}@")))
}

/// Shows what passes as it passes, and gives it all in the end.
fn live(common: &Common, arguments: &TraceArguments, party: &str) -> anyhow::Result<Vec<Step>> {
    let request = RecordRequest {
        methods: Vec::new(),
        domain: None,
        share: 1000,
        party: Some(party.to_owned()),
        bodies: arguments.bodies,
        messages: true,
        cases: MOST,
        seconds: arguments.seconds,
    };
    let client = Client::new(common)?;
    let _: Header = client.post("/v1/record", &serde_json::to_vec(&request)?)?;
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let (mut steps, mut starts) = (Vec::new(), Starts::new());
    loop {
        let part: RecordPart = match Instant::now() >= end {
            true => client.delete("/v1/record")?,
            false => client.get("/v1/record")?,
        };
        let mut new = Vec::new();
        for line in &part.cases {
            new.push(match Line::parse(line)? {
                Line::Case(case) => Step::Run(case),
                Line::Passed(passed) => Step::Message(*passed),
            });
        }
        let new = in_order(new);
        print(&ladders(&new, &mut starts))?;
        steps.extend(new);
        if !part.more {
            return Ok(steps);
        }
        std::thread::sleep(TURN);
    }
}

/// By time. A worker tells what came, what was decided and what went in that order, so within a
/// millisecond, and runs know no less, they stay as they are.
fn in_order(mut steps: Vec<Step>) -> Vec<Step> {
    steps.sort_by_key(|step| step.at_us() / 1000);
    steps
}

/// When each call began, microseconds: a ladder may be shown in parts.
type Starts = HashMap<String, u64>;

/// One ladder a Call-ID.
fn ladders(steps: &[Step], starts: &mut Starts) -> String {
    let mut calls: Vec<(String, Vec<&Step>)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for step in steps {
        let call_id = step.call_id();
        let place = *places.entry(call_id.clone()).or_insert_with(|| {
            calls.push((call_id, Vec::new()));
            calls.len().saturating_sub(1)
        });
        if let Some((_, steps)) = calls.get_mut(place) {
            steps.push(step);
        }
    }
    let mut out = String::new();
    for (call_id, steps) in &calls {
        let first_us = steps.first().map_or(0, |step| step.at_us());
        let start_us = *starts.entry(call_id.clone()).or_insert(first_us);
        out += &ladder(call_id, steps, start_us);
    }
    out
}

fn ladder(call_id: &str, steps: &[&Step], start_us: u64) -> String {
    let mut out = format!("Call-ID {call_id}\n");
    for step in steps {
        let after_ms = step.at_us().saturating_sub(start_us) / 1000;
        match step {
            Step::Message(passed) => {
                let arrow = arrow(passed);
                let _ = writeln!(out, "{after_ms:>8} ms  {arrow}");
            }
            Step::Run(case) => {
                let _ = writeln!(out, "{:>8}      {} of {}", "", case.phase, case.policy);
                let calls = case.calls.iter().map(|line| format!("call {line}"));
                let effects = case.effects.iter().map(|line| format!("stage {line}"));
                for line in calls.chain(effects).chain([format!("verdict {}", case.verdict)]) {
                    let _ = writeln!(out, "{:>8}        {line}", "");
                }
            }
        }
    }
    out.push('\n');
    out
}

/// `192.0.2.4:5060 --- INVITE sip:bob@example.com ---> router`
fn arrow(passed: &Passed) -> String {
    let text = text(&passed.message.bytes().unwrap_or_default());
    let line = text.lines().next().unwrap_or_default();
    let what = match line.strip_prefix("SIP/2.0 ") {
        Some(status) => format!("{status} ({})", header(&text, "CSeq")),
        None => line.strip_suffix(" SIP/2.0").unwrap_or(line).to_owned(),
    };
    let short: String = what.chars().take(ARROW.saturating_mul(2)).collect();
    let line = "-".repeat(ARROW.saturating_sub(short.chars().count()).max(2));
    let peer = format!("{}:{}", passed.way.transport, passed.way.remote);
    match passed.came {
        true => format!("{peer:<28} {line} {short} -> router"),
        false => format!("{peer:<28} <- {short} {line} router"),
    }
}

fn header(text: &str, name: &str) -> String {
    let compact = match name {
        "Call-ID" => "i",
        "From" => "f",
        "To" => "t",
        _ => name,
    };
    let is = |label: &str| label.eq_ignore_ascii_case(name) || label.eq_ignore_ascii_case(compact);
    let mut lines = text.lines().skip(1).take_while(|line| !line.is_empty());
    let found = lines.find_map(|line| line.split_once(':').filter(|(label, _)| is(label.trim())));
    found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn write_pcap(file: &Path, steps: &[Step]) -> anyhow::Result<usize> {
    let mut out = BufWriter::new(File::create(file)?);
    pcap::write_head(&mut out)?;
    let mut count = 0usize;
    for step in steps {
        let Step::Message(passed) = step else { continue };
        let ours: SocketAddr = passed.way.local;
        let (from, to) = match passed.came {
            true => (passed.way.remote, ours),
            false => (ours, passed.way.remote),
        };
        pcap::write_record(&mut out, passed.at_us, from, to, &passed.message.bytes()?)?;
        count = count.saturating_add(1);
    }
    out.flush()?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(came: bool, at_us: u64, text: &str) -> Step {
        let came = if came { "true" } else { "false" };
        let text = format!("{text}\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\n\r\n");
        let line = serde_json::json!({ "text": text });
        let json = format!(
            r#"{{"at_us":{at_us},"came":{came},"way":{{"transport":"udp",
            "local":"192.0.2.1:5060","remote":"192.0.2.4:5062"}},"message":{line}}}"#
        );
        match Line::parse(&json).unwrap() {
            Line::Passed(passed) => Step::Message(*passed),
            Line::Case(_) => panic!("a message is no case"),
        }
    }

    fn run(now_ms: u64) -> Step {
        let text = serde_json::json!({ "text": "INVITE sip:b@h SIP/2.0\r\nCall-ID: c1\r\n\r\n" });
        let json = format!(
            r#"{{"phase":"on-request","now_ms":{now_ms},"seed":2,"way":{{"transport":"udp",
            "local":"192.0.2.1:5060","remote":"192.0.2.4:5060"}},"message":{text},
            "traits":[],"calls":["usrloc.lookup(\"location\")"],"policy":"a 1.0.0 00",
            "verdict":"reply 404","effects":["record-route"]}}"#
        );
        match Line::parse(&json).unwrap() {
            Line::Case(case) => Step::Run(case),
            Line::Passed(_) => panic!("a case is no message"),
        }
    }

    #[test]
    fn a_run_stands_between_what_came_and_what_went() {
        let steps = vec![
            message(true, 5_001_000, "ACK sip:b@h SIP/2.0"),
            message(true, 5_000_100, "INVITE sip:b@h SIP/2.0"),
            run(5000),
            message(false, 5_000_100, "SIP/2.0 404 Not Found"),
            message(true, 5_000_900, "BYE sip:b@h SIP/2.0"),
        ];
        let text = ladders(&in_order(steps), &mut Starts::new());
        let places = [
            "INVITE sip:b@h -> router",
            "call usrloc.lookup",
            "stage record-route",
            "verdict reply 404",
            "<- 404 Not Found (1 INVITE)",
            "BYE sip:b@h -> router",
            "ACK sip:b@h -> router",
        ];
        let found: Vec<usize> = places.iter().map(|part| text.find(part).unwrap()).collect();
        assert!(found.is_sorted(), "{text}");
        assert!(text.starts_with("Call-ID c1\n"), "{text}");
    }

    #[test]
    fn a_ladder_shown_in_parts_goes_on_in_its_own_time() {
        let mut starts = Starts::new();
        let first = ladders(&[message(true, 5_000_000, "INVITE sip:b@h SIP/2.0")], &mut starts);
        assert!(first.contains("       0 ms"), "{first}");
        let later = ladders(&[message(false, 5_180_000, "SIP/2.0 180 Ringing")], &mut starts);
        assert!(later.starts_with("Call-ID c1\n") && later.contains("     180 ms"), "{later}");
        assert!(ladders(&[], &mut starts).is_empty());
    }

    #[test]
    fn a_capture_holds_each_message() {
        let dir = crate::scratch::Scratch::new();
        let file = dir.path().join("t.pcap");
        let steps = [message(true, 5_000_100, "INVITE sip:b@h SIP/2.0"), run(5000)];
        assert_eq!(write_pcap(&file, &steps).unwrap(), 1);
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(bytes[..4], 0xa1b2_c3d4_u32.to_le_bytes());
        assert!(bytes.windows(6).any(|part| part == b"INVITE"));
    }
}
