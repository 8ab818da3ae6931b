-- The bindings of all routers that share this database. What each column means: README.md.

-- One row. Whoever changes bindings takes its lock first, so that numbers are given in the order of
-- the commits: a reader that has seen a number has seen all before it. `era` grows when that cannot
-- be relied on any more, because another `server` has taken over or a backup was restored.
CREATE TABLE location_clock (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL DEFAULT 0,
    era bigint NOT NULL DEFAULT 0,
    server text NOT NULL DEFAULT ''
);
INSERT INTO location_clock DEFAULT VALUES;

-- One row an AoR: when it was changed last, and by whom. Without bindings: a tombstone, by which the
-- other routers learn of the removal.
CREATE TABLE location_aor (
    tbl text NOT NULL,
    aor text NOT NULL,
    seq bigint NOT NULL,
    writer bigint NOT NULL,
    bindings smallint NOT NULL,
    expires_ms bigint NOT NULL,
    PRIMARY KEY (tbl, aor)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX location_aor_seq ON location_aor (seq);

-- One row a binding.
CREATE TABLE location (
    tbl text NOT NULL,
    aor text NOT NULL,
    position smallint NOT NULL,
    contact text NOT NULL,
    contact_params text NOT NULL,
    path text NOT NULL,
    received text NOT NULL,
    callid text NOT NULL,
    cseq bigint NOT NULL,
    q_milli smallint,
    methods bigint,
    user_agent text NOT NULL,
    instance text NOT NULL,
    reg_id bigint NOT NULL,
    expires_ms bigint NOT NULL,
    modified_ms bigint NOT NULL,
    socket text NOT NULL,
    nat boolean NOT NULL,
    node text NOT NULL,
    node_address text NOT NULL,
    boot bigint NOT NULL,
    flow bigint NOT NULL,
    PRIMARY KEY (tbl, aor, position)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- For people: who is registered now.
CREATE VIEW location_now AS
SELECT tbl, aor, contact, path, received, user_agent, node, socket,
       to_timestamp(expires_ms / 1000.0) AS expires,
       to_timestamp(modified_ms / 1000.0) AS last_modified
FROM location
WHERE expires_ms > extract(epoch FROM now()) * 1000;
