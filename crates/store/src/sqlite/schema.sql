-- What came. Bodies and headers are kept as they were, credentials taken out.
CREATE TABLE inbox (
    id BLOB PRIMARY KEY, received_at INTEGER NOT NULL, merchant BLOB NOT NULL, connection BLOB NOT NULL,
    provider TEXT NOT NULL, source INTEGER NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, query TEXT NOT NULL,
    headers TEXT NOT NULL, body BLOB NOT NULL, peer TEXT, proof TEXT, trace TEXT NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, notes TEXT
);
CREATE INDEX inbox_unread ON inbox (id) WHERE state = 0;
CREATE INDEX inbox_dead ON inbox (id) WHERE state = 3;

-- Keys of all events ever seen. Retention never touches this table.
CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE event (
    id BLOB PRIMARY KEY, entry BLOB NOT NULL, merchant BLOB NOT NULL, kind TEXT NOT NULL, pending INTEGER NOT NULL,
    doc TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX event_entry ON event (entry);

-- What must go out. `next_at` is when to try; `due_at` and `id` give the order within a key.
CREATE TABLE command (
    id BLOB PRIMARY KEY, merchant BLOB NOT NULL, connection BLOB NOT NULL, flow BLOB, event BLOB, job TEXT NOT NULL,
    repeatable INTEGER NOT NULL, state INTEGER NOT NULL, due_at INTEGER NOT NULL, next_at INTEGER NOT NULL,
    latest_at INTEGER, ordering_key BLOB NOT NULL, subject TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    lease INTEGER NOT NULL DEFAULT 0, lease_until INTEGER, reason TEXT, provider_id TEXT, trace TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX command_due ON command (connection, next_at, id) WHERE state = 0;
CREATE INDEX command_order ON command (ordering_key, due_at, id) WHERE state <= 1;
CREATE INDEX command_subject ON command (subject) WHERE state = 0;
CREATE INDEX command_sending ON command (id) WHERE state = 1;
CREATE INDEX command_event ON command (event);
CREATE INDEX command_trouble ON command (state, id) WHERE state >= 3;

CREATE TABLE exchange (
    id BLOB PRIMARY KEY, command BLOB, at INTEGER NOT NULL, merchant BLOB NOT NULL, connection BLOB NOT NULL,
    provider TEXT NOT NULL, endpoint TEXT NOT NULL, request TEXT NOT NULL, response TEXT NOT NULL, error TEXT,
    duration_ms INTEGER NOT NULL, attempt INTEGER NOT NULL, next_retry_at INTEGER, trace TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX exchange_command ON exchange (command) WHERE command IS NOT NULL;

-- What journal rows are found by: phones, order numbers, providers' ids.
CREATE TABLE reference (merchant BLOB, value TEXT, id BLOB, PRIMARY KEY (merchant, value, id)) WITHOUT ROWID;

CREATE TABLE slot (key BLOB PRIMARY KEY, until INTEGER NOT NULL, command BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX slot_command ON slot (command);

CREATE TABLE sent (
    connection BLOB, provider_id TEXT, command BLOB NOT NULL, at INTEGER NOT NULL, state INTEGER NOT NULL, code TEXT,
    PRIMARY KEY (connection, provider_id)
) WITHOUT ROWID;
CREATE INDEX sent_open ON sent (connection, at) WHERE state = 0;

CREATE TABLE contact (
    merchant BLOB, phone TEXT, opted_out INTEGER NOT NULL DEFAULT 0, consented INTEGER NOT NULL DEFAULT 0,
    proof TEXT, at INTEGER NOT NULL, PRIMARY KEY (merchant, phone)
) WITHOUT ROWID;

CREATE TABLE setup (id BLOB PRIMARY KEY, kind TEXT NOT NULL, merchant BLOB, slug TEXT NOT NULL, doc TEXT NOT NULL, sealed BLOB);
CREATE UNIQUE INDEX setup_slug ON setup (kind, ifnull(merchant, x''), slug);
CREATE TABLE access_key (hash BLOB PRIMARY KEY, id TEXT NOT NULL, owner BLOB, about TEXT NOT NULL, webhook INTEGER NOT NULL);
CREATE TABLE session (connection BLOB PRIMARY KEY, sealed BLOB NOT NULL);
CREATE TABLE cursor (connection BLOB PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE notice (merchant BLOB, connection BLOB, kind TEXT, day INTEGER, text TEXT NOT NULL, PRIMARY KEY (merchant, connection, kind, day));
