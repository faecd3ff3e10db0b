-- needs 1: a program that does not know the column leaves it empty, and tries again what was called off.

-- Why what is being sent is not to be tried again: it was called off meanwhile.
ALTER TABLE sending ADD COLUMN called_off text;
