//! Tables all workers share. Each call needs a grant for its table.

use viaduct_engine::run::Guarded as Found;
use viaduct_engine::table::TableFault;

use super::or_empty;
use crate::bindings::policy::viaduct::policy::table::{Guarded, Host, TableError};
use crate::guest::Guest;
use crate::manifest::{Access, Interface};

impl Host for Guest {
    fn get(&mut self, table: String, key: String) -> wasmtime::Result<Option<String>> {
        let texts = [&*table, &*key];
        let (run, _) =
            self.call_table("table.get", Interface::Table, &table, Access::Read, &texts)?;
        Ok(run.table_get(&table, &key).map(String::from))
    }

    fn set(
        &mut self,
        table: String,
        key: String,
        value: Option<String>,
        expires_s: u32,
    ) -> wasmtime::Result<Result<(), TableError>> {
        let texts = [&*table, &*key, or_empty(&value)];
        let (run, _) =
            self.call_table("table.set", Interface::Table, &table, Access::Write, &texts)?;
        let staged = run.table_set(&table, &key, value.as_deref(), expires_s);
        Ok(lower(self, "table.set", staged))
    }

    fn add(
        &mut self,
        table: String,
        key: String,
        by: i64,
        expires_s: u32,
    ) -> wasmtime::Result<Result<i64, TableError>> {
        let texts = [&*table, &*key];
        let (run, _) =
            self.call_table("table.add", Interface::Table, &table, Access::Write, &texts)?;
        let staged = run.table_add(&table, &key, by, expires_s);
        Ok(lower(self, "table.add", staged))
    }

    fn hit(
        &mut self,
        table: String,
        key: String,
        window_s: u32,
    ) -> wasmtime::Result<Result<u32, TableError>> {
        let texts = [&*table, &*key];
        let (run, _) =
            self.call_table("table.hit", Interface::Table, &table, Access::Write, &texts)?;
        let staged = run.table_hit(&table, &key, window_s);
        Ok(lower(self, "table.hit", staged))
    }

    fn guard(
        &mut self,
        hits: String,
        banned: String,
        most: u32,
        window_s: u32,
        ban_s: u32,
    ) -> wasmtime::Result<Result<Guarded, TableError>> {
        let texts = [&*hits, &*banned];
        self.call_table("table.guard", Interface::Table, &hits, Access::Write, &texts)?;
        let (run, _) =
            self.call_table("table.guard", Interface::Table, &banned, Access::Write, &[])?;
        let guarded = run.table_guard((&hits, &banned), most, window_s, ban_s);
        let guarded = guarded.map(|guarded| match guarded {
            Found::Within => Guarded::Within,
            Found::Over(count) => Guarded::Over(count),
            Found::Banned => Guarded::Banned,
        });
        Ok(lower(self, "table.guard", guarded))
    }
}

/// What the guest learns; a refusal shows in the log and in a counter too.
fn lower<T>(
    guest: &mut Guest,
    call: &'static str,
    staged: Result<T, TableFault>,
) -> Result<T, TableError> {
    staged.map_err(|fault| {
        let (error, word) = match fault {
            TableFault::TooLarge => (TableError::TooLarge, "too-large"),
            TableFault::Full => (TableError::Full, "full"),
            TableFault::NotNumber => (TableError::NotNumber, "not-number"),
        };
        guest.note_refusal(call, word);
        error
    })
}
