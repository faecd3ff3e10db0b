//! Loyalty: outside programmes, asked while a cashier waits and told later what can wait.

pub mod club;
pub(crate) mod club_jobs;
