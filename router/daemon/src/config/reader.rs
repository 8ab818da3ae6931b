//! Reads a TOML table key by key, with the place of every key at hand.
//!
//! The reader collects faults and goes on with the default, so that one look at a file finds all of
//! them. It also remembers which keys were asked for: those are the keys that exist, which is how
//! unknown ones are refused and how the example file is kept complete.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;

/// A key that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Full name, array indexes left out.
    pub(crate) name: String,
    /// Default as TOML; empty where it has none.
    pub(crate) default: String,
}

/// One document being read.
pub(crate) struct Sheet<'d> {
    text: &'d str,
    faults: RefCell<Vec<ConfigError>>,
    keys: RefCell<Vec<Key>>,
}

impl<'d> Sheet<'d> {
    pub(crate) fn new(text: &'d str) -> Sheet<'d> {
        Sheet { text, faults: RefCell::default(), keys: RefCell::default() }
    }

    /// The line of a byte offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        let head = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        head.iter().filter(|byte| **byte == b'\n').count().saturating_add(1)
    }

    pub(crate) fn fault(&self, at: usize, key: &str, problem: String, allowed: &str) {
        self.faults.borrow_mut().push(ConfigError {
            line: self.line(at),
            key: key.to_owned(),
            problem,
            allowed: allowed.to_owned(),
        });
    }

    /// Takes the collected faults and keys.
    pub(crate) fn finish(self) -> (Vec<ConfigError>, Vec<Key>) {
        (self.faults.into_inner(), self.keys.into_inner())
    }
}

/// A text with its place, for checks that come later.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) value: String,
    pub(crate) at: usize,
    /// Full name of its key.
    pub(crate) key: String,
}

/// One table of the document; absent tables give defaults.
pub(crate) struct Section<'s, 'd> {
    sheet: &'s Sheet<'d>,
    /// Name with indexes, ending in a dot; empty at the top.
    path: String,
    /// Byte offset to blame for what is missing.
    at: usize,
    table: Option<&'s DeTable<'d>>,
    known: Vec<&'static str>,
}

impl<'s, 'd> Section<'s, 'd> {
    pub(crate) fn top(sheet: &'s Sheet<'d>, table: &'s DeTable<'d>) -> Section<'s, 'd> {
        Section { sheet, path: String::new(), at: 0, table: Some(table), known: Vec::new() }
    }

    pub(crate) fn sheet(&self) -> &'s Sheet<'d> {
        self.sheet
    }

    /// Where the table starts.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Full name of one of its keys.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// Byte offset of a key, or of the table where the key is absent.
    pub(crate) fn place(&self, key: &str) -> usize {
        let found =
            self.table.and_then(|table| table.iter().find(|(name, _)| *name.get_ref() == key));
        found.map_or(self.at, |(name, _)| name.span().start)
    }

    fn remember(&mut self, key: &'static str, default: &str) {
        self.known.push(key);
        let name = without_indexes(&self.name(key));
        let mut keys = self.sheet.keys.borrow_mut();
        if !keys.iter().any(|known| known.name == name) {
            keys.push(Key { name, default: default.to_owned() });
        }
    }

    fn value(&mut self, key: &'static str, default: &str) -> Option<&'s Spanned<DeValue<'d>>> {
        self.remember(key, default);
        let mut entries = self.table?.iter();
        entries.find(|(name, _)| *name.get_ref() == key).map(|(_, value)| value)
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'d>>, allowed: &str) {
        let problem = format!("is {}", written(value.get_ref()));
        self.sheet.fault(value.span().start, &self.name(key), problem, allowed);
    }

    /// A whole number in a range.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let Some(value) = self.value(key, &default.to_string()) else {
            return default;
        };
        if let DeValue::Integer(integer) = value.get_ref()
            && let Ok(number) = u64::from_str_radix(integer.as_str(), integer.radix())
            && range.contains(&number)
        {
            return number;
        }
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.wrong(key, value, &allowed);
        default
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.value(key, &default.to_string()) else {
            return default;
        };
        match value.get_ref() {
            DeValue::Boolean(flag) => *flag,
            _ => {
                self.wrong(key, value, "true or false");
                default
            }
        }
    }

    /// A text that is not empty; `default` is only shown, as TOML.
    pub(crate) fn text(&mut self, key: &'static str, default: &str, allowed: &str) -> Option<Text> {
        self.text_if(key, default, allowed, |text| !text.is_empty())
    }

    /// A text that passes a test.
    pub(crate) fn text_if(
        &mut self,
        key: &'static str,
        default: &str,
        allowed: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Option<Text> {
        let value = self.value(key, default)?;
        match value.get_ref() {
            DeValue::String(text) if fits(text) => {
                Some(Text { value: text.to_string(), at: value.span().start, key: self.name(key) })
            }
            _ => {
                self.wrong(key, value, allowed);
                None
            }
        }
    }

    /// A text that is never shown.
    pub(crate) fn secret(&mut self, key: &'static str, allowed: &str) -> Option<Text> {
        let value = self.value(key, "")?;
        let (at, key) = (value.span().start, self.name(key));
        match value.get_ref() {
            DeValue::String(text) => Some(Text { value: text.to_string(), at, key }),
            _ => {
                self.sheet.fault(at, &key, "is no text".into(), allowed);
                None
            }
        }
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        default: (&str, T),
    ) -> T {
        let Some(value) = self.value(key, &format!("\"{}\"", default.0)) else {
            return default.1;
        };
        if let DeValue::String(text) = value.get_ref()
            && let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text.as_ref())
        {
            return *meaning;
        }
        let allowed: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        self.wrong(key, value, &allowed.join(", "));
        default.1
    }

    /// A list of texts, at most `most`.
    pub(crate) fn texts(
        &mut self,
        key: &'static str,
        most: usize,
        default: &str,
        allowed: &str,
    ) -> Option<Vec<Text>> {
        let value = self.value(key, default)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong(key, value, allowed);
            return None;
        };
        if items.len() > most {
            let problem = format!("has {} entries", items.len());
            let allowed = format!("at most {most}");
            self.sheet.fault(value.span().start, &self.name(key), problem, &allowed);
        }
        let mut texts = Vec::new();
        for item in items.iter().take(most) {
            match item.get_ref() {
                DeValue::String(text) => texts.push(Text {
                    value: text.to_string(),
                    at: item.span().start,
                    key: self.name(key),
                }),
                _ => self.wrong(key, item, allowed),
            }
        }
        Some(texts)
    }

    /// A table, `[key]`.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'s, 'd> {
        self.known.push(key);
        let path = format!("{}.", self.name(key));
        let found =
            self.table.and_then(|table| table.iter().find(|(name, _)| *name.get_ref() == key));
        let mut section =
            Section { sheet: self.sheet, path, at: self.at, table: None, known: Vec::new() };
        if let Some((name, value)) = found {
            section.at = name.span().start;
            match value.get_ref() {
                DeValue::Table(table) => section.table = Some(table),
                _ => self.wrong(key, value, &format!("a table, [{}]", self.name(key))),
            }
        }
        section
    }

    /// A list of tables, `[[key]]`, at most `most`.
    pub(crate) fn sections(&mut self, key: &'static str, most: usize) -> Vec<Section<'s, 'd>> {
        self.known.push(key);
        let found =
            self.table.and_then(|table| table.iter().find(|(name, _)| *name.get_ref() == key));
        let Some((_, value)) = found else {
            return Vec::new();
        };
        let full = self.name(key);
        let allowed = format!("tables, [[{full}]], at most {most}");
        let items = match value.get_ref() {
            DeValue::Array(items) if items.len() <= most => items,
            _ => {
                self.wrong(key, value, &allowed);
                return Vec::new();
            }
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Section {
                    sheet: self.sheet,
                    path: format!("{full}[{}].", index.saturating_add(1)),
                    at: item.span().start,
                    table: Some(table),
                    known: Vec::new(),
                }),
                _ => self.wrong(key, item, &allowed),
            }
        }
        sections
    }

    /// Refuses every key that was not asked for.
    pub(crate) fn close(self) {
        let Some(table) = self.table else { return };
        for (name, _) in table {
            let key = name.get_ref();
            if !self.known.iter().any(|known| known == key) {
                let mut known = self.known.clone();
                known.sort_unstable();
                let place = name.span().start;
                let allowed = known.join(", ");
                self.sheet.fault(place, &self.name(key), "is not a key here".into(), &allowed);
            }
        }
    }
}

/// A value as a message shows it: short.
fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => cut(number.to_string()),
        DeValue::Float(number) => cut(number.to_string()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A text in quotes, cut to what fits a line.
pub(crate) fn quoted(text: &impl Display) -> String {
    format!("{:?}", cut(text.to_string()))
}

fn cut(text: String) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn without_indexes(name: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for char in name.chars() {
        match char {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => out.push(char),
            _ => {}
        }
    }
    out
}
