-- When a person last wrote to a connection, by the key of their address.
CREATE TABLE heard (merchant BLOB NOT NULL, who TEXT NOT NULL, connection BLOB NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (merchant, who, connection)) WITHOUT ROWID;
