//! Rows of a PostgreSQL database.

use futures_util::{TryStreamExt as _, pin_mut};

use super::dump::copied_row;
use crate::postgres::{PostgresConfig, connect_for_import};
use crate::store::StoreError;

use super::Import;

/// Reads the tables an import wants; `each` is told of every row.
pub fn read_database(
    config: &PostgresConfig,
    tables: &[&str],
    import: &mut Import,
    each: &mut dyn FnMut(),
) -> Result<(), StoreError> {
    let fault = |detail| StoreError::Database { at: config.place(), detail };
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().map_err(|error| fault(error.to_string()))?;
    let read = async {
        let connection = connect_for_import(config).await.map_err(|fault| fault.text)?;
        for table in tables {
            read_table(&connection.client, table, import, each)
                .await
                .map_err(|error| format!("table {table}: {}", crate::postgres::describe(&error)))?;
        }
        Ok(())
    };
    runtime.block_on(read).map_err(fault)
}

async fn read_table(
    client: &tokio_postgres::Client,
    table: &str,
    import: &mut Import,
    each: &mut dyn FnMut(),
) -> Result<(), tokio_postgres::Error> {
    let there = "SELECT to_regclass($1) IS NOT NULL";
    let name = format!("\"{}\"", table.replace('"', "\"\""));
    if !client.query_one(there, &[&name]).await?.try_get::<_, bool>(0)? {
        tracing::warn!(table, "import: there is no such table");
        return Ok(());
    }
    // A table's name cannot be a parameter: it is quoted.
    let statement = client.prepare(&format!("SELECT * FROM {name}")).await?;
    let columns: Vec<String> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
    let rows = client.copy_out(&format!("COPY (SELECT * FROM {name}) TO STDOUT")).await?;
    pin_mut!(rows);
    let mut left = Vec::new();
    while let Some(chunk) = rows.try_next().await? {
        left.extend_from_slice(&chunk);
        while let Some(end) = left.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = left.drain(..=end).collect();
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            import.row(table, &copied_row(&columns, line));
            each();
        }
    }
    Ok(())
}
