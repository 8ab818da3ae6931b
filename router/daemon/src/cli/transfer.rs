//! `viaduct location export|import|verify|repair`: work on the store itself, without a router.
//!
//! The embedded store has one user at a time, so its router must be stopped; a database may be in
//! use by routers, which see what is imported.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use viaduct_engine::registrar::BindingSet;
use viaduct_engine::{AorKey, Change, CommitFault, Location as _};
use viaduct_location::import::{Import, Options, User, read_database, read_dump};
use viaduct_location::portable::{MAX_LINE_BYTES, from_line, to_line};
use viaduct_location::{LocationService, PostgresConfig, Tls, merge, repair, verify};

use super::{Common, ImportArguments, config_file, print};
use crate::config::{Config, LocationMode};

/// AoRs of a page of an export.
const PAGE: usize = 1000;
/// Commits on their way to the store.
const UNDER_WAY: usize = 8192;

/// All bindings of the store, one AoR a line.
pub(super) fn export(common: &Common, table: &str) -> anyhow::Result<bool> {
    let service = open(&Config::load(&config_file(common))?)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        let (page, next) = service.page(Some(table), from, PAGE);
        for (key, set) in &page {
            writeln!(out, "{}", to_line(key, set)).context("stdout")?;
        }
        cursor = next;
    }
    out.flush().context("stdout")?;
    Ok(true)
}

/// Reads a dump, a database or lines of JSON into the store, and tells what became of every row.
pub(super) fn import(common: &Common, arguments: &ImportArguments) -> anyhow::Result<bool> {
    let config = Config::load(&config_file(common))?;
    let mut report = Report::default();
    if is_connection(&arguments.source) {
        let found = from_database(arguments)?;
        take_over(&config, arguments, found, &mut report)?;
    } else {
        let path = Path::new(&arguments.source);
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let begins = reader.fill_buf().with_context(|| path.display().to_string())?;
        let is_json = begins.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
        let bar = bar(length, "bytes");
        if is_json {
            from_lines(&config, &mut reader, &bar, &mut report)?;
        } else {
            let mut found = Import::new(options(arguments));
            read_dump(&mut reader, &mut found, &mut |at| bar.set_position(at))
                .with_context(|| path.display().to_string())?;
            bar.finish_and_clear();
            take_over(&config, arguments, found, &mut report)?;
        }
        bar.finish_and_clear();
    }
    print(&report.text())?;
    Ok(true)
}

/// Checks the embedded store.
pub(super) fn check(common: &Common) -> anyhow::Result<bool> {
    let config = Config::load(&config_file(common))?;
    if let Some(postgres) = &config.location.postgres {
        // Rows that cannot be read are told by the log.
        let counts = open(&config)?.counts();
        let (place, aors, bindings) = (postgres.place(), counts.aors, counts.bindings);
        return print(&format!("{place}: {aors} AoRs with {bindings} bindings can be read\n"));
    }
    let file = &config.location.file;
    let found = verify(file)?;
    let (aors, bindings) = (found.aors, found.bindings);
    print(&format!("{}: sound, {aors} AoRs with {bindings} bindings\n", file.display()))
}

/// Saves what can be read of a damaged embedded store.
pub(super) fn mend(common: &Common) -> anyhow::Result<bool> {
    let config = Config::load(&config_file(common))?;
    ensure!(config.location.postgres.is_none(), "the store is a database: its own tools repair it");
    let file = &config.location.file;
    if let Ok(found) = verify(file) {
        return print(&format!("{}: sound, {} AoRs: left as it is\n", file.display(), found.aors));
    }
    let done = repair(file)?;
    let cut = match done.cut {
        true => "; a part of the file could not be read at all",
        false => "",
    };
    print(&format!(
        "{}: {} AoRs saved, {} records could not be read{cut}\nthe damaged file is {}\n",
        file.display(),
        done.kept,
        done.unreadable,
        done.old.display(),
    ))
}

fn open(config: &Config) -> anyhow::Result<LocationService> {
    if config.location.mode == LocationMode::Memory {
        bail!("location.mode is \"memory\": nothing is stored");
    }
    Ok(LocationService::open(&config.location.service(), unix_ms())?)
}

fn is_connection(source: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| source.starts_with(scheme))
        || (source.contains("host=") && !Path::new(source).exists())
}

fn options(arguments: &ImportArguments) -> Options {
    Options {
        location: arguments.location_table.clone(),
        subscriber: arguments.subscriber_table.clone(),
        domain: arguments.domain.clone(),
        utc_offset_min: arguments.utc_offset_min,
        now_ms: unix_ms(),
    }
}

fn from_database(arguments: &ImportArguments) -> anyhow::Result<Import> {
    let mut postgres = PostgresConfig::new(&arguments.source, "import");
    postgres.tls = if arguments.insecure { Tls::Require } else { Tls::VerifyFull };
    postgres.password_file = arguments.password_file.clone();
    postgres.check().map_err(|problem| anyhow::anyhow!("connection string: {problem}"))?;
    let mut found = Import::new(options(arguments));
    let bar = bar(0, "rows");
    let tables = [&*arguments.location_table, &*arguments.subscriber_table];
    read_database(&postgres, &tables, &mut found, &mut || bar.inc(1))?;
    bar.finish_and_clear();
    Ok(found)
}

/// Puts what was found into the store and the file with users.
fn take_over(
    config: &Config,
    arguments: &ImportArguments,
    found: Import,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.rows = found.rows;
    for ((table, skip), (count, example)) in found.skipped {
        report.skipped.push(format!("{count} of {table}: {skip} (such as {})", shown(&example)));
    }
    if !found.bindings.is_empty() {
        let service = open(config)?;
        let bar = bar(found.bindings.len() as u64, "AoRs");
        let mut keeper = Keeper::new(&service);
        for (aor, bindings) in found.bindings {
            let key = AorKey { table: (&*arguments.table).into(), aor };
            keeper.put(key, BindingSet { bindings: bindings.into() })?;
            bar.inc(1);
        }
        keeper.finish(report)?;
        service.close();
        bar.finish_and_clear();
    }
    match &arguments.users {
        Some(file) => {
            write_users(file, &found.users)?;
            report.users =
                Some(format!("{} users written to {}", found.users.len(), file.display()));
        }
        None if !found.users.is_empty() => {
            let count = found.users.len();
            report.users = Some(format!("{count} users left out: --users FILE writes them"));
        }
        None => {}
    }
    Ok(())
}

fn from_lines(
    config: &Config,
    reader: &mut dyn BufRead,
    bar: &ProgressBar,
    report: &mut Report,
) -> anyhow::Result<()> {
    let service = open(config)?;
    let mut keeper = Keeper::new(&service);
    let mut faults: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut *reader, MAX_LINE_BYTES as u64);
        let read = limited.read_until(b'\n', &mut line).context("reading")?;
        if read == 0 {
            break;
        }
        bar.inc(read as u64);
        report.rows += 1;
        ensure!(
            read < MAX_LINE_BYTES,
            "line {} is longer than {MAX_LINE_BYTES} bytes",
            report.rows
        );
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        match from_line(text.trim()) {
            Ok((key, set)) => keeper.put(key, set)?,
            Err(fault) => {
                let place = faults.entry(fault).or_insert((0, report.rows));
                place.0 += 1;
            }
        }
    }
    for (fault, (count, first)) in faults {
        report.skipped.push(format!("{count}: {fault} (line {first})"));
    }
    keeper.finish(report)?;
    service.close();
    Ok(())
}

/// Commits, many at a time. A contact that is there keeps the later of the two REGISTERs.
struct Keeper<'a> {
    service: &'a LocationService,
    told: Receiver<Ended>,
    tell: Sender<Ended>,
    under_way: usize,
    kept: u64,
    bindings: u64,
}

type Ended = (AorKey, BindingSet, Result<(), CommitFault>);

impl<'a> Keeper<'a> {
    fn new(service: &'a LocationService) -> Keeper<'a> {
        let (tell, told) = channel();
        Keeper { service, told, tell, under_way: 0, kept: 0, bindings: 0 }
    }

    fn put(&mut self, key: AorKey, set: BindingSet) -> anyhow::Result<()> {
        while self.under_way >= UNDER_WAY {
            self.wait()?;
        }
        self.commit(key, set);
        Ok(())
    }

    fn commit(&mut self, key: AorKey, set: BindingSet) {
        let now = self.service.latest(&key.table, &key.aor);
        let theirs = now.set.unwrap_or_default();
        let merged = Arc::new(merge(&BindingSet::default(), &set, &theirs));
        let change =
            Change { key: key.clone(), based_on: now.version, set: merged, memory_only: false };
        self.under_way += 1;
        let tell = self.tell.clone();
        self.service.commit(vec![change], move |outcome| drop(tell.send((key, set, outcome))));
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let (key, set, outcome) = self.told.recv().context("the store is gone")?;
        self.under_way -= 1;
        match outcome {
            Ok(()) => {
                self.kept += 1;
                self.bindings += set.len() as u64;
            }
            Err(CommitFault::Conflict) => self.commit(key, set),
            Err(CommitFault::Full) => bail!("{}; raise location.max_aors", CommitFault::Full),
            Err(fault) => bail!("{fault}; {} AoRs were stored", self.kept),
        }
        Ok(())
    }

    fn finish(mut self, report: &mut Report) -> anyhow::Result<()> {
        while self.under_way > 0 {
            self.wait()?;
        }
        (report.aors, report.bindings) = (self.kept, self.bindings);
        Ok(())
    }
}

/// The file `[auth] users` of the router: readable for its owner only.
fn write_users(file: &Path, users: &[User]) -> anyhow::Result<()> {
    let mut open = std::fs::OpenOptions::new();
    let out = open.write(true).create_new(true).mode(0o600).open(file);
    let mut out = std::io::BufWriter::new(out.with_context(|| file.display().to_string())?);
    for user in users {
        let mut table = toml::Table::new();
        let mut put = |key: &str, value: &Option<String>| {
            let value = value.clone().map(|value| table.insert(key.to_owned(), value.into()));
            drop(value);
        };
        put("name", &Some(user.name.clone()));
        put("realm", &Some(user.realm.clone()));
        put("password", &user.password);
        for (key, hash) in ["md5", "sha256", "sha512_256"].into_iter().zip(&user.hashes) {
            put(key, hash);
        }
        write!(out, "[[user]]\n{}\n", toml::to_string(&table)?)?;
    }
    out.flush().with_context(|| file.display().to_string())
}

/// What became of everything.
#[derive(Debug, Default)]
struct Report {
    rows: u64,
    aors: u64,
    bindings: u64,
    users: Option<String>,
    skipped: Vec<String>,
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "{} rows read; {} AoRs with {} bindings stored\n",
            self.rows, self.aors, self.bindings
        );
        if let Some(users) = &self.users {
            text.push_str(&format!("{users}\n"));
        }
        for skipped in &self.skipped {
            text.push_str(&format!("skipped {skipped}\n"));
        }
        text
    }
}

/// A bar on a terminal, nothing elsewhere. Without a length it only counts.
fn bar(length: u64, what: &str) -> ProgressBar {
    let bar = if length > 0 { ProgressBar::new(length) } else { ProgressBar::no_length() };
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let template = format!("{{bar:40}} {{human_pos}}/{{human_len}} {what}, {{eta}} left");
    match ProgressStyle::with_template(&template) {
        Ok(style) if length > 0 => bar.with_style(style),
        _ => bar,
    }
}

fn shown(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).take(120).collect()
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_a_connection_are_told_apart() {
        for (source, expected) in [
            ("postgres://kamailio@db/kamailio", true),
            ("host=/run/postgresql dbname=kamailio", true),
            ("kamailio.sql", false),
            ("/var/backups/location.jsonl", false),
        ] {
            assert_eq!(is_connection(source), expected, "{source}");
        }
    }

    #[test]
    fn a_report_names_what_was_skipped() {
        let report = Report {
            rows: 3,
            aors: 1,
            bindings: 2,
            users: None,
            skipped: vec!["1 of location: expired (such as a@b sip:a@h)".to_owned()],
        };
        let text = "3 rows read; 1 AoRs with 2 bindings stored\n\
                    skipped 1 of location: expired (such as a@b sip:a@h)\n";
        assert_eq!(report.text(), text);
    }

    #[test]
    fn names_are_shown_without_control_characters() {
        assert_eq!(shown("a\x1b[2Jb"), "a?[2Jb");
    }
}
