//! The statements, prepared once a connection.

use super::rows::BINDING_COLUMNS;

/// Takes the lock under which changes are numbered, and gives this transaction its number.
pub(super) const TICK: &str = "UPDATE location_clock SET seq = seq + 1";

/// The number of the last change, and the era it belongs to.
pub(super) const CLOCK: &str = "SELECT seq, era FROM location_clock";

/// Which server this is, and which of its lives after fail-overs.
pub(super) const IDENTITY: &str = "SELECT (SELECT system_identifier::text FROM pg_control_system()) || '/' \
     || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";

/// Begins an era where the server `$1` is not the one the numbers are from.
pub(super) const TAKE_OVER: &str =
    "UPDATE location_clock SET era = era + 1, server = $1 WHERE server <> $1";

/// Ends the era `$1`, if nobody has.
pub(super) const END_ERA: &str = "UPDATE location_clock SET era = era + 1 WHERE era = $1";

/// Numbers go on behind `$1`, the newest ever seen.
pub(super) const ADVANCE: &str = "UPDATE location_clock SET seq = $1 + 1 WHERE seq <= $1";

/// Writes a group, after [`TICK`] in the same transaction. An AoR whose row has another number than
/// its change was computed from is stale, and so is all that shares its part. A record that is
/// removed, or has expired (`$32`), is the same as none.
///
/// Look-ups of single rows are sub-queries that cannot be turned into joins: a plan made while the
/// tables are small must be right when they have grown.
pub(super) fn write() -> String {
    let columns = BINDING_COLUMNS;
    let updates: Vec<String> = columns
        .split(", ")
        .filter(|column| *column != "position")
        .map(|column| format!("{column} = excluded.{column}"))
        .collect();
    let updates = updates.join(", ");
    format!(
        "WITH item AS (
            SELECT i.*, coalesce(a.bindings, 0) AS before,
                   CASE WHEN i.revision = 0
                        THEN coalesce(a.bindings > 0 AND a.expires_ms > $32::int8, false)
                        ELSE a.seq IS DISTINCT FROM i.revision
                   END AS stale
            FROM unnest($1::text[], $2::text[], $3::int8[], $4::int4[], $5::int2[], $6::int8[])
                 AS i (tbl, aor, revision, part, bindings, expires_ms)
            LEFT JOIN LATERAL (
                SELECT seq, bindings, expires_ms FROM location_aor
                WHERE tbl = i.tbl AND aor = i.aor OFFSET 0
            ) AS a ON true
        ), refused AS (
            SELECT DISTINCT part FROM item WHERE stale
        ), taken AS (
            SELECT * FROM item WHERE part NOT IN (SELECT part FROM refused)
        ), aors AS (
            INSERT INTO location_aor (tbl, aor, seq, writer, bindings, expires_ms)
            SELECT tbl, aor, (SELECT seq FROM location_clock), $31::int8, bindings, expires_ms
            FROM taken
            ON CONFLICT (tbl, aor) DO UPDATE SET seq = excluded.seq, writer = excluded.writer,
                bindings = excluded.bindings, expires_ms = excluded.expires_ms
        ), kept AS (
            INSERT INTO location (tbl, aor, {columns})
            SELECT tbl, aor, {columns}
            FROM unnest($7::text[], $8::text[], $9::int4[], $10::int2[], $11::text[], $12::text[],
                        $13::text[], $14::text[], $15::text[], $16::int8[], $17::int2[],
                        $18::int8[], $19::text[], $20::text[], $21::int8[], $22::int8[],
                        $23::int8[], $24::text[], $25::bool[], $26::text[], $27::text[],
                        $28::int8[], $29::int8[], $30::text[])
                 AS b (tbl, aor, part, {columns})
            WHERE part NOT IN (SELECT part FROM refused)
            ON CONFLICT (tbl, aor, position) DO UPDATE SET {updates}
        ), cut AS (
            DELETE FROM location WHERE ctid = ANY (ARRAY(
                SELECT l.place FROM taken AS t, LATERAL (
                    SELECT ctid AS place FROM location
                    WHERE tbl = t.tbl AND aor = t.aor AND position >= t.bindings OFFSET 0
                ) AS l
                WHERE t.before > t.bindings
            ))
        )
        SELECT (SELECT seq FROM location_clock), ARRAY(SELECT part FROM refused)"
    )
}

/// Who writes next is told by this, so that the others look.
pub(super) const COMMIT: &str = "NOTIFY viaduct_location; COMMIT";

fn records(condition: &str) -> String {
    let columns: Vec<String> =
        BINDING_COLUMNS.split(", ").map(|column| format!("l.{column}")).collect();
    format!(
        "SELECT a.tbl, a.aor, a.seq, {} FROM location_aor AS a \
         LEFT JOIN location AS l ON l.tbl = a.tbl AND l.aor = a.aor {condition}",
        columns.join(", ")
    )
}

/// All there is.
pub(super) fn all() -> String {
    records("WHERE a.bindings > 0 ORDER BY a.tbl, a.aor, l.position")
}

/// What has changed after `$1` by others than `$2`.
pub(super) fn changes() -> String {
    records("WHERE a.seq > $1 AND a.writer <> $2 ORDER BY a.seq, a.tbl, a.aor, l.position")
}

/// What there is of the AoRs `$1`, `$2`.
pub(super) fn current() -> String {
    records(
        "WHERE (a.tbl, a.aor) IN (SELECT * FROM unnest($1::text[], $2::text[])) \
         ORDER BY a.tbl, a.aor, l.position",
    )
}

/// The lock of [`TICK`] alone.
pub(super) const HOLD: &str = "SELECT seq FROM location_clock FOR UPDATE";

/// Deletes some of what expired before `$1`.
pub(super) const CLEAN: &str = "WITH gone AS (
        DELETE FROM location_aor WHERE (tbl, aor) IN (
            SELECT tbl, aor FROM location_aor WHERE expires_ms <= $1 LIMIT 2000
        ) RETURNING tbl, aor
    ), bindings AS (
        DELETE FROM location AS l USING gone WHERE l.tbl = gone.tbl AND l.aor = gone.aor
    ) SELECT count(*) FROM gone";
