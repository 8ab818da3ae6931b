//! What a run decided and staged, in words: for tests, for comparisons, for people.

use viaduct_engine::dispatcher::DispatcherChange;
use viaduct_engine::media::{Action, Order};
use viaduct_engine::run::{Effects, HeaderEdit};
use viaduct_engine::table::{TableAction, TableChange};
use viaduct_engine::{Phase, Verdict};

pub(crate) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Request => "on-request",
        Phase::Branch => "on-branch",
        Phase::Reply => "on-reply",
        Phase::Failure => "on-failure",
    }
}

pub(crate) fn verdict_in_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Relay => "relay".to_owned(),
        Verdict::Reply { status, reason } if reason.is_empty() => format!("reply {status}"),
        Verdict::Reply { status, reason } => format!("reply {status} {reason}"),
        Verdict::Answered => "answered".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Ask { .. } => "ask".to_owned(),
    }
}

/// What a check of Proxy-Authorization stages.
pub(crate) const REMOVE_CREDENTIALS: &str = "remove credentials";

pub(crate) fn log_line(level: u8, text: &str) -> String {
    let level = match level {
        0 => "error",
        1 => "warn",
        2 => "info",
        3 => "debug",
        _ => "trace",
    };
    format!("{level}: {text}")
}

pub(crate) fn effects_in_words(effects: &Effects) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(answer) = &effects.answer {
        words.push(format!("answer {} {}", answer.status, answer.reason).trim_end().to_owned());
        words.extend(header_lines(&answer.headers).map(|line| format!("answer header {line}")));
    }
    for change in &effects.changes {
        let (table, aor) = (&change.key.table, text(&change.key.aor));
        words.push(format!("bindings of {aor} in {table}: {}", change.set.bindings.len()));
    }
    for target in &effects.targets {
        let mut line = format!("target {} q={}", text(&target.uri), target.q_milli);
        if !target.route.is_empty() {
            line += &format!(" route={}", text(&target.route));
        }
        if !target.destination.is_empty() {
            line += &format!(" destination={}", text(&target.destination));
        }
        words.push(line);
    }
    words.extend(effects.request_uri.iter().map(|uri| format!("request-uri {}", text(uri))));
    words.extend(effects.destination.iter().map(|uri| format!("destination {}", text(uri))));
    if let Some(path) = &effects.path {
        let mut line = "path".to_owned();
        if !path.user.is_empty() {
            line += &format!(" user={}", text(&path.user));
        }
        line += if path.received { " received" } else { "" };
        line += if path.require { " require" } else { "" };
        words.push(line);
    }
    words.extend(effects.record_route.then(|| "record-route".to_owned()));
    words.extend(effects.edits.iter().map(edit_in_words));
    words.extend(header_lines(&effects.reply_headers).map(|line| format!("reply header {line}")));
    words.extend(effects.force_rport.then(|| "force-rport".to_owned()));
    words.extend(effects.media.iter().map(|order| media_in_words(order)));
    words.extend(effects.tables.iter().map(table_in_words));
    words.extend(effects.dispatcher.iter().map(|change| match change {
        DispatcherChange::Turn(set) => format!("dispatcher {set}: next turn"),
        DispatcherChange::Sign { set, uri, alive: true } => {
            format!("dispatcher {set}: {uri} lives")
        }
        DispatcherChange::Sign { set, uri, alive: false } => {
            format!("dispatcher {set}: {uri} failed")
        }
    }));
    words.extend(effects.counters.iter().map(|(name, by)| format!("count {name} {by}")));
    words
}

/// `media manage SIP-source-address`
fn media_in_words(order: &Order) -> String {
    let action = match order.action {
        Action::Offer => "offer",
        Action::Answer => "answer",
        Action::Delete => "delete",
        Action::Manage => "manage",
    };
    format!("media {action} {}", order.flags).trim_end().to_owned()
}

fn table_in_words(change: &TableChange) -> String {
    let TableChange { table, key, action } = change;
    let action = match action {
        TableAction::Set { value, .. } => format!("set {value}"),
        TableAction::Remove => "remove".to_owned(),
        TableAction::Add { by, .. } => format!("add {by}"),
        TableAction::Hit { window_ms } => format!("hit in {window_ms} ms"),
    };
    format!("table {table}: {action} of {key}")
}

fn edit_in_words(edit: &HeaderEdit) -> String {
    match edit {
        HeaderEdit::Add { name, value } => format!("add {}: {}", text(name), text(value)),
        HeaderEdit::Remove { name } => format!("remove {}", text(name)),
        HeaderEdit::RemoveLine { .. } => REMOVE_CREDENTIALS.to_owned(),
    }
}

fn header_lines(headers: &[u8]) -> impl Iterator<Item = String> {
    let lines = headers.split(|c| *c == b'\n').map(|line| text(line).trim_end().to_owned());
    lines.filter(|line| !line.is_empty())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
