-- Short links in messages, by the hashes of their codes.
CREATE TABLE short_link (
    code BLOB PRIMARY KEY, merchant BLOB NOT NULL, address TEXT NOT NULL, expires_at INTEGER NOT NULL, doc TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX short_link_address ON short_link (merchant, address);
CREATE INDEX short_link_expires ON short_link (expires_at);

CREATE TABLE review (
    id BLOB PRIMARY KEY, merchant BLOB NOT NULL, outlet BLOB, source BLOB NOT NULL, stars INTEGER NOT NULL,
    answered INTEGER NOT NULL, address TEXT NOT NULL, left_at INTEGER NOT NULL, doc TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX review_merchant ON review (merchant, id);
CREATE INDEX review_address ON review (merchant, address);
CREATE INDEX review_left ON review (left_at);

-- How often something became of links, by the days on which they were made: kept when links and reviews are forgotten.
CREATE TABLE review_count (
    merchant BLOB, outlet BLOB, source BLOB, channel TEXT, day INTEGER, what TEXT, count INTEGER NOT NULL,
    PRIMARY KEY (merchant, day, outlet, source, channel, what)
) WITHOUT ROWID;

-- What people said about messages, word by word, with its proof; what follows from all of it stands in `contact`.
CREATE TABLE consent (
    key BLOB PRIMARY KEY, merchant BLOB NOT NULL, address TEXT NOT NULL, at INTEGER NOT NULL, doc TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX consent_address ON consent (merchant, address, at);

-- Channels by which a person wants no messages, or agrees to them, a bit for each.
ALTER TABLE contact ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE contact ADD COLUMN agreed INTEGER NOT NULL DEFAULT 0;
