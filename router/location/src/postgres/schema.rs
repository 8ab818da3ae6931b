//! Brings a database to the tables this version works with.

use tokio_postgres::Client;

use super::fault::Fault;

/// Number and text of every migration, in order.
const MIGRATIONS: [(i32, &str); 5] = [
    (1, include_str!("../../../../sql/0001_location.sql")),
    (2, include_str!("../../../../sql/0002_attributes.sql")),
    (3, include_str!("../../../../sql/0003_log.sql")),
    (4, include_str!("../../../../sql/0004_node.sql")),
    (5, include_str!("../../../../sql/0005_refreshed.sql")),
];
/// Key of the advisory lock that lets one router migrate at a time.
const LOCK: i64 = 0x7669_6164_7563_7401;

/// Applies the migrations that are missing, each in a transaction of its own.
pub(super) async fn migrate(client: &mut Client) -> Result<(), Fault> {
    // Texts come in any alphabet.
    let encoding: String = client.query_one("SHOW server_encoding", &[]).await?.try_get(0)?;
    if encoding != "UTF8" {
        let text = format!("the database has encoding {encoding}; it must have UTF8");
        return Err(Fault::lasting(text));
    }
    let steps = apply(client).await.map_err(|error| {
        let fault = Fault::from(error);
        Fault { text: format!("preparing the tables: {}", fault.text), ..fault }
    });
    steps?.map_err(Fault::lasting)
}

async fn apply(client: &mut Client) -> Result<Result<(), String>, tokio_postgres::Error> {
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let there = "SELECT to_regclass('viaduct_migration') IS NOT NULL";
    if !client.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
        client
            .batch_execute(
                "CREATE TABLE viaduct_migration (version integer PRIMARY KEY, \
                 applied timestamptz NOT NULL DEFAULT now())",
            )
            .await?;
    }
    let newest = "SELECT coalesce(max(version), 0) FROM viaduct_migration";
    let newest: i32 = client.query_one(newest, &[]).await?.try_get(0)?;
    let known = MIGRATIONS.last().map_or(0, |(version, _)| *version);
    if newest > known {
        return Ok(Err(format!(
            "its tables have version {newest}, this router knows version {known}"
        )));
    }
    for (version, text) in MIGRATIONS.iter().filter(|(version, _)| *version > newest) {
        let transaction = client.transaction().await?;
        transaction.batch_execute(text).await?;
        transaction
            .execute("INSERT INTO viaduct_migration (version) VALUES ($1)", &[version])
            .await?;
        transaction.commit().await?;
        tracing::info!(version, "database: migrated");
    }
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    Ok(Ok(()))
}
