//! Arithmetic of loyalty points: what a programme allows, what a customer's account holds, what a refund takes back. No clock, no
//! store: the desk reads what stands, asks here, and writes what follows.
//!
//! Points and sums are whole units of the programme ([`Unit`]); one point is worth one unit. Shapes and rules follow the points
//! platform of the requirement (`quote`, `commit`, `refund`), with its faults mended: refunds add up and never pass the
//! receipt, one receipt may redeem and earn, weekdays are the outlet's.

mod account;
mod book;
mod programme;
mod quote;
mod receipt;
#[cfg(test)]
mod tests;

pub use account::{Account, Lot, Taken};
pub use book::{Book, ClubAccount, Entry, Held, Hold, HoldState, Move, MoveKind, OrderReceipt, Unsettled, Wallet};
pub use programme::{Benefit, Condition, Level, LevelMetric, Levels, Programme, Promotion, Rates, Rule, Unit};
pub use quote::{Kind, Offer, Purchase, Refused, Standing};
pub use receipt::{Earning, Receipt, Refund};
