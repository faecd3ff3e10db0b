-- An ordinal is the first 60 bits of the id beside it: unique within a store, and in the order of time. Rows are found and
-- joined by it, so that what is new is always written at the end of its table.

-- What came. Bodies and headers are kept as they were, credentials taken out. A row never changes.
CREATE TABLE inbox (
    ordinal INTEGER PRIMARY KEY, id BLOB NOT NULL, received_at INTEGER NOT NULL, merchant BLOB NOT NULL,
    connection BLOB NOT NULL, provider TEXT NOT NULL, source INTEGER NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
    query TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL, answer TEXT NOT NULL, peer TEXT, proof TEXT,
    trace TEXT NOT NULL
);

-- What nobody has read yet.
CREATE TABLE unread (entry INTEGER PRIMARY KEY);

-- How an entry ended, where it is not simply read: a duplicate, dead, or read with something to note.
CREATE TABLE outcome (entry INTEGER PRIMARY KEY, state INTEGER NOT NULL, notes TEXT);
CREATE INDEX outcome_dead ON outcome (entry) WHERE state = 3;

-- Keys of all events ever seen. Retention never touches this table.
CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE event (ordinal INTEGER PRIMARY KEY, entry INTEGER NOT NULL, pending INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE INDEX event_entry ON event (entry);
CREATE INDEX event_pending ON event (ordinal) WHERE pending;

-- What must go out. `due_at` and the ordinal give the order within a key; only the first of a key is not `behind`, and only
-- such may be tried, at `next_at`.
CREATE TABLE command (
    ordinal INTEGER PRIMARY KEY, id BLOB NOT NULL, merchant BLOB NOT NULL, connection BLOB NOT NULL, source BLOB NOT NULL,
    flow BLOB, event BLOB, entry INTEGER, job TEXT NOT NULL, repeatable INTEGER NOT NULL, state INTEGER NOT NULL,
    behind INTEGER NOT NULL, due_at INTEGER NOT NULL, next_at INTEGER NOT NULL, latest_at INTEGER, order_key INTEGER NOT NULL,
    subject_key INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, reason TEXT, provider_id TEXT, trace TEXT NOT NULL
);
CREATE INDEX command_due ON command (connection, next_at) WHERE state = 0 AND behind = 0;
CREATE INDEX command_order ON command (order_key, due_at) WHERE state = 0;
CREATE INDEX command_entry ON command (entry);
CREATE INDEX command_trouble ON command (state) WHERE state >= 3;

-- What is being sent now: the mark that is made before the first byte leaves. `lease` is the fencing token.
CREATE TABLE sending (command INTEGER PRIMARY KEY, lease INTEGER NOT NULL, until INTEGER NOT NULL);

CREATE TABLE exchange (
    ordinal INTEGER PRIMARY KEY, id BLOB NOT NULL, command INTEGER, at INTEGER NOT NULL, merchant BLOB NOT NULL,
    connection BLOB NOT NULL, provider TEXT NOT NULL, endpoint TEXT NOT NULL, request TEXT NOT NULL, response TEXT NOT NULL,
    error TEXT, duration_ms INTEGER NOT NULL, attempt INTEGER NOT NULL, next_retry_at INTEGER, trace TEXT NOT NULL
);
CREATE INDEX exchange_command ON exchange (command) WHERE command IS NOT NULL;

-- What entries are found by: hashes of phones, order numbers, providers' ids, and of subjects for which something was queued.
-- What was sent is found by its entry. Hashes fall anywhere in an index, so new ones are gathered, and put in order into small parts of it: a page is then written once for
-- many of them.
CREATE TABLE reference (part INTEGER, key INTEGER, entry INTEGER, PRIMARY KEY (part, key, entry)) WITHOUT ROWID;
CREATE TABLE reference_new (number INTEGER PRIMARY KEY, key INTEGER NOT NULL, entry INTEGER NOT NULL);

CREATE TABLE slot (key BLOB PRIMARY KEY, until INTEGER NOT NULL, command INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX slot_command ON slot (command);

-- Messages that a provider took, until their fate is known.
CREATE TABLE sent (
    connection BLOB, provider_id TEXT, command INTEGER NOT NULL, at INTEGER NOT NULL, state INTEGER NOT NULL, code TEXT,
    PRIMARY KEY (connection, provider_id)
) WITHOUT ROWID;
CREATE INDEX sent_open ON sent (connection, at) WHERE state = 0;

CREATE TABLE contact (
    merchant BLOB, phone TEXT, opted_out INTEGER NOT NULL DEFAULT 0, consented INTEGER NOT NULL DEFAULT 0,
    proof TEXT, at INTEGER NOT NULL, PRIMARY KEY (merchant, phone)
) WITHOUT ROWID;

-- How many rows stand in which state, counted as they change.
CREATE TABLE tally (what TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE setup (id BLOB PRIMARY KEY, kind TEXT NOT NULL, merchant BLOB, slug TEXT NOT NULL, doc TEXT NOT NULL, sealed BLOB);
CREATE UNIQUE INDEX setup_slug ON setup (kind, ifnull(merchant, x''), slug);
CREATE TABLE access_key (hash BLOB PRIMARY KEY, id TEXT NOT NULL, owner BLOB, about TEXT NOT NULL, webhook INTEGER NOT NULL);
CREATE TABLE session (connection BLOB PRIMARY KEY, sealed BLOB NOT NULL);
CREATE TABLE cursor (connection BLOB PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE notice (merchant BLOB, connection BLOB, kind TEXT, day INTEGER, text TEXT NOT NULL, PRIMARY KEY (merchant, connection, kind, day));

-- Requests that were refused: the last few of each place (a connection or a provider). No part of the journal.
CREATE TABLE refusal (place TEXT, ordinal INTEGER, doc TEXT NOT NULL, PRIMARY KEY (place, ordinal)) WITHOUT ROWID;

-- Connections whose calls fail, from when the breaker opened until it closes.
CREATE TABLE breaker (connection BLOB PRIMARY KEY, since INTEGER NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;

-- How often webhooks come.
CREATE TABLE rhythm (
    connection BLOB PRIMARY KEY, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL, count INTEGER NOT NULL,
    gap_ms INTEGER NOT NULL, longest_ms INTEGER NOT NULL
) WITHOUT ROWID;
