//! The whole system from outside: raw HTTP in, stand-ins out.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly")]

mod api;
mod apply;
mod asked;
mod asking;
mod backup;
mod bench;
mod binary;
mod bounds;
mod browser;
mod calls;
mod commands;
mod conformance;
mod dev;
mod doctor;
mod document;
mod door;
mod erasure;
mod faults;
mod fixtures;
mod intake;
mod limits;
mod logins;
mod logouts;
mod lost;
mod moves;
mod nats;
mod nats_commands;
mod nats_server;
mod nodes;
mod oauth;
mod polls;
mod problems;
mod readers;
mod replays;
mod review;
mod rules;
mod secrets;
mod smsru;
mod subscriptions;
mod tracing;
mod watch;
mod world;
