//! The statements, prepared once a connection.

use std::borrow::Cow;

use super::rows::BINDING_COLUMNS;

/// Takes the lock under which changes are numbered, and gives this transaction its number.
pub(super) const TICK: &str = "UPDATE location_clock SET seq = seq + 1";

/// The number of the last change, the era it belongs to, and the number after which the log has
/// all changes.
pub(super) const CLOCK: &str = "SELECT seq, era, log_from FROM location_clock";

/// Which server this is, and which of its lives after fail-overs.
pub(super) const IDENTITY: &str = "SELECT (SELECT system_identifier::text FROM pg_control_system()) || '/' \
     || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";

/// Begins an era where the server `$1` is not the one the numbers are from.
pub(super) const TAKE_OVER: &str =
    "UPDATE location_clock SET era = era + 1, server = $1 WHERE server <> $1";

/// Ends the era `$1`, if nobody has.
pub(super) const END_ERA: &str = "UPDATE location_clock SET era = era + 1 WHERE era = $1";

/// Numbers go on behind `$1`, the newest ever seen. Where they are before it they have gone back, and
/// the era ends: who has seen no more than `$1` could not tell from the numbers any more.
pub(super) const ADVANCE: &str = "UPDATE location_clock \
     SET era = era + CASE WHEN seq < $1 THEN 1 ELSE 0 END, seq = $1 + 1 WHERE seq <= $1";

/// Says that the router `$1` lives, in its start `$2`.
pub(super) const BEAT: &str = "INSERT INTO location_node (node, boot, seen) VALUES ($1, $2, now()) \
     ON CONFLICT (node) DO UPDATE SET boot = excluded.boot, seen = excluded.seen";

/// At most `$2` routers that have said so in the last `$1` milliseconds.
pub(super) const LIVING: &str = "SELECT node FROM location_node \
     WHERE seen > now() - $1::float8 * interval '1 ms' ORDER BY seen DESC LIMIT $2";

/// Forgets routers that are gone for good.
pub(super) const BURY: &str = "DELETE FROM location_node WHERE seen < now() - interval '30 days'";

/// What every group does, after [`TICK`] in the same transaction: finds the AoRs' rows, and changes
/// those there are. An AoR whose row has another number than its change was computed from is stale,
/// and so is all that shares its part. A record that is removed, or has expired (`$10`), is the same
/// as none.
///
/// Each row is looked up once and then changed at its place; nobody else moves it, as the clock is
/// locked. Look-ups of single rows are sub-queries that cannot be turned into joins: a plan made
/// while the tables are small must be right when they have grown.
const AORS: &str = "item AS (
            SELECT i.*, coalesce(a.bindings, 0) AS before, a.place,
                   CASE WHEN i.revision = 0
                        THEN coalesce(a.bindings > 0 AND a.expires_ms > $10::int8, false)
                        ELSE a.seq IS DISTINCT FROM i.revision
                   END AS stale
            FROM unnest($1::text[], $2::text[], $3::int8[], $4::int4[], $5::int2[], $6::int8[], $7::int4[])
                 AS i (tbl, aor, revision, part, bindings, expires_ms, at)
            LEFT JOIN LATERAL (
                SELECT ctid AS place, seq, bindings, expires_ms FROM location_aor
                WHERE tbl = i.tbl AND aor = i.aor OFFSET 0
            ) AS a ON true
        ), refused AS (
            SELECT DISTINCT part FROM item WHERE stale
        ), taken AS (
            SELECT * FROM item WHERE part NOT IN (SELECT part FROM refused)
        ), logged AS (
            INSERT INTO location_log (seq, writer, at_ms, tbl, aor)
            SELECT (SELECT seq FROM location_clock), $9::int8,
                   extract(epoch FROM now()) * 1000, array_agg(tbl), array_agg(aor)
            FROM taken HAVING count(*) > 0
        ), aors AS (
            UPDATE location_aor AS a
            SET seq = (SELECT seq FROM location_clock), written_by = $9::int8,
                bindings = t.bindings, expires_ms = t.expires_ms,
                refreshed = ($8::int8[])[t.at : t.at + 3 * t.bindings - 1]
            FROM taken AS t WHERE a.ctid = t.place
        )";

/// The number of the group, and the parts that are stale.
const OUTCOME: &str = "SELECT (SELECT seq FROM location_clock), ARRAY(SELECT part FROM refused)";

/// Writes a group of refreshes: all of them are of AoRs that have a row, and change nothing in
/// `location`.
pub(super) fn refresh() -> String {
    format!("WITH {AORS} {OUTCOME}")
}

/// Writes any group. Of `location` it gets the rows that change, and takes away those behind the last.
pub(super) fn write() -> String {
    let columns = BINDING_COLUMNS;
    let updates: Vec<String> = columns
        .split(", ")
        .filter(|column| *column != "position")
        .map(|column| format!("{column} = b.{column}"))
        .collect();
    let updates = updates.join(", ");
    format!(
        "WITH {AORS}, new_aors AS (
            INSERT INTO location_aor (tbl, aor, seq, written_by, bindings, expires_ms, refreshed)
            SELECT tbl, aor, (SELECT seq FROM location_clock), $9::int8, bindings, expires_ms,
                   ($8::int8[])[at : at + 3 * bindings - 1]
            FROM taken WHERE place IS NULL
        ), binding AS (
            SELECT b.*, l.place
            FROM unnest($11::text[], $12::text[], $13::int4[], $14::int2[], $15::text[], $16::text[],
                        $17::text[], $18::text[], $19::text[], $20::int2[], $21::int8[],
                        $22::text[], $23::text[], $24::int8[], $25::text[], $26::bool[],
                        $27::text[], $28::text[], $29::int8[], $30::int8[], $31::text[])
                 AS b (tbl, aor, part, {columns})
            LEFT JOIN LATERAL (
                SELECT ctid AS place FROM location
                WHERE tbl = b.tbl AND aor = b.aor AND position = b.position OFFSET 0
            ) AS l ON true
            WHERE part NOT IN (SELECT part FROM refused)
        ), kept AS (
            UPDATE location AS l SET {updates} FROM binding AS b WHERE l.ctid = b.place
        ), new AS (
            INSERT INTO location (tbl, aor, {columns})
            SELECT tbl, aor, {columns} FROM binding WHERE place IS NULL
        ), cut AS (
            DELETE FROM location WHERE ctid = ANY (ARRAY(
                SELECT l.place FROM taken AS t, LATERAL (
                    SELECT ctid AS place FROM location
                    WHERE tbl = t.tbl AND aor = t.aor AND position >= t.bindings OFFSET 0
                ) AS l
                WHERE t.before > t.bindings
            ))
        ) {OUTCOME}"
    )
}

/// Tells the other routers, so that they look.
pub(super) const NOTIFY: &str = "NOTIFY viaduct_location";

/// Ends a group, and tells the other routers where there are any: a router that hears of its own
/// changes as well pays for it with every group.
pub(super) fn commit(is_alone: bool) -> Cow<'static, str> {
    if is_alone { "COMMIT".into() } else { format!("{NOTIFY}; COMMIT").into() }
}

fn records(condition: &str) -> String {
    format!(
        "{} FROM location_aor AS a \
         LEFT JOIN location AS l ON l.tbl = a.tbl AND l.aor = a.aor {condition}",
        record_columns()
    )
}

/// A binding's columns, then what its last REGISTER changed (`cseq`, `expires_ms`, `modified_ms`).
fn record_columns() -> String {
    let columns: Vec<String> =
        BINDING_COLUMNS.split(", ").map(|column| format!("l.{column}")).collect();
    let refreshed = [("cseq", 1), ("expires_ms", 2), ("modified_ms", 3)]
        .map(|(name, kind)| format!("a.refreshed[3 * l.position + {kind}] AS {name}"));
    format!("SELECT a.tbl, a.aor, a.seq, {}, {}", columns.join(", "), refreshed.join(", "))
}

/// All there is.
pub(super) fn all() -> String {
    records("WHERE a.bindings > 0 ORDER BY a.tbl, a.aor, l.position")
}

/// What has changed after `$1` by others than `$2`.
pub(super) fn changes() -> String {
    format!(
        "{} FROM (
            SELECT DISTINCT c.tbl, c.aor
            FROM location_log AS g, unnest(g.tbl, g.aor) AS c (tbl, aor)
            WHERE g.seq > $1 AND g.writer <> $2
         ) AS c
         JOIN location_aor AS a ON a.tbl = c.tbl AND a.aor = c.aor
         LEFT JOIN location AS l ON l.tbl = a.tbl AND l.aor = a.aor
         WHERE a.written_by <> $2 ORDER BY a.seq, a.tbl, a.aor, l.position",
        record_columns()
    )
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

/// Some of what expired before `$1`: all is looked at, without a lock.
pub(super) const LAPSED: &str =
    "SELECT tbl, aor FROM location_aor WHERE expires_ms <= $1 LIMIT 2000";

/// Deletes what expired before `$3` of the AoRs `$1`, `$2`.
pub(super) const CLEAN: &str = "WITH gone AS (
        DELETE FROM location_aor
        WHERE (tbl, aor) IN (SELECT * FROM unnest($1::text[], $2::text[])) AND expires_ms <= $3
        RETURNING tbl, aor
    ) DELETE FROM location AS l USING gone WHERE l.tbl = gone.tbl AND l.aor = gone.aor";

/// Deletes some of the log from before `$1`.
pub(super) const CUT_LOG: &str = "WITH gone AS (
        DELETE FROM location_log WHERE at_ms <= $1 AND seq IN (
            SELECT seq FROM location_log ORDER BY seq LIMIT 2000
        ) RETURNING seq
    ), mark AS (
        UPDATE location_clock SET log_from = (SELECT max(seq) FROM gone)
        WHERE EXISTS (SELECT FROM gone)
    ) SELECT count(*) FROM gone";
