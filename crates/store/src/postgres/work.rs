//! Changes: what the loops commit.
