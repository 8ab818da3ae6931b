-- What policies store with bindings.
ALTER TABLE location ADD COLUMN attributes text NOT NULL DEFAULT '';
