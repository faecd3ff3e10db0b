-- Why what is being sent is not to be tried again: it was called off meanwhile.
ALTER TABLE sending ADD COLUMN called_off TEXT;
