//! Chains of messages: which command follows which, what became of a message, what it cost, and news that came too early.

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Serialize;
use uzel_model::{Channel, Id, Price, Timestamp, port::Delivery};

/// News of a message that is not known yet are kept so long.
pub(crate) const EARLY_FOR_MS: i64 = 48 * 3_600_000;
/// Why a command is held back whose message another one has brought.
pub(crate) const DELIVERED: &str = "delivered";
pub(crate) const OPT_OUT: &str = "opt_out";

/// What a settlement says of a message, beside what it says of any command.
#[derive(Debug, Clone)]
pub struct Step {
    pub channel: Channel,
    /// What it cost, where the provider told at once.
    pub price: Option<Price>,
    pub next: Option<Next>,
}

/// What follows a message that may reach nobody: one of the change's own commands. Where the settled command was called off
/// meanwhile, so is this one.
#[derive(Debug, Clone)]
pub struct Next {
    pub command: Id,
    /// Why it follows, for people.
    pub why: String,
}

/// What follows a message that became unknown since its hub stopped: one of the change's own commands. A conflict where what became of
/// that message is known by now, or another command follows it.
#[derive(Debug, Clone)]
pub struct Follow {
    pub after: Id,
    pub next: Next,
}

/// Why a message is unknown that was being sent when its hub stopped, and what is added where it had been called off meanwhile.
pub const STOPPED: &str = "its hub stopped while this was being sent: what the provider did is not known";
pub(crate) const CALLED_OFF: &str = "; it had been called off";

/// The reason of a message that was being sent when its hub stopped.
pub(crate) fn stopped(called_off: bool) -> String {
    if called_off { format!("{STOPPED}{CALLED_OFF}") } else { STOPPED.to_owned() }
}

/// A message that a provider took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub provider_id: String,
    pub command: Id,
    pub flow: Option<Id>,
    pub event: Option<Id>,
    pub state: Delivery,
}

/// News of a message that is not known: its entry is read again when it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Early {
    pub connection: Id,
    pub provider_id: String,
    pub entry: Id,
}

/// What messages of one month cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Spent {
    /// The flow that wanted them; none where somebody asked for them.
    pub flow: Option<Id>,
    /// By what they went, for instance `sms`.
    pub channel: String,
    /// Id of the provider, for instance `smsru`.
    pub provider: String,
    /// ISO 4217.
    pub currency: String,
    /// Decimal text.
    #[serde(serialize_with = "decimal", rename = "cost")]
    #[schemars(with = "String")]
    pub micro: i64,
    /// How many messages whose cost is known.
    pub messages: u64,
}

fn decimal<S: serde::Serializer>(micro: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&uzel_model::price::text(*micro))
}

/// The month of a moment in UTC, for instance `2026-11`.
pub(crate) fn month(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m").to_string()
}

/// Whose money a message took.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Purse {
    pub(crate) merchant: Id,
    pub(crate) month: String,
    /// Empty where no flow wanted it.
    pub(crate) flow: String,
    pub(crate) channel: String,
    pub(crate) provider: String,
}

/// What changes of the sums by currency where a message's price becomes known, or another.
pub(crate) fn shift(before: Option<&Price>, after: &Price) -> Vec<(String, i64, i64)> {
    match before {
        Some(before) if before == after => Vec::new(),
        Some(before) => vec![(before.currency.clone(), -before.micro, -1), (after.currency.clone(), after.micro, 1)],
        None => vec![(after.currency.clone(), after.micro, 1)],
    }
}

/// What a message's state becomes by news of it; `None` where they change nothing. States may come out of order: a final one is
/// never left, but what was delivered may be read.
pub(crate) fn becomes(state: Delivery, news: Delivery) -> Option<Delivery> {
    match (state, news) {
        (Delivery::OnTheWay, Delivery::Delivered | Delivery::Read | Delivery::Failed) | (Delivery::Delivered, Delivery::Read) => {
            Some(news)
        }
        _ => None,
    }
}

pub(crate) fn delivery_number(state: Delivery) -> u8 {
    match state {
        Delivery::OnTheWay => 0,
        Delivery::Delivered => 1,
        Delivery::Failed => 2,
        Delivery::Read => 3,
    }
}

pub(crate) fn delivery(number: i64) -> Delivery {
    match number {
        1 => Delivery::Delivered,
        2 => Delivery::Failed,
        3 => Delivery::Read,
        _ => Delivery::OnTheWay,
    }
}
