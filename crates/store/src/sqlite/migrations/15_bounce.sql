-- When mail to an address came back for a while only: milliseconds since 1970, a list as JSON.
CREATE TABLE bounce (merchant BLOB NOT NULL, address TEXT NOT NULL, at INTEGER NOT NULL, moments TEXT NOT NULL,
    PRIMARY KEY (merchant, address)) WITHOUT ROWID;

-- What messages cost is added up for any days.
CREATE INDEX sent_cost ON sent (connection, at) WHERE cost_micro IS NOT NULL;

-- Addresses of devices lie sealed from now on: how recipients stood before is kept without them.
UPDATE setup_version SET doc = json_remove(doc, '$.bound')
WHERE id IN (SELECT id FROM setup WHERE kind = 'recipient') OR json_type(doc, '$.bound') = 'array';
