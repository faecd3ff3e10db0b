//! The whole system from outside: raw HTTP in, stand-ins out.

mod asking;
mod fixtures;
mod intake;
mod lost;
mod review;
mod world;
