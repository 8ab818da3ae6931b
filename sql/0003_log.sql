-- Which AoRs a transaction has changed, one row for each transaction, so that a change of a binding
-- touches no index: `location_aor` may then be updated in place (HOT). Stop the routers of the
-- version before this one first: they do not write it. What each column means: README.md.

CREATE TABLE location_log (
    seq bigint NOT NULL,
    writer bigint NOT NULL,
    at_ms bigint NOT NULL,
    tbl text[] NOT NULL,
    aor text[] NOT NULL
);
CREATE INDEX location_log_seq ON location_log (seq);

-- The log has everything after this number.
ALTER TABLE location_clock ADD COLUMN log_from bigint NOT NULL DEFAULT 0;
UPDATE location_clock SET log_from = seq;

-- A router of the version before does not know this name, and is refused.
ALTER TABLE location_aor RENAME COLUMN writer TO written_by;
DROP INDEX location_aor_seq;
