//! Reading flag strings: first cut into (name, argument) pairs, then the pairs are given a meaning.

use super::{FlagError, LookupFlags, Matching, PathMode, SaveFlags, UaFilter};

/// One known flag: letter, name, and whether it takes an argument.
struct Known {
    letter: char,
    name: &'static str,
    argument: Argument,
}

#[derive(Clone, Copy, PartialEq)]
enum Argument {
    None,
    Number,
    Matching,
    /// Letter form `p0`, `p1`, `p2`: each digit is a name of its own.
    PathDigit,
    /// `/re/`, in which `\/` is a slash.
    Regex,
}

const fn known(letter: char, name: &'static str, argument: Argument) -> Known {
    Known { letter, name, argument }
}

const SAVE: [Known; 11] = [
    known('m', "memory-only", Argument::None),
    known('r', "no-reply", Argument::None),
    known('c', "max-contacts", Argument::Number),
    known('f', "force-registration", Argument::None),
    known('M', "matching-mode", Argument::Matching),
    known('p', "", Argument::PathDigit),
    known('v', "path-received", Argument::None),
    known('o', "only-request-contacts", Argument::None),
    known('s', "socket-header", Argument::None),
    known('e', "min-expires", Argument::Number),
    known('E', "max-expires", Argument::Number),
];

const PATH_MODES: [(&str, PathMode); 3] =
    [("path-off", PathMode::Off), ("path-lazy", PathMode::Lazy), ("path-strict", PathMode::Strict)];

const LOOKUP: [Known; 10] = [
    known('b', "no-branches", Argument::None),
    known('B', "to-branches-only", Argument::None),
    known('m', "method-filtering", Argument::None),
    known('r', "branch", Argument::None),
    known('u', "ua-filtering", Argument::Regex),
    known('i', "case-insensitive", Argument::None),
    known('e', "extended-regexp", Argument::None),
    known('g', "global", Argument::None),
    known('y', "max-ping-latency", Argument::Number),
    known('Y', "sort-by-latency", Argument::None),
];

/// A flag with its argument, whichever way it was spelled.
struct Item<'a> {
    name: &'static str,
    /// As written, for messages.
    written: &'a str,
    argument: &'a str,
}

/// R-S1: a comma or a known name of two letters or more makes it the named form.
fn is_named(text: &str, known: &[Known]) -> bool {
    let first = text.split('=').next().unwrap_or(text).trim();
    // A comma inside of `/re/` is the expression's.
    let slash = text.find('/').unwrap_or(text.len());
    let (before, expression) = text.split_at_checked(slash).unwrap_or((text, ""));
    let after = expression.get(regex_len(expression)..).unwrap_or("");
    before.contains(',') || after.contains(',') || canonical_name(first, known).is_some()
}

fn canonical_name(name: &str, known: &[Known]) -> Option<&'static str> {
    let mode = PATH_MODES.iter().map(|(mode, _)| *mode).find(|mode| *mode == name);
    let mode = mode.filter(|_| known.iter().any(|k| k.argument == Argument::PathDigit));
    let usual = known.iter().filter(|k| k.argument != Argument::PathDigit).map(|k| k.name);
    mode.or_else(|| usual.into_iter().find(|known| *known == name))
}

fn items<'a>(text: &'a str, known: &[Known]) -> Result<Vec<Item<'a>>, FlagError> {
    let text = text.trim();
    if is_named(text, known) { named(text, known) } else { letters(text, known) }
}

fn named<'a>(text: &'a str, known: &[Known]) -> Result<Vec<Item<'a>>, FlagError> {
    let mut items = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (written, next) = rest.split_at_checked(named_len(rest)).unwrap_or((rest, ""));
        rest = next.strip_prefix(',').unwrap_or(next);
        let written = written.trim();
        if written.is_empty() {
            continue;
        }
        let (name, argument) = match written.split_once('=') {
            Some((name, argument)) => (name.trim_end(), Some(argument.trim())),
            None => (written, None),
        };
        let Some(name) = canonical_name(name, known) else {
            return Err(FlagError::Unknown(written.to_owned()));
        };
        let kind = known.iter().find(|k| k.name == name).map_or(Argument::None, |k| k.argument);
        let wanted = kind != Argument::None;
        if wanted != argument.is_some_and(|argument| !argument.is_empty()) {
            return Err(FlagError::Argument(written.to_owned()));
        }
        items.push(Item { name, written, argument: argument.unwrap_or("") });
    }
    Ok(items)
}

/// Bytes of the first item of a list: to the comma, which inside of `=/re/` separates nothing.
fn named_len(text: &str) -> usize {
    let comma = text.find(',').unwrap_or(text.len());
    let Some(start) = text.get(..comma).and_then(|item| item.find("=/")) else { return comma };
    let after = text.get(start + 1..).unwrap_or("");
    match regex_len(after) {
        0 => comma,
        length => {
            let end = start + 1 + length;
            end + text.get(end..).and_then(|rest| rest.find(',')).unwrap_or(text.len() - end)
        }
    }
}

fn letters<'a>(text: &'a str, known: &[Known]) -> Result<Vec<Item<'a>>, FlagError> {
    let mut items = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let after = rest.get(letter.len_utf8()..).unwrap_or("");
        let Some(flag) = known.iter().find(|k| k.letter == letter) else {
            return Err(FlagError::Unknown(letter.to_string()));
        };
        let length = match flag.argument {
            Argument::None => 0,
            Argument::Number => after.len() - after.trim_start_matches(digit).len(),
            Argument::PathDigit => usize::from(after.starts_with(['0', '1', '2'])),
            Argument::Matching => matching_len(after),
            Argument::Regex => regex_len(after),
        };
        let (argument, next) = after.split_at_checked(length).unwrap_or((after, ""));
        let written = rest.get(..letter.len_utf8() + length).unwrap_or(rest);
        if argument.is_empty() && flag.argument != Argument::None {
            return Err(FlagError::Argument(written.to_owned()));
        }
        let name = match (flag.argument, argument) {
            (Argument::PathDigit, "0") => "path-off",
            (Argument::PathDigit, "1") => "path-lazy",
            (Argument::PathDigit, _) => "path-strict",
            _ => flag.name,
        };
        items.push(Item { name, written, argument });
        rest = next;
    }
    Ok(items)
}

fn digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// `0`, `1` or `<name>`.
fn matching_len(text: &str) -> usize {
    match text.chars().next() {
        Some('<') => text.find('>').map_or(0, |end| end + 1),
        Some(c) if c.is_ascii_digit() => 1,
        _ => 0,
    }
}

/// `/re/`: to the first slash that has no backslash before it; 0 where there is none.
fn regex_len(text: &str) -> usize {
    let Some(inner) = text.strip_prefix('/') else { return 0 };
    let mut escaped = false;
    let end = inner.bytes().position(|byte| {
        let ends = byte == b'/' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(0, |end| end + 2)
}

/// What stands between the slashes.
fn pattern(item: &Item<'_>) -> Result<String, FlagError> {
    let text = item.argument;
    let inner = text.strip_prefix('/').and_then(|text| text.strip_suffix('/'));
    let whole = regex_len(text) == text.len();
    match inner.filter(|inner| whole && !inner.is_empty()) {
        Some(inner) => Ok(inner.replace("\\/", "/")),
        None => Err(FlagError::Argument(item.written.to_owned())),
    }
}

fn number<T: std::str::FromStr>(item: &Item<'_>) -> Result<T, FlagError> {
    let digits = item.argument.chars().all(digit);
    let value = item.argument.parse().ok().filter(|_| digits);
    value.ok_or_else(|| FlagError::Argument(item.written.to_owned()))
}

fn matching(item: &Item<'_>) -> Result<Matching, FlagError> {
    let fault = || FlagError::Argument(item.written.to_owned());
    match item.argument {
        "0" => Ok(Matching::Contact),
        "1" => Ok(Matching::ContactAndCallId),
        other => {
            let name = other.strip_prefix('<').and_then(|name| name.strip_suffix('>'));
            let name = name.filter(|name| !name.is_empty() && name.bytes().all(is_token));
            Ok(Matching::Param(name.ok_or_else(fault)?.into()))
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// Sets a value; another value set before is a contradiction.
struct Setter<'a, 'b> {
    item: &'b Item<'a>,
    before: &'b [Item<'a>],
}

impl Setter<'_, '_> {
    fn set<T: PartialEq>(&self, slot: &mut Option<T>, value: T) -> Result<(), FlagError> {
        if slot.as_ref().is_some_and(|old| *old != value) {
            let kind = |name: &str| name.starts_with("path-") && name != "path-received";
            let same = |other: &&Item<'_>| {
                other.name == self.item.name || (kind(other.name) && kind(self.item.name))
            };
            let other = self.before.iter().find(same).map_or("", |other| other.written);
            return Err(FlagError::Conflict(other.to_owned(), self.item.written.to_owned()));
        }
        *slot = Some(value);
        Ok(())
    }
}

pub(super) fn save(text: &str) -> Result<SaveFlags, FlagError> {
    let items = items(text, &SAVE)?;
    let mut flags = SaveFlags::default();
    for (index, item) in items.iter().enumerate() {
        let setter = Setter { item, before: items.get(..index).unwrap_or_default() };
        match item.name {
            "memory-only" => flags.memory_only = true,
            "no-reply" => flags.no_reply = true,
            "max-contacts" => setter.set(&mut flags.max_contacts, number(item)?)?,
            "force-registration" => flags.force = true,
            "matching-mode" => setter.set(&mut flags.matching, matching(item)?)?,
            "path-received" => flags.path_received = true,
            "only-request-contacts" => flags.only_request_contacts = true,
            "socket-header" => flags.socket_header = true,
            "min-expires" => setter.set(&mut flags.min_expires_s, number(item)?)?,
            "max-expires" => setter.set(&mut flags.max_expires_s, number(item)?)?,
            name => match PATH_MODES.iter().find(|(mode, _)| *mode == name) {
                // R-S3: more than one Path mode is an error.
                Some((_, mode)) => setter.set(&mut flags.path, *mode)?,
                None => return Err(FlagError::Unknown(item.written.to_owned())),
            },
        }
    }
    match (flags.min_expires_s, flags.max_expires_s) {
        (Some(min), Some(max)) if max != 0 && min > max => {
            let (min, max) = (format!("min-expires={min}"), format!("max-expires={max}"));
            Err(FlagError::Conflict(min, max))
        }
        _ => Ok(flags),
    }
}

pub(super) fn lookup(text: &str) -> Result<LookupFlags, FlagError> {
    let items = items(text, &LOOKUP)?;
    let mut flags = LookupFlags::default();
    let (mut expression, mut any_case, mut extended) = (None, false, false);
    for (index, item) in items.iter().enumerate() {
        let setter = Setter { item, before: items.get(..index).unwrap_or_default() };
        match item.name {
            "no-branches" => flags.no_branches = true,
            "to-branches-only" => flags.to_branches_only = true,
            "branch" => flags.branch = true,
            "method-filtering" => flags.method_filtering = true,
            "ua-filtering" => setter.set(&mut expression, pattern(item)?)?,
            "case-insensitive" => any_case = true,
            "extended-regexp" => extended = true,
            "max-ping-latency" => setter.set(&mut flags.max_ping_latency_us, number(item)?)?,
            "sort-by-latency" => flags.sort_by_latency = true,
            name => return Err(FlagError::Unsupported(name)),
        }
    }
    for (set, other) in [(flags.to_branches_only, "to-branches-only"), (flags.branch, "branch")] {
        if flags.no_branches && set {
            return Err(FlagError::Conflict("no-branches".to_owned(), other.to_owned()));
        }
    }
    flags.ua = match expression {
        Some(expression) => Some(UaFilter::new(&expression, any_case, extended)?),
        None if any_case => return Err(FlagError::Needs("case-insensitive", "ua-filtering")),
        None if extended => return Err(FlagError::Needs("extended-regexp", "ua-filtering")),
        None => None,
    };
    Ok(flags)
}
