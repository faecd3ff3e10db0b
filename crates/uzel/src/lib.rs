//! The binary's wiring: settings, the hub's start and stop, and the commands.
//!
//! This crate alone knows all the others, and it alone reads the environment and the settings file.

pub mod bench;
pub mod commands;
pub mod demo;
pub mod hub;
mod master;
pub mod settings;
