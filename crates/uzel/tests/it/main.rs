//! The whole system from outside: raw HTTP in, stand-ins out.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly")]

mod apply;
mod asking;
mod door;
mod fixtures;
mod intake;
mod login;
mod lost;
mod problems;
mod review;
mod tracing;
mod watch;
mod world;
