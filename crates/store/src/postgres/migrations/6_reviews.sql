-- needs 6: a program that does not know it would send by channels that people refuse.

-- Short links in messages, by the hashes of their codes.
CREATE TABLE short_link (
    code uuid PRIMARY KEY, merchant uuid NOT NULL, address text NOT NULL, expires_at timestamptz NOT NULL, doc text NOT NULL
);
CREATE INDEX short_link_address ON short_link (merchant, address);
CREATE INDEX short_link_expires ON short_link (expires_at);

CREATE TABLE review (
    id uuid PRIMARY KEY, merchant uuid NOT NULL, outlet uuid, source uuid NOT NULL, stars smallint NOT NULL,
    answered boolean NOT NULL, address text NOT NULL, left_at timestamptz NOT NULL, doc text NOT NULL
);
CREATE INDEX review_merchant ON review (merchant, id);
CREATE INDEX review_address ON review (merchant, address);
CREATE INDEX review_left ON review (left_at);

-- How often something became of links, by the days on which they were made: kept when links and reviews are forgotten.
CREATE TABLE review_count (
    merchant uuid, outlet uuid, source uuid, channel text, day integer, what text, count bigint NOT NULL,
    PRIMARY KEY (merchant, day, outlet, source, channel, what)
);

-- What people said about messages, word by word, with its proof; what follows from all of it stands in `contact`.
CREATE TABLE consent (
    key uuid PRIMARY KEY, merchant uuid NOT NULL, address text NOT NULL, at timestamptz NOT NULL, doc text NOT NULL
);
CREATE INDEX consent_address ON consent (merchant, address, at);

-- Channels by which a person wants no messages, or agrees to them, a bit for each.
ALTER TABLE contact ADD COLUMN refused smallint NOT NULL DEFAULT 0, ADD COLUMN agreed smallint NOT NULL DEFAULT 0;
