//! Tables policies share: reads, and changes that are staged.

use viaduct_message::ip_text;

use super::Run;
use crate::table::{
    MOST_KEY_BYTES, MOST_LIFE, MOST_VALUE_BYTES, TableAction, TableChange, TableFault, Value,
    rate_after, staged,
};

/// Changes of one run.
const MOST_CHANGES: usize = 32;

/// What became of a guarded hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// The sender is within what it may send.
    Within,
    /// It is not, with this hit, of which there were so many: it is banned from here on.
    Over(u32),
    /// It is banned, and was not hit.
    Banned,
}

impl Run {
    /// What stands under a key, this run's own changes included. A rate is no text: `None`.
    pub fn table_get(&mut self, table: &str, key: &str) -> Option<Box<str>> {
        match self.table_value(table, key)? {
            Value::Text(text) => Some(text),
            Value::Number(number) => Some(number.to_string().into()),
            Value::Rate(_) => None,
        }
    }

    /// Stages a text for so many seconds; `None` removes the entry.
    pub fn table_set(
        &mut self,
        table: &str,
        key: &str,
        value: Option<&str>,
        expires_s: u32,
    ) -> Result<(), TableFault> {
        let action = match value {
            None => TableAction::Remove,
            Some(value) if value.len() > MOST_VALUE_BYTES => return Err(TableFault::TooLarge),
            Some(value) => TableAction::Set {
                value: value.into(),
                expires_ms: self.now.unix_ms.saturating_add(life_ms(expires_s)?),
            },
        };
        self.stage_table(table, key, action)
    }

    /// Stages an addition to a number, which begins with 0 and then lives so many seconds; what it
    /// will be.
    pub fn table_add(
        &mut self,
        table: &str,
        key: &str,
        by: i64,
        expires_s: u32,
    ) -> Result<i64, TableFault> {
        let before = match self.table_value(table, key) {
            None => 0,
            Some(Value::Number(number)) => number,
            Some(_) => return Err(TableFault::NotNumber),
        };
        let expires_ms = self.now.unix_ms.saturating_add(life_ms(expires_s)?);
        self.stage_table(table, key, TableAction::Add { by, expires_ms })?;
        Ok(before.saturating_add(by))
    }

    /// Stages a hit; how many there were in the last `window_s` seconds, this one included.
    pub fn table_hit(&mut self, table: &str, key: &str, window_s: u32) -> Result<u32, TableFault> {
        let window_ms = life_ms(window_s)?;
        let value = self.table_value(table, key);
        let hits = rate_after(value, window_ms, self.now.unix_ms).ok_or(TableFault::NotNumber)?;
        self.stage_table(table, key, TableAction::Hit { window_ms })?;
        Ok(hits)
    }

    /// Stages a hit of the address the message came from, and bans it where there were more than
    /// `most` in the last `window_s` seconds. Who is banned is not hit.
    pub fn table_guard(
        &mut self,
        (hits, banned): (&str, &str),
        most: u32,
        window_s: u32,
        ban_s: u32,
    ) -> Result<Guarded, TableFault> {
        let source = ip_text(self.flow.remote.ip().to_canonical());
        if self.table_get(banned, &source).is_some() {
            return Ok(Guarded::Banned);
        }
        let count = self.table_hit(hits, &source, window_s)?;
        if count <= most {
            return Ok(Guarded::Within);
        }
        // Where the table is full, each of its messages is found to be too many.
        let _ = self.table_set(banned, &source, Some(""), ban_s);
        Ok(Guarded::Over(count))
    }

    fn table_value(&mut self, table: &str, key: &str) -> Option<Value> {
        self.note_table(table, key);
        let shared = &self.settings.shared.tables;
        staged(shared, &self.effects.tables, (table, key), self.now.unix_ms)
    }

    fn stage_table(
        &mut self,
        table: &str,
        key: &str,
        action: TableAction,
    ) -> Result<(), TableFault> {
        let fits = (1..=MOST_KEY_BYTES).contains(&key.len());
        if !fits || self.effects.tables.len() >= MOST_CHANGES {
            return Err(TableFault::TooLarge);
        }
        let makes = action != TableAction::Remove;
        if makes && !self.settings.shared.tables.has_room(table, key, self.now.unix_ms) {
            return Err(TableFault::Full);
        }
        let (table, key) = (table.into(), key.into());
        self.effects.tables.push(TableChange { table, key, action });
        Ok(())
    }
}

fn life_ms(seconds: u32) -> Result<u64, TableFault> {
    if seconds == 0 || u64::from(seconds) > MOST_LIFE.as_secs() {
        return Err(TableFault::TooLarge);
    }
    Ok(u64::from(seconds).saturating_mul(1000))
}

#[cfg(test)]
mod tests;
