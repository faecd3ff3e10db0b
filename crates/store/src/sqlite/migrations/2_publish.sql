-- What was asked for under callers' own keys, as long as a repeat is to be known.
CREATE TABLE once (key BLOB PRIMARY KEY, body BLOB NOT NULL, command BLOB NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX once_until ON once (until);

-- What is put once and stands: the check of the master key.
CREATE TABLE claim (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- Events that are still to be published, in the order in which they were committed; filled only while `flag` says so.
CREATE TABLE unpublished (number INTEGER PRIMARY KEY AUTOINCREMENT, event INTEGER NOT NULL);
CREATE TABLE flag (name TEXT PRIMARY KEY) WITHOUT ROWID;
