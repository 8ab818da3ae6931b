-- Routers that share this database: each says every few seconds, by the database's clock, that it
-- lives. What each column means: README.md.
CREATE TABLE location_node (
    node text PRIMARY KEY,
    boot bigint NOT NULL,
    seen timestamptz NOT NULL
);
