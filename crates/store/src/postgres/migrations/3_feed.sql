-- needs 3: a program that does not know it would tell no events in the feed.

-- Of each event by whom and what it tells, and its place in the feed, once it is whole: the number of the transaction that made it
-- so. Whoever reads the feed takes only what is from before the oldest transaction that is still open, so that nothing comes in
-- behind. Where the database has been moved to a server that counts from lower numbers, `added` makes up for it.
CREATE TABLE feed_base (one boolean PRIMARY KEY CHECK (one), added bigint NOT NULL);
INSERT INTO feed_base VALUES (true, 0);
ALTER TABLE event ADD COLUMN merchant uuid, ADD COLUMN connection uuid, ADD COLUMN kind text, ADD COLUMN place bigint;
UPDATE event e SET merchant = j.merchant, connection = j.connection, kind = e.doc::json ->> 'kind',
    place = CASE WHEN NOT e.pending THEN 0 END FROM inbox j WHERE j.id = e.entry;
CREATE INDEX event_kind ON event (connection, kind, id);
CREATE INDEX event_place ON event (place, id) WHERE place IS NOT NULL;

CREATE INDEX command_connection ON command (connection, id);
CREATE INDEX trouble_dead ON trouble (entry) WHERE state = 3;

-- Opt-outs of people who were erased: a keyed hash of the phone is all that is left of them.
CREATE TABLE opted_out (merchant uuid, hash bytea, at timestamptz NOT NULL, PRIMARY KEY (merchant, hash));
