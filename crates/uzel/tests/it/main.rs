//! The whole system from outside: raw HTTP in, stand-ins out.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly")]

mod apply;
mod asking;
mod conformance;
mod fixtures;
mod intake;
mod limits;
mod login_ended;
mod lost;
mod review;
mod world;
