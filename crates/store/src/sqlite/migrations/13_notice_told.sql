-- When people were told of a notice; nothing: they are still to be told. What was noticed before this was known is not told any more.
ALTER TABLE notice ADD COLUMN told_at INTEGER DEFAULT 0;
CREATE INDEX notice_untold ON notice (merchant) WHERE told_at IS NULL;
