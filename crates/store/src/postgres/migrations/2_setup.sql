-- needs 1

-- How often each row of the setup has changed.
ALTER TABLE setup ADD COLUMN version bigint NOT NULL DEFAULT 1;

-- How each row stood since its last changes, the present version among them; without secrets.
CREATE TABLE setup_version (
    id uuid, version bigint, at timestamptz NOT NULL, who text NOT NULL, slug text NOT NULL, doc text NOT NULL,
    PRIMARY KEY (id, version)
);
INSERT INTO setup_version SELECT id, 1, clock_timestamp(), 'hub', slug, doc FROM setup;

-- Rows that are gone: what still comes for a connection that was removed is held, and its old versions go later.
CREATE TABLE removed (id uuid PRIMARY KEY, at timestamptz NOT NULL);

ALTER TABLE access_key ADD COLUMN label text NOT NULL DEFAULT '', ADD COLUMN made_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN expires_at timestamptz, ADD COLUMN last_used_at timestamptz;
CREATE INDEX access_key_id ON access_key (id);
CREATE INDEX access_key_owner ON access_key (owner);

-- Who changed what.
CREATE TABLE audit (
    id uuid PRIMARY KEY, at timestamptz NOT NULL, merchant uuid, who text NOT NULL, action text NOT NULL, object text NOT NULL,
    detail text NOT NULL
);
CREATE INDEX audit_merchant ON audit (merchant, id);
CREATE INDEX audit_object ON audit (object, id);
CREATE INDEX audit_at ON audit (at);

-- What requests under callers' own keys came to; without a status while they are being done.
CREATE TABLE answer (
    key uuid PRIMARY KEY, body uuid NOT NULL, held_until timestamptz NOT NULL, until timestamptz NOT NULL, status integer,
    answer bytea
);
CREATE INDEX answer_until ON answer (until);
