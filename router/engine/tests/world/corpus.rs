//! The call flows of RFCs in the corpus: reading them, comparing with them, nodes to play them.
//!
//! Without the corpus (`VIADUCT_CORPUS`, or `../shared/corpus` beside the checkout) the tests are
//! skipped.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use viaduct_engine::{ConnId, Flow, Listener, Settings, Transport};

use super::{Sent, settings};

/// Messages of a flow, or `None` where there is no corpus.
pub fn flow(name: &str) -> Option<Vec<String>> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let corpus = std::env::var_os("VIADUCT_CORPUS").map_or_else(beside, PathBuf::from);
    let flows = corpus.join("flows");
    if !flows.is_dir() {
        skipped(&format!("no call flows at {} (set VIADUCT_CORPUS)", flows.display()));
        return None;
    }
    // Where there are flows, one that is missing is a name misspelt.
    let text = fs::read_to_string(flows.join(name)).unwrap();
    let mut messages: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with("- ") {
            messages.push(String::new());
        } else if let Some(message) = messages.last_mut() {
            message.push_str(line.strip_prefix("  ").unwrap_or(line));
            message.push_str("\r\n");
        }
    }
    for message in &mut messages {
        *message = format!("{}\r\n\r\n", message.trim_end());
    }
    Some(messages)
}

fn skipped(reason: &str) {
    println!("skipped: {reason}");
    let file = std::env::var_os("VIADUCT_SKIPPED");
    let file =
        file.and_then(|file| fs::OpenOptions::new().append(true).create(true).open(file).ok());
    if let Some(mut file) = file {
        let _ = writeln!(file, "skipped: call flows: {reason}");
    }
}

/// What an RFC's example fixes: start line, ids, and the lists routing lives by. Left out are Via
/// (its branch is each hop's own), tags, Date, and the user parts that are flow tokens.
#[derive(Debug, PartialEq)]
pub struct Fixed {
    pub start: String,
    pub ids: Vec<String>,
    pub lists: Vec<(&'static str, Vec<String>)>,
}

pub fn headers(text: &str, name: &str) -> Vec<String> {
    let head = text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
    let prefix = format!("{}:", name.to_lowercase());
    let lines = head.lines().filter(|line| line.to_lowercase().starts_with(&prefix));
    lines.map(|line| line[prefix.len()..].trim().to_owned()).collect()
}

pub fn list(text: &str, name: &str) -> Vec<String> {
    let values = headers(text, name).join(",");
    values.split(',').map(normal).filter(|value| !value.is_empty()).collect()
}

/// One value: no port that is the default, no token, parameters without `received` and blanks.
fn normal(value: &str) -> String {
    let value = value.trim().replace(":5060", "").replace("; ", ";").replace(" ;", ";");
    match (value.find("<sip:"), value.find('@')) {
        (Some(start), Some(at)) if value.contains(";lr") => {
            format!("{}TOKEN{}", &value[..start + 5], &value[at..])
        }
        _ => value,
    }
}

pub fn fixed(text: &str) -> Fixed {
    let untagged = |value: String| value.split(";tag=").next().unwrap().to_owned();
    let ids = ["To", "From", "Call-ID", "CSeq"];
    let ids = ids.iter().flat_map(|name| headers(text, name)).map(untagged).collect();
    let lists = ["Path", "Route", "Record-Route", "Require"];
    Fixed {
        start: text.lines().next().unwrap().to_owned(),
        ids,
        lists: lists.into_iter().map(|name| (name, list(text, name))).collect(),
    }
}

/// Contacts without their order of parameters.
pub fn contacts(text: &str) -> Vec<Vec<String>> {
    let split = |value: &String| {
        let mut parts: Vec<String> = value.split(';').map(|part| part.trim().to_owned()).collect();
        parts.sort();
        parts
    };
    let mut all: Vec<_> = list(text, "Contact").iter().map(split).collect();
    all.sort();
    all
}

pub fn same(what: &str, sent: &str, expected: &str) {
    assert_eq!(fixed(sent), fixed(expected), "{what}\nsent:\n{sent}\nexpected:\n{expected}");
}

/// A node with an address, a name others know it by, and its domains.
pub fn node(addr: &str, name: &str, domains: &[&str]) -> Settings {
    let addr: SocketAddr = addr.parse().unwrap();
    let listener = |transport| Listener { transport, addr, host: name.into(), port: 5060 };
    let mut secret = [0; 16];
    secret.iter_mut().zip(name.bytes()).for_each(|(byte, letter)| *byte = letter);
    Settings {
        listeners: vec![listener(Transport::Udp), listener(Transport::Tcp)],
        domains: domains.iter().map(|domain| domain.to_lowercase().into()).collect(),
        trusted: Vec::new(),
        // Each node its own: one secret would make them one router, and a loop of the way.
        secret,
        ..settings()
    }
}

pub fn between(node: &str, peer: &str, transport: Transport, conn: u64) -> Flow {
    let conn = if transport == Transport::Udp { ConnId::NONE } else { ConnId::new(3, conn) };
    Flow { transport, local: node.parse().unwrap(), remote: peer.parse().unwrap(), conn }
}

pub fn request<'a>(sent: &'a [Sent], method: &str) -> &'a Sent {
    sent.iter().find(|s| s.method() == method).unwrap_or_else(|| panic!("no {method}: {sent:?}"))
}

pub fn final_of(sent: &[Sent]) -> &Sent {
    let answer = sent.iter().find(|s| s.method() == "SIP/2.0" && s.status() >= 200);
    answer.unwrap_or_else(|| panic!("no final response: {sent:?}"))
}
