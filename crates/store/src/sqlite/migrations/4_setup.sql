-- How often each row of the setup has changed.
ALTER TABLE setup ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

-- How each row stood since its last changes, the present version among them; without secrets.
CREATE TABLE setup_version (
    id BLOB, version INTEGER, at INTEGER NOT NULL, who TEXT NOT NULL, slug TEXT NOT NULL, doc TEXT NOT NULL,
    PRIMARY KEY (id, version)
);
INSERT INTO setup_version SELECT id, 1, CAST(unixepoch('subsec') * 1000 AS INTEGER), 'hub', slug, doc FROM setup;

-- Rows that are gone: what still comes for a connection that was removed is held, and its old versions go later.
CREATE TABLE removed (id BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;

ALTER TABLE access_key ADD COLUMN label TEXT NOT NULL DEFAULT '';
ALTER TABLE access_key ADD COLUMN made_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE access_key ADD COLUMN expires_at INTEGER;
ALTER TABLE access_key ADD COLUMN last_used_at INTEGER;
UPDATE access_key SET made_at = CAST(unixepoch('subsec') * 1000 AS INTEGER);
CREATE INDEX access_key_id ON access_key (id);
CREATE INDEX access_key_owner ON access_key (owner);

-- Who changed what.
CREATE TABLE audit (
    ordinal INTEGER PRIMARY KEY, id BLOB NOT NULL, at INTEGER NOT NULL, merchant BLOB, who TEXT NOT NULL, action TEXT NOT NULL,
    object TEXT NOT NULL, detail TEXT NOT NULL
);
CREATE INDEX audit_merchant ON audit (merchant);
CREATE INDEX audit_object ON audit (object);
CREATE INDEX audit_at ON audit (at);

-- What requests under callers' own keys came to; without a status while they are being done.
CREATE TABLE answer (
    key BLOB PRIMARY KEY, body BLOB NOT NULL, held_until INTEGER NOT NULL, until INTEGER NOT NULL, status INTEGER, answer BLOB
);
CREATE INDEX answer_until ON answer (until);
