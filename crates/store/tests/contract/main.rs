//! The contract of stores over each of them: the same cases, which do not know what they run on.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly")]
#![allow(clippy::duplicate_mod, reason = "the same cases run over each store")]

mod memory;
mod postgres;
mod sqlite;
