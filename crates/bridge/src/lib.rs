//! The bridge: a small program beside a till, on the shop's own machine.
//!
//! It signs what the till asks and passes it on to the hub (`/loyalty/*`), keeps commits, refunds and cancellations while the line is
//! down, and answers quotes by the merchant's rule meanwhile. `docs/bridge.md` is its page.
//!
//! It knows nothing of the hub's store, engine and console, and shares no code with them: it must stay small, and run on Windows too.

mod bridge;
mod check;
mod cli;
mod client;
mod files;
mod install;
mod journal;
mod key;
mod local;
mod metrics;
mod offline;
mod place;
mod queue;
mod record;
mod remote;
mod secret;
mod sender;
mod settings;
mod setup;
mod sign;
mod wire;
mod words;

pub use cli::{BridgeArgs, go, run};
