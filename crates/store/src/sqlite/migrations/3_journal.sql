-- Pages of a connection that is seldom heard of are found without reading all that came between. An index ends with the ordinal.
CREATE INDEX inbox_connection ON inbox (connection);
CREATE INDEX exchange_connection ON exchange (connection);

-- How far retention has gone (an ordinal). References to entries before it may outlive them: they are taken out by parts.
CREATE TABLE purged (place INTEGER NOT NULL);
