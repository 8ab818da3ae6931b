//! `viaduct replay`: recorded runs made again with another version of a policy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use viaduct_engine::Settings;
use viaduct_policy::record::case::{FORMAT, Line, Passed};
use viaduct_policy::record::{Case, Header, Replay, Replayed};
use viaduct_policy::{Manifest, PolicyCatalog, WorkerOptions};

use super::record::progress;
use super::{Common, ReplayArguments, policy, print};
use crate::config::{Config, path_keys};
use crate::policy_tests::virtual_settings;
use crate::runtime::record::settings;

/// Kinds of differences that are shown, and longest line of a record.
const SHOWN: usize = 20;
const MOST_LINE_BYTES: u64 = 4 << 20;

/// What was recorded.
pub(super) struct Record {
    pub(super) header: Header,
    pub(super) cases: Vec<Case>,
    /// Each with the number of cases that stand before it.
    pub(super) messages: Vec<(usize, Passed)>,
}

pub(super) fn run(common: &Common, arguments: &ReplayArguments) -> anyhow::Result<bool> {
    let record = read(&arguments.file)?;
    let component = policy::read(&arguments.policy)?;
    let settings = settings_for(common, &record.header)?;
    let catalog = PolicyCatalog::in_memory()?;
    catalog.deploy(&component).with_context(|| arguments.policy.display().to_string())?;
    let mut replay = Replay::new(catalog.worker(WorkerOptions::default())?, &settings);
    let Some(number) = arguments.case else {
        return summarise(common, &record, &mut replay);
    };
    let case = number.checked_sub(1).and_then(|index| record.cases.get(index));
    let case = case.ok_or_else(|| {
        anyhow!("there is no case {number}; the record has 1 to {}", record.cases.len())
    })?;
    if let Some(dir) = &arguments.save_test {
        return save_test(dir, number, case, &record.header);
    }
    let replayed = replay.run(case)?;
    print(&whole(number, case, &replayed))?;
    Ok(replayed.same)
}

pub(super) fn read(file: &Path) -> anyhow::Result<Record> {
    let place = |line: usize| format!("{} line {line}", file.display());
    let opened = File::open(file).with_context(|| file.display().to_string())?;
    let mut reader = BufReader::new(opened);
    let (mut header, mut cases, mut messages) = (None, Vec::new(), Vec::new());
    let mut number = 0usize;
    loop {
        let mut line = String::new();
        number = number.saturating_add(1);
        let read = reader.by_ref().take(MOST_LINE_BYTES).read_line(&mut line);
        if read.with_context(|| place(number))? == 0 {
            break;
        }
        let line = line.trim_end();
        if header.is_none() {
            let first: Header = serde_json::from_str(line).with_context(|| place(number))?;
            if first.format != FORMAT {
                bail!("{}: format {}; this version reads {FORMAT}", place(number), first.format);
            }
            header = Some(first);
        } else if !line.is_empty() {
            match Line::parse(line).with_context(|| place(number))? {
                Line::Case(case) => cases.push(*case),
                Line::Passed(passed) => messages.push((cases.len(), *passed)),
            }
        }
    }
    let header = header.ok_or_else(|| anyhow!("{}: is empty", file.display()))?;
    Ok(Record { header, cases, messages })
}

/// The configuration's settings, where one is named; as they were where it was recorded.
fn settings_for(common: &Common, header: &Header) -> anyhow::Result<Settings> {
    let base = match &common.config {
        Some(file) => {
            let config = Config::load(file)?;
            let keys = path_keys::load_or_create(&config.path_key_file)?;
            config.settings(0, keys, None, [0; 16])
        }
        None => virtual_settings()?,
    };
    settings(&header.setup, base).map_err(|fault| anyhow!("the record's first line: {fault}"))
}

fn summarise(common: &Common, record: &Record, replay: &mut Replay<'_>) -> anyhow::Result<bool> {
    let bar = progress(record.cases.len() as u64);
    let (mut same, mut missing) = (0u64, 0u64);
    let mut kinds: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, case) in record.cases.iter().enumerate() {
        let number = index.saturating_add(1);
        let replayed = replay.run(case).with_context(|| format!("case {number}"))?;
        missing = missing.saturating_add(u64::from(replayed.missing));
        if replayed.same {
            same = same.saturating_add(1);
        } else {
            kinds.entry(kind(case, &replayed)).or_default().push(number);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let differ = kinds.values().map(Vec::len).sum::<usize>();
    if common.json {
        let kinds: BTreeMap<&String, &Vec<usize>> = kinds.iter().collect();
        let value = serde_json::json!({
            "same": same, "different": differ, "missing": missing, "kinds": kinds,
        });
        print(&format!("{value}\n"))?;
        return Ok(differ == 0);
    }
    let mut text =
        format!("{} runs: {same} decided alike, {differ} otherwise\n", same as usize + differ);
    if missing > 0 {
        text.push_str(&format!(
            "{missing} asked for what was not recorded, and were told that there is nothing\n"
        ));
    }
    let mut sorted: Vec<_> = kinds.into_iter().collect();
    sorted.sort_by_key(|(_, cases)| std::cmp::Reverse(cases.len()));
    for (kind, cases) in sorted.iter().take(SHOWN) {
        let first: Vec<String> = cases.iter().take(3).map(ToString::to_string).collect();
        text.push_str(&format!("\n{:>6}  {kind}\n        case {}", cases.len(), first.join(", ")));
        text.push_str(if cases.len() > 3 { ", ...\n" } else { "\n" });
    }
    if sorted.len() > SHOWN {
        text.push_str(&format!("\n{} more kinds\n", sorted.len().saturating_sub(SHOWN)));
    }
    if differ > 0 {
        text.push_str("\n`--case NO` shows one whole; `--save-test DIR` makes it a unit test.\n");
    }
    print(&text)?;
    Ok(differ == 0)
}

/// What a person would call the difference, without what is peculiar to one message.
fn kind(case: &Case, replayed: &Replayed) -> String {
    let method = method(case);
    let verdict = if case.verdict == replayed.verdict {
        format!("{} as before", case.verdict)
    } else {
        format!("{} -> {}", case.verdict, replayed.verdict)
    };
    let word = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
    let only = |these: &[String], others: &[String]| -> Vec<String> {
        let mut words: Vec<String> =
            these.iter().filter(|line| !others.contains(line)).map(word).collect();
        words.dedup();
        words
    };
    let (gone, new) =
        (only(&case.effects, &replayed.effects), only(&replayed.effects, &case.effects));
    let effects = match (gone.is_empty(), new.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!(", without {}", gone.join(", ")),
        (true, false) => format!(", with {}", new.join(", ")),
        (false, false) => format!(", other {}", new.join(", ")),
    };
    format!("{} {method}: {verdict}{effects}", case.phase)
}

fn method(case: &Case) -> String {
    let bytes = case.message.bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let cseq = text.lines().find_map(|line| line.strip_prefix("CSeq:"));
    let method = cseq.and_then(|value| value.split_whitespace().last());
    method.unwrap_or_else(|| text.split(' ').next().unwrap_or_default()).to_owned()
}

/// One case, whole.
fn whole(number: usize, case: &Case, replayed: &Replayed) -> String {
    let bytes = case.message.bytes().unwrap_or_default();
    let mut text = format!("case {number}, {}, from {}\n\n", case.phase, case.way.remote);
    for line in String::from_utf8_lossy(&bytes).lines() {
        text.push_str(&format!("    {line}\n"));
    }
    let list = |verdict: &str, effects: &[String]| {
        let effects: String = effects.iter().map(|line| format!("    {line}\n")).collect();
        format!("    {verdict}\n{effects}")
    };
    text.push_str(&format!("\nrecorded ({})\n", case.policy));
    text.push_str(&list(&case.verdict, &case.effects));
    match replayed.same {
        true => text.push_str("replayed: the same\n"),
        false => {
            text.push_str("replayed\n");
            text.push_str(&list(&replayed.verdict, &replayed.effects));
        }
    }
    if replayed.missing {
        text.push_str("it asked for what was not recorded, and was told that there is nothing\n");
    }
    text
}

/// `cases/NAME.json` of a policy: `viaduct policy test` runs it.
fn save_test(dir: &Path, number: usize, case: &Case, header: &Header) -> anyhow::Result<bool> {
    let manifest = dir.join("policy.toml");
    let text =
        std::fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
    Manifest::parse(&text)?;
    let case = Case { setup: Some(header.setup.clone()), ..case.clone() };
    let folder = dir.join("cases");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = free_name(&folder, &format!("{}-{number}", method(&case).to_lowercase()));
    let pretty = serde_json::to_string_pretty(&case)?;
    std::fs::write(&file, pretty + "\n").with_context(|| file.display().to_string())?;
    print(&format!("{}: `viaduct policy test {}` runs it\n", file.display(), dir.display()))
}

fn free_name(folder: &Path, name: &str) -> PathBuf {
    let clean: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let numbered = (1u32..).map(|n| match n {
        1 => folder.join(format!("{clean}.json")),
        n => folder.join(format!("{clean}-{n}.json")),
    });
    let mut free = numbered.filter(|file| !file.exists());
    free.next().unwrap_or_else(|| folder.join("case.json"))
}

/// Names and contents of a policy's recorded cases, in order of their names.
pub(super) fn saved_cases(dir: &Path) -> anyhow::Result<Vec<(String, Case)>> {
    let folder = dir.join("cases");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let place = || path.display().to_string();
            let text = std::fs::read_to_string(&path).with_context(place)?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.push((format!("cases::{name}"), Case::parse(&text).with_context(place)?));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Runs saved cases as tests; what went otherwise in words.
pub(super) fn run_cases(
    component: &[u8],
    cases: &[(String, Case)],
    filter: Option<&str>,
    tell: &mut dyn FnMut(&str, Result<(), String>),
) -> anyhow::Result<()> {
    let chosen = cases.iter().filter(|(name, _)| filter.is_none_or(|part| name.contains(part)));
    let chosen: Vec<&(String, Case)> = chosen.collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let catalog = PolicyCatalog::in_memory()?;
    catalog.deploy(component)?;
    for (name, case) in chosen {
        let setup = case.setup.clone().unwrap_or_default();
        let settings = settings(&setup, virtual_settings()?)
            .map_err(|fault| anyhow!("{name}: `setup`: {fault}"))?;
        let mut replay = Replay::new(catalog.worker(WorkerOptions::default())?, &settings);
        let replayed = replay.run(case).with_context(|| name.clone())?;
        tell(name, if replayed.same { Ok(()) } else { Err(side_by_side(case, &replayed)) });
    }
    Ok(())
}

/// Recorded and decided now, in two columns.
fn side_by_side(case: &Case, replayed: &Replayed) -> String {
    let lines = |verdict: &str, effects: &[String]| {
        [verdict.to_owned()].into_iter().chain(effects.iter().cloned()).collect::<Vec<_>>()
    };
    let left = lines(&case.verdict, &case.effects);
    let right = lines(&replayed.verdict, &replayed.effects);
    let width = left.iter().map(|line| line.chars().count()).max().unwrap_or(0).clamp(8, 70);
    let mut text = format!("  {:width$}   now\n", "recorded");
    for row in 0..left.len().max(right.len()) {
        let (a, b) = (left.get(row).map_or("", |l| l), right.get(row).map_or("", |r| r));
        let mark = if a == b { ' ' } else { '|' };
        text.push_str(&format!("  {a:width$} {mark} {b}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use viaduct_policy::record::case::Bytes;

    use super::*;

    fn case(verdict: &str, effects: &[&str]) -> Case {
        let text = format!(
            r#"{{"phase":"on-request","now_ms":1,"seed":2,"way":{{"transport":"udp",
            "local":"192.0.2.1:5060","remote":"192.0.2.4:5060"}},"message":{{"text":"x"}},
            "traits":[],"policy":"a 1.0.0 00","verdict":"{verdict}","effects":[]}}"#
        );
        let mut case = Case::parse(&text).unwrap();
        case.message = Bytes::Text("INVITE sip:b@h SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n".to_owned());
        case.effects = effects.iter().map(|&line| line.to_owned()).collect();
        case
    }

    #[test]
    fn differences_are_told_by_their_kind() {
        let replayed = Replayed {
            verdict: "reply 404".to_owned(),
            effects: vec!["record-route".to_owned()],
            same: false,
            missing: false,
        };
        let told = kind(&case("relay", &["target sip:a q=1", "record-route"]), &replayed);
        assert_eq!(told, "on-request INVITE: relay -> reply 404, without target");
        let told = kind(&case("reply 404", &[]), &replayed);
        assert_eq!(told, "on-request INVITE: reply 404 as before, with record-route");
        let columns = side_by_side(&case("relay", &["record-route"]), &replayed);
        assert!(columns.contains("relay        | reply 404\n"), "{columns}");
        assert!(columns.contains("record-route   record-route\n"), "{columns}");
    }
}
