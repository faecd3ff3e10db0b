-- needs 13: a program before this reads no device of which only a name stands in a recipient.

-- When mail to an address came back for a while only: milliseconds since 1970, a list as JSON.
CREATE TABLE bounce (
    merchant uuid, address text, at timestamptz NOT NULL, moments text NOT NULL, PRIMARY KEY (merchant, address)
);

-- What messages cost is added up for any days.
CREATE INDEX sent_cost ON sent (connection, at) WHERE cost_micro IS NOT NULL;

-- Addresses of devices lie sealed from now on: how recipients stood before is kept without them.
UPDATE setup_version SET doc = (doc::jsonb - 'bound')::text WHERE jsonb_typeof(doc::jsonb -> 'bound') = 'array';
