//! Bindings and users of Kamailio and OpenSIPS, from a dump of their database or from the database
//! itself (sip-behaviour 2.5, R-U3).
//!
//! Start reading at [`Import`]: rows go in ([`dump`] and [`live`] read them), bindings and users come
//! out, and what cannot be used is counted with its reason.

mod dump;
mod live;
mod location;
mod subscriber;

use std::collections::{BTreeMap, HashMap};

use viaduct_engine::registrar::Binding;

pub use dump::{DumpError, read_dump};
pub use live::read_database;
pub use subscriber::User;

/// One row of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Columns with their values as text; `None`: NULL.
    pub values: HashMap<String, Option<Vec<u8>>>,
}

impl Row {
    /// A value that is there and not empty.
    fn get(&self, column: &str) -> Option<&[u8]> {
        self.values.get(column)?.as_deref().filter(|value| !value.is_empty())
    }

    fn text(&self, column: &str) -> &[u8] {
        self.get(column).unwrap_or_default()
    }

    fn has(&self, column: &str) -> bool {
        self.values.contains_key(column)
    }

    /// A number; `None` where there is none, an error where it is something else.
    fn number<T: std::str::FromStr>(&self, column: &'static str) -> Result<Option<T>, Skip> {
        let Some(text) = self.get(column) else { return Ok(None) };
        let number = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
        number.map(Some).ok_or(Skip::Value(column))
    }
}

/// Why a row is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Skip {
    /// A column that is needed is missing or empty.
    #[error("no {0}")]
    Missing(&'static str),
    /// A value that cannot be.
    #[error("bad {0}")]
    Value(&'static str),
    /// It has expired.
    #[error("expired")]
    Expired,
    /// Longer than a binding may be.
    #[error("{0} too long")]
    Long(&'static str),
    /// The AoR has more than a registrar lets it have.
    #[error("too many bindings of one AoR")]
    Many,
}

/// What is read from where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the table with bindings.
    pub location: String,
    /// Name of the table with users.
    pub subscriber: String,
    /// Domain of rows that name none, as tables without `use_domain` have.
    pub domain: Option<String>,
    /// How far the clock of DATETIME columns is ahead of UTC, minutes: Kamailio writes local time.
    pub utc_offset_min: i64,
    /// Now, milliseconds since 1970.
    pub now_ms: u64,
}

/// Rows in, bindings and users out.
#[derive(Debug)]
pub struct Import {
    options: Options,
    /// Bindings by AoR.
    pub bindings: BTreeMap<Box<[u8]>, Vec<Binding>>,
    /// Users with their secrets.
    pub users: Vec<User>,
    /// Rows by why they were left out, with the first such row's name.
    pub skipped: BTreeMap<(&'static str, Skip), (u64, String)>,
    /// Rows of both tables.
    pub rows: u64,
}

/// Bindings of one AoR that are taken over.
const MOST_BINDINGS: usize = 64;

impl Import {
    /// Nothing yet.
    pub fn new(options: Options) -> Import {
        let (bindings, skipped) = (BTreeMap::new(), BTreeMap::new());
        Import { options, bindings, users: Vec::new(), skipped, rows: 0 }
    }

    /// Does a table of this name matter?
    pub fn wants(&self, table: &str) -> bool {
        table == self.options.location || table == self.options.subscriber
    }

    /// Takes a row of a table.
    pub fn row(&mut self, table: &str, row: &Row) {
        if table == self.options.location {
            self.rows += 1;
            match location::read(row, &self.options) {
                Ok((aor, binding)) => self.binding(aor, binding, row),
                Err(skip) => self.skip("location", skip, row),
            }
        } else if table == self.options.subscriber {
            self.rows += 1;
            match subscriber::read(row, self.options.domain.as_deref()) {
                Ok(user) => self.users.push(user),
                Err(skip) => self.skip("subscriber", skip, row),
            }
        }
    }

    fn binding(&mut self, aor: Box<[u8]>, binding: Binding, row: &Row) {
        let all = self.bindings.entry(aor).or_default();
        // Tables without a unique key may hold a contact twice: the later counts.
        let same = all.iter().position(|known| known.contact() == binding.contact());
        let Some(known) = same.and_then(|index| all.get_mut(index)) else {
            match all.len() < MOST_BINDINGS {
                true => all.push(binding),
                false => self.skip("location", Skip::Many, row),
            }
            return;
        };
        if known.fields().modified_ms <= binding.fields().modified_ms {
            *known = binding;
        }
    }

    fn skip(&mut self, table: &'static str, skip: Skip, row: &Row) {
        let name = || {
            let part = |column| String::from_utf8_lossy(row.text(column)).into_owned();
            format!("{}@{} {}", part("username"), part("domain"), part("contact"))
        };
        let known = self.skipped.entry((table, skip));
        known.or_insert_with(|| (0, name().trim_end().to_owned())).0 += 1;
    }
}
