-- needs 5: a program that does not know it opens no secret that was sealed since.

-- The keys that seal secrets, each sealed by the master key, which lies nowhere in the store.
CREATE TABLE envelope (id uuid PRIMARY KEY, purpose text NOT NULL, merchant uuid, wrapped bytea NOT NULL);
