-- needs 10: what a program before this notices counts as told.

-- When people were told of a notice; nothing: they are still to be told. What was noticed before this was known is not told any more.
ALTER TABLE notice ADD COLUMN told_at timestamptz DEFAULT 'epoch';
CREATE INDEX notice_untold ON notice (merchant) WHERE told_at IS NULL;
