-- The provider's id of what is being sent, where a status has told it before the answer came.
ALTER TABLE sending ADD COLUMN told TEXT;
