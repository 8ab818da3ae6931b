//! Reads a TOML table key by key and knows the line of everything, so that errors can say it.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ManifestError;

/// One table. Keys are taken out as they are read; what is left at the end is an error.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Dotted, with a dot at its end; empty for the root.
    prefix: String,
    line: usize,
    entries: Vec<Entry<'a>>,
    allowed: Vec<String>,
}

struct Entry<'a> {
    key: String,
    line: usize,
    value: Spanned<DeValue<'a>>,
}

/// A text with its place.
pub(super) struct Item {
    pub(super) value: String,
    line: usize,
    key: String,
}

impl Item {
    pub(super) fn error(&self, message: &str) -> ManifestError {
        let message = format!("{message}, not `{}`", shortened(&self.value));
        ManifestError { line: self.line, key: self.key.clone(), message }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn root(text: &'a str) -> Result<Reader<'a>, ManifestError> {
        if text.len() > super::MAX_BYTES {
            let message = format!("longer than {} bytes", super::MAX_BYTES);
            return Err(ManifestError { line: 1, key: String::new(), message });
        }
        let table = DeTable::parse(text).map_err(|error| ManifestError {
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            key: String::new(),
            message: error.message().to_owned(),
        })?;
        Ok(Reader::new(text, String::new(), 1, table.into_inner()))
    }

    fn new(text: &'a str, prefix: String, line: usize, table: DeTable<'a>) -> Reader<'a> {
        let entries = table.into_iter().map(|(key, value)| Entry {
            line: line_of(text, key.span().start),
            key: key.get_ref().to_string(),
            value,
        });
        Reader { text, prefix, line, entries: entries.collect(), allowed: Vec::new() }
    }

    fn take(&mut self, key: &str) -> Option<Entry<'a>> {
        self.allowed.push(key.to_owned());
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.swap_remove(at))
    }

    /// Keys not read yet, in order of the text.
    pub(super) fn keys(&self) -> Vec<String> {
        let key = |entry: &Entry<'_>| (entry.line, entry.key.clone());
        let mut keys: Vec<_> = self.entries.iter().map(key).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<Item>, ManifestError> {
        let Some(entry) = self.take(key) else { return Ok(None) };
        self.item(&entry.value, key, entry.line).map(Some)
    }

    pub(super) fn texts(&mut self, key: &str) -> Result<Option<Vec<Item>>, ManifestError> {
        let Some(entry) = self.take(key) else { return Ok(None) };
        let DeValue::Array(list) = entry.value.get_ref() else {
            return Err(self.wrong_type(key, entry.line, "a list of texts", &entry.value));
        };
        let item = |value| self.item(value, key, line_of(self.text, Spanned::span(value).start));
        list.iter().map(item).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn integer(
        &mut self,
        key: &str,
        min: u64,
        max: u64,
    ) -> Result<Option<u64>, ManifestError> {
        let Some(entry) = self.take(key) else { return Ok(None) };
        let value = match entry.value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let Some(value) = value.filter(|value| (min..=max).contains(value)) else {
            let allowed = format!("an integer from {min} to {max}");
            return Err(self.wrong_type(key, entry.line, &allowed, &entry.value));
        };
        Ok(Some(value))
    }

    pub(super) fn boolean(&mut self, key: &str) -> Result<bool, ManifestError> {
        let Some(entry) = self.take(key) else { return Ok(false) };
        match entry.value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(self.wrong_type(key, entry.line, "true or false", &entry.value)),
        }
    }

    pub(super) fn table(&mut self, key: &str) -> Result<Option<Reader<'a>>, ManifestError> {
        let Some(entry) = self.take(key) else { return Ok(None) };
        if !matches!(entry.value.get_ref(), DeValue::Table(_)) {
            return Err(self.wrong_type(key, entry.line, "a table", &entry.value));
        }
        let prefix = format!("{}{key}.", self.prefix);
        let DeValue::Table(table) = entry.value.into_inner() else { return Ok(None) };
        Ok(Some(Reader::new(self.text, prefix, entry.line, table)))
    }

    /// One of some texts; the default where the key is absent.
    pub(super) fn choice<T: Copy + Default>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<T, ManifestError> {
        let Some(item) = self.text(key)? else { return Ok(T::default()) };
        let found = choices.iter().find(|(name, _)| *name == item.value);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            item.error(&format!("allowed: {}", names.join(", ")))
        })
    }

    /// Nothing may be left: an unknown key is a typing error somebody wants to know of.
    pub(super) fn finish(self) -> Result<(), ManifestError> {
        let Some(entry) = self.entries.iter().min_by_key(|entry| entry.line) else {
            return Ok(());
        };
        let message = format!("no such key; allowed: {}", self.allowed.join(", "));
        let key = format!("{}{}", self.prefix, shortened(&entry.key));
        Err(ManifestError { line: entry.line, key, message })
    }

    pub(super) fn missing(&self, key: &str) -> ManifestError {
        self.error(key, "is missing")
    }

    pub(super) fn error(&self, key: &str, message: &str) -> ManifestError {
        let key = format!("{}{key}", self.prefix);
        ManifestError { line: self.line, key, message: message.to_owned() }
    }

    fn item(
        &self,
        value: &Spanned<DeValue<'a>>,
        key: &str,
        line: usize,
    ) -> Result<Item, ManifestError> {
        match value.get_ref() {
            DeValue::String(text) => {
                Ok(Item { value: text.to_string(), line, key: format!("{}{key}", self.prefix) })
            }
            _ => Err(self.wrong_type(key, line, "a text", value)),
        }
    }

    fn wrong_type(
        &self,
        key: &str,
        line: usize,
        allowed: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> ManifestError {
        let found = self.text.get(value.span()).unwrap_or_default();
        let key = format!("{}{key}", self.prefix);
        let message = format!("allowed: {allowed}, not `{}`", shortened(found));
        ManifestError { line, key, message }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    before.iter().filter(|c| **c == b'\n').count() + 1
}

/// Enough of a value to recognise it, on one line.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(40).map(|c| if c < ' ' { ' ' } else { c }).collect();
    if text.chars().nth(40).is_some() {
        short.push_str("...");
    }
    short
}
