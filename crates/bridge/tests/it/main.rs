//! The bridge from outside: the real program in a folder of its own, a till that speaks HTTP to it, and a scripted hub.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly")]

mod commands;
mod hub;
mod kept;
mod killed;
mod offline;
mod passed;
mod refused;
mod world;
