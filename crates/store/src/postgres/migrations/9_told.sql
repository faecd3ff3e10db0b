-- needs 6: a program that does not know the column leaves it empty, and such a message stays unknown.

-- The provider's id of what is being sent, where a status has told it before the answer came.
ALTER TABLE sending ADD COLUMN told text;
