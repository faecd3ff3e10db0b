-- The keys that seal secrets, each sealed by the master key, which lies nowhere in the store.
CREATE TABLE envelope (id BLOB PRIMARY KEY, purpose TEXT NOT NULL, merchant BLOB, wrapped BLOB NOT NULL) WITHOUT ROWID;
