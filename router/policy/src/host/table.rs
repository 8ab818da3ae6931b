//! Tables all workers share. Each call needs a grant for its table.

use viaduct_engine::table::TableFault;

use super::or_empty;
use crate::bindings::policy::viaduct::policy::table::{Host, TableError};
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
        Ok(run.table_set(&table, &key, value.as_deref(), expires_s).map_err(lower))
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
        Ok(run.table_add(&table, &key, by, expires_s).map_err(lower))
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
        Ok(run.table_hit(&table, &key, window_s).map_err(lower))
    }
}

fn lower(fault: TableFault) -> TableError {
    match fault {
        TableFault::TooLarge => TableError::TooLarge,
        TableFault::Full => TableError::Full,
        TableFault::NotNumber => TableError::NotNumber,
    }
}
