-- What each REGISTER changes moves to the AoR's row, so that a refresh changes one narrow row and leaves
-- those of `location` as they are. Stop the routers of the version before this one first: they do not know
-- the column. What each column means: README.md.
ALTER TABLE location_aor ADD COLUMN refreshed bigint[] NOT NULL DEFAULT '{}';
UPDATE location_aor AS a SET refreshed = ARRAY(
    SELECT n.value
    FROM location AS l, LATERAL (VALUES (1, l.cseq), (2, l.expires_ms), (3, l.modified_ms)) AS n (kind, value)
    WHERE l.tbl = a.tbl AND l.aor = a.aor
    ORDER BY l.position, n.kind
);

DROP VIEW location_now;
ALTER TABLE location DROP COLUMN cseq, DROP COLUMN expires_ms, DROP COLUMN modified_ms;

-- For people: who is registered now.
CREATE VIEW location_now AS
SELECT l.tbl, l.aor, l.contact, l.path, l.received, l.user_agent, l.node, l.socket,
       to_timestamp(a.refreshed[3 * l.position + 2] / 1000.0) AS expires,
       to_timestamp(a.refreshed[3 * l.position + 3] / 1000.0) AS last_modified
FROM location AS l JOIN location_aor AS a ON a.tbl = l.tbl AND a.aor = l.aor
WHERE a.refreshed[3 * l.position + 2] > extract(epoch FROM now()) * 1000;
