-- needs 1

-- Times are kept to the microsecond; ids are UUIDv7, so that new rows are written at the end of their tables and a range of ids
-- is a range of time. Tables of the journal are cut into weeks by it: a week is dropped at once when its time is over.

-- The order in which entries came, whichever node took them and whatever its clock said.
CREATE SEQUENCE arrival;

-- What came. Bodies and headers are kept as they were, credentials taken out. A row never changes.
CREATE TABLE inbox (
    id uuid PRIMARY KEY, arrival bigint NOT NULL DEFAULT nextval('arrival'), received_at timestamptz NOT NULL,
    merchant uuid NOT NULL, connection uuid NOT NULL, provider text NOT NULL, source smallint NOT NULL, method text NOT NULL,
    path text NOT NULL, query text NOT NULL, headers text NOT NULL, body bytea NOT NULL, answer text NOT NULL, peer text,
    proof text, trace text NOT NULL
) PARTITION BY RANGE (id);
CREATE INDEX inbox_connection ON inbox (connection, id);

-- What nobody has read yet, and until when a node means to read it.
CREATE TABLE unread (entry uuid PRIMARY KEY, until timestamptz NOT NULL) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- How an entry ended, where it is not simply read: a duplicate, dead, or read with something to note.
CREATE TABLE outcome (entry uuid PRIMARY KEY, state smallint NOT NULL, notes text) PARTITION BY RANGE (entry);
CREATE INDEX outcome_dead ON outcome (entry) WHERE state = 3;

-- Keys of all events ever seen. Retention never touches this table.
CREATE TABLE seen (key uuid PRIMARY KEY);

CREATE TABLE event (id uuid PRIMARY KEY, entry uuid NOT NULL, pending boolean NOT NULL, doc text NOT NULL) PARTITION BY RANGE (id);
CREATE INDEX event_entry ON event (entry);

-- What must go out, and what became of it. No index holds what changes, so that a change costs one row and no index.
CREATE TABLE command (
    id uuid PRIMARY KEY, merchant uuid NOT NULL, connection uuid NOT NULL, source uuid NOT NULL, flow uuid, event uuid,
    entry uuid, job text NOT NULL, repeatable boolean NOT NULL, state smallint NOT NULL, due_at timestamptz NOT NULL,
    latest_at timestamptz, order_key bigint NOT NULL, subject_key bigint NOT NULL, attempts integer NOT NULL DEFAULT 0,
    reason text, provider_id text, trace text NOT NULL
) PARTITION BY RANGE (id);
CREATE INDEX command_entry ON command (entry);

-- Commands of state 0, and nothing else: small, however long the journal grows. `due_at` and the id give the order within a
-- key; only the first of a key is not `behind`, and only such may be tried, at `next_at`.
CREATE TABLE waiting (
    command uuid PRIMARY KEY, connection uuid NOT NULL, order_key bigint NOT NULL, subject_key bigint NOT NULL,
    due_at timestamptz NOT NULL, next_at timestamptz NOT NULL, attempts integer NOT NULL, behind boolean NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX waiting_due ON waiting (connection, next_at, command) WHERE NOT behind;
CREATE INDEX waiting_order ON waiting (order_key, due_at, command);
CREATE INDEX waiting_subject ON waiting (subject_key);

-- What is being sent now: the mark that is made before the first byte leaves. `lease` is the fencing token; it ends by this
-- server's clock. `batch` is the asker's own word for all that it took at once: if the answer is lost, it gives them back by it.
CREATE SEQUENCE lease;
CREATE TABLE sending (command uuid PRIMARY KEY, lease bigint NOT NULL, until timestamptz NOT NULL, batch uuid NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Commands that are dead (3), unknown (4) or held back (5).
CREATE TABLE trouble (command uuid PRIMARY KEY, entry uuid, subject_key bigint NOT NULL, state smallint NOT NULL);
CREATE INDEX trouble_state ON trouble (state, command);
CREATE INDEX trouble_subject ON trouble (subject_key) WHERE state = 3;

-- Subjects whose commands were called off, and by what arrival: what came before it and is read after it queues nothing.
CREATE TABLE called_off (subject_key bigint PRIMARY KEY, arrival bigint NOT NULL, reason text NOT NULL, at timestamptz NOT NULL);

CREATE TABLE exchange (
    id uuid PRIMARY KEY, command uuid, at timestamptz NOT NULL, merchant uuid NOT NULL, connection uuid NOT NULL,
    provider text NOT NULL, endpoint text NOT NULL, request text NOT NULL, response text NOT NULL, error text,
    duration_ms bigint NOT NULL, attempt integer NOT NULL, next_retry_at timestamptz, trace text NOT NULL
) PARTITION BY RANGE (id);
CREATE INDEX exchange_command ON exchange (command) WHERE command IS NOT NULL;
CREATE INDEX exchange_connection ON exchange (connection, id);

-- What entries are found by: hashes of phones, order numbers, providers' ids.
CREATE TABLE reference (key bigint, entry uuid, PRIMARY KEY (key, entry)) PARTITION BY RANGE (entry);

-- Of entries from before this id, references may lead to nothing: an entry may go before its week does.
CREATE TABLE purged (one boolean PRIMARY KEY CHECK (one), before uuid NOT NULL);

CREATE TABLE slot (key uuid PRIMARY KEY, until timestamptz NOT NULL, command uuid NOT NULL);
CREATE INDEX slot_command ON slot (command);

-- Messages that a provider took, until their fate is known.
CREATE TABLE sent (
    connection uuid, provider_id text, command uuid NOT NULL, at timestamptz NOT NULL, state smallint NOT NULL, code text,
    PRIMARY KEY (connection, provider_id)
);
CREATE INDEX sent_open ON sent (connection, at) WHERE state = 0;

CREATE TABLE contact (
    merchant uuid, phone text, opted_out boolean NOT NULL DEFAULT false, consented boolean NOT NULL DEFAULT false, proof text,
    at timestamptz NOT NULL, PRIMARY KEY (merchant, phone)
);

-- How many rows stand in which state, counted as they change. Every lane of every node counts in a shard of its own, so that
-- none waits for another; the sum counts.
CREATE TABLE tally (what text, shard integer, count bigint NOT NULL, PRIMARY KEY (what, shard)) WITH (fillfactor = 50);

CREATE TABLE setup (id uuid PRIMARY KEY, kind text NOT NULL, merchant uuid, slug text NOT NULL, doc text NOT NULL, sealed bytea);
CREATE UNIQUE INDEX setup_slug ON setup (kind, coalesce(merchant, '00000000-0000-0000-0000-000000000000'), slug);
CREATE TABLE access_key (hash bytea PRIMARY KEY, id text NOT NULL, owner uuid, about text NOT NULL, webhook boolean NOT NULL);
CREATE TABLE session (connection uuid PRIMARY KEY, sealed bytea NOT NULL);
CREATE TABLE cursor (connection uuid PRIMARY KEY, value text NOT NULL);
CREATE TABLE notice (merchant uuid, connection uuid, kind text, day integer, text text NOT NULL, PRIMARY KEY (merchant, connection, kind, day));

-- Requests that were refused: the last few of each place (a connection or a provider). No part of the journal.
CREATE TABLE refusal (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, place text NOT NULL, doc text NOT NULL);
CREATE INDEX refusal_place ON refusal (place, number);

-- Connections whose calls fail, from when the breaker opened until it closes.
CREATE TABLE breaker (connection uuid PRIMARY KEY, since timestamptz NOT NULL, reason text NOT NULL);

-- How often webhooks come.
CREATE TABLE rhythm (
    connection uuid PRIMARY KEY, first_at timestamptz NOT NULL, last_at timestamptz NOT NULL, count bigint NOT NULL,
    gap_ms bigint NOT NULL, longest_ms bigint NOT NULL
);

-- What was asked for under callers' own keys, as long as a repeat is to be known.
CREATE TABLE once (key uuid PRIMARY KEY, body uuid NOT NULL, command uuid NOT NULL, until timestamptz NOT NULL);
CREATE INDEX once_until ON once (until);

-- What is put once and stands: the check of the master key.
CREATE TABLE claim (name text PRIMARY KEY, value bytea NOT NULL);

-- Events that are still to be published; filled only while `flag` says so. Of one subject the numbers follow the commits.
CREATE TABLE unpublished (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event uuid NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE TABLE flag (name text PRIMARY KEY);

CREATE SEQUENCE turn_token;
-- What one node at a time does: who holds it, until when, and when it was last taken.
CREATE TABLE turn (name text PRIMARY KEY, token bigint NOT NULL, taken_at timestamptz NOT NULL, until timestamptz NOT NULL);

-- Moments of late calls, by which nodes together keep a provider's limits. A crash may take them.
CREATE UNLOGGED TABLE moment (name text PRIMARY KEY, at_ms bigint[] NOT NULL) WITH (fillfactor = 50);

-- Nodes that have been at work lately.
CREATE TABLE node (id uuid PRIMARY KEY, name text NOT NULL, version text NOT NULL, started_at timestamptz NOT NULL, seen_at timestamptz NOT NULL);
