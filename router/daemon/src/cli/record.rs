//! `viaduct record`: what policies decide, into a file.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use viaduct_policy::record::Header;

use super::client::Client;
use super::{Common, RecordArguments, print};
use crate::control::{RecordPart, RecordRequest};

/// How often the router is asked for more.
const TURN: Duration = Duration::from_millis(250);

pub(super) fn run(common: &Common, arguments: &RecordArguments) -> anyhow::Result<bool> {
    let share = (arguments.share * 10.0).round();
    if !(1.0..=1000.0).contains(&share) {
        bail!("--share {}: allowed are 0.1 to 100 percent", arguments.share);
    }
    let request = RecordRequest {
        methods: arguments.methods.clone(),
        domain: arguments.domain.clone(),
        share: share as u16,
        party: arguments.party.clone(),
        bodies: arguments.bodies,
        messages: arguments.messages,
        cases: arguments.cases,
        seconds: arguments.seconds,
    };
    let client = Client::new(common)?;
    // Who called whom is nobody else's business.
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600);
    let file = file.open(&arguments.file).with_context(|| arguments.file.display().to_string())?;
    let mut out = BufWriter::new(file);
    let header: Header = client.post("/v1/record", &serde_json::to_vec(&request)?)?;
    let mut bytes = write_line(&mut out, &serde_json::to_string(&header)?)?;
    let bar = progress(arguments.cases);
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut cases = 0u64;
    let lost = loop {
        let full = bytes >= arguments.max_bytes;
        let part: RecordPart = match full || Instant::now() >= end {
            true => client.delete("/v1/record")?,
            false => client.get("/v1/record")?,
        };
        for line in &part.cases {
            if bytes.saturating_add(line.len() as u64) > arguments.max_bytes {
                bytes = arguments.max_bytes;
                break;
            }
            bytes = bytes.saturating_add(write_line(&mut out, line)?);
            // The other lines are messages.
            cases = cases.saturating_add(u64::from(line.starts_with("{\"phase\"")));
        }
        // Whoever stops it by hand keeps what there is.
        out.flush().with_context(|| arguments.file.display().to_string())?;
        bar.set_position(cases);
        if !part.more {
            break part.lost;
        }
        std::thread::sleep(TURN);
    };
    bar.finish_and_clear();
    let lost = if lost > 0 { format!(", {lost} lost: too many at a time") } else { String::new() };
    print(&format!("{}: {cases} runs, {bytes} bytes{lost}\n", arguments.file.display()))
}

fn write_line(out: &mut impl Write, line: &str) -> anyhow::Result<u64> {
    writeln!(out, "{line}").context("the record cannot be written")?;
    Ok((line.len() as u64).saturating_add(1))
}

pub(super) fn progress(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}
