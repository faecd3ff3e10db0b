//! Events: what happened, in the hub's words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Id, Timestamp,
    message::read_email,
    named::Named,
    phone::{Phone, PhoneError},
};

/// Types of events, in the form CloudEvents wants.
pub mod kind {
    pub const ORDER_COMPLETED: &str = "order.completed";
    pub const ORDER_CANCELLED: &str = "order.cancelled";
    /// A part of an order's sum was given back.
    pub const ORDER_REFUNDED: &str = "order.refunded";
    pub const VISIT_COMPLETED: &str = "visit.completed";
    pub const VISIT_CANCELLED: &str = "visit.cancelled";
    pub const DEAL_WON: &str = "deal.won";
    pub const DEAL_LOST: &str = "deal.lost";
    pub const STOCK_CHANGED: &str = "stock.changed";
    pub const RESERVATION_CHANGED: &str = "reservation.changed";
    pub const MESSAGE_DELIVERED: &str = "message.delivered";
    pub const MESSAGE_FAILED: &str = "message.failed";
    /// A person wrote to the merchant.
    pub const MESSAGE_RECEIVED: &str = "message.received";
    /// A guest gave stars by the link of a review request.
    pub const REVIEW_LEFT: &str = "review.left";
    /// The guest changed their stars, or wrote a comment.
    pub const REVIEW_CHANGED: &str = "review.changed";
    /// A call that was to prove a phone has come, or did not come in time.
    pub const CALL_CHECK_ENDED: &str = "call_check.ended";
    /// A person came to a chat with the merchant, wants no more messages there, or cannot be written to any more.
    pub const CHAT_CHANGED: &str = "chat.changed";
    /// An outside loyalty programme says that something has happened to an account: a hint to ask for it again.
    pub const LOYALTY_ACCOUNT_CHANGED: &str = "loyalty.account_changed";
    pub const CONNECTION_DISABLED: &str = "connection.disabled";
    /// A till was told what points may pay, or how many will be earned.
    pub const LOYALTY_QUOTED: &str = "loyalty.quoted";
    /// Points were spent or earned with an order.
    pub const LOYALTY_COMMITTED: &str = "loyalty.committed";
    /// Points went back with a refund.
    pub const LOYALTY_REFUNDED: &str = "loyalty.refunded";
    /// Earned points can be spent later.
    pub const LOYALTY_EARN_SCHEDULED: &str = "loyalty.earn.scheduled";
    /// Now they can.
    pub const LOYALTY_EARN_ACTIVATED: &str = "loyalty.earn.activated";
    /// Points will expire soon.
    pub const LOYALTY_TTL_PREVIEW: &str = "loyalty.points_ttl.preview";
    pub const LOYALTY_EXPIRED: &str = "loyalty.expired";
    /// Points were given or taken by a person, an import or a referral.
    pub const LOYALTY_ADJUSTED: &str = "loyalty.adjusted";
    /// Points of one lot were spent.
    pub const LOYALTY_LOT_CONSUMED: &str = "loyalty.earnlot.consumed";
    /// Spent points of one lot came back.
    pub const LOYALTY_LOT_UNCONSUMED: &str = "loyalty.earnlot.unconsumed";
    /// Points of one lot were taken back.
    pub const LOYALTY_LOT_REVOKED: &str = "loyalty.earnlot.revoked";
    /// What happens to single lots.
    pub const LOYALTY_LOTS: [&str; 3] = [LOYALTY_LOT_CONSUMED, LOYALTY_LOT_UNCONSUMED, LOYALTY_LOT_REVOKED];

    /// All of them, for checking what a flow listens to.
    pub const ALL: &[&str] = &[
        ORDER_COMPLETED,
        ORDER_CANCELLED,
        ORDER_REFUNDED,
        VISIT_COMPLETED,
        VISIT_CANCELLED,
        DEAL_WON,
        DEAL_LOST,
        STOCK_CHANGED,
        RESERVATION_CHANGED,
        MESSAGE_DELIVERED,
        MESSAGE_FAILED,
        MESSAGE_RECEIVED,
        CALL_CHECK_ENDED,
        CHAT_CHANGED,
        REVIEW_CHANGED,
        REVIEW_LEFT,
        LOYALTY_ACCOUNT_CHANGED,
        CONNECTION_DISABLED,
        LOYALTY_QUOTED,
        LOYALTY_COMMITTED,
        LOYALTY_REFUNDED,
        LOYALTY_EARN_SCHEDULED,
        LOYALTY_EARN_ACTIVATED,
        LOYALTY_TTL_PREVIEW,
        LOYALTY_EXPIRED,
        LOYALTY_ADJUSTED,
        LOYALTY_LOT_CONSUMED,
        LOYALTY_LOT_UNCONSUMED,
        LOYALTY_LOT_REVOKED,
    ];
}

/// What a connector read out of a request: one thing that happened at the provider.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Happening {
    /// The provider's own ids, joined: the same for every repeat of this thing, for ever. `None` where a body carries no
    /// id at all: the engine then takes (connection, phone, status, hour) and marks the key as weak.
    pub key: Option<String>,
    /// One of [`kind`].
    pub kind: &'static str,
    /// What it is about (`order/5001`): events of one subject are kept in order.
    pub subject: String,
    /// When it happened, where the provider tells it with a zone.
    pub at: Option<Timestamp>,
    pub person: Person,
    /// Numbers that people search by: the order's, the deal's, the record's.
    pub refs: Vec<String>,
    /// What flows may ask about and templates may show.
    pub data: Value,
    /// Where the guest's phone can be asked for when the body has none (the job's own words, read by the port).
    pub look_up: Option<Value>,
}

/// A guest, as the provider's body names them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Person {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What stands in the places for a phone, in order; the first that normalises wins.
    pub phones: Vec<Value>,
    /// What stands in the places for an e-mail address, in order; the first that is one wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<Value>,
}

impl Person {
    /// The first of its e-mail addresses, in lower case.
    pub fn email(&self) -> Option<String> {
        self.emails.iter().filter_map(Value::as_str).find_map(|email| read_email(email).ok())
    }
}

/// An event as the hub keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The event.
    pub id: Id,
    /// Whose it is.
    pub merchant: Id,
    /// The connection that told it.
    pub connection: Id,
    /// Id of the provider, for instance `iiko`.
    pub provider: String,
    /// Where it happened.
    pub outlet: Option<Id>,
    /// What happened, for instance `order.completed`.
    pub kind: String,
    /// What it is about, for instance `order/5001`: events of one subject are kept in order.
    pub subject: String,
    /// The same for every repeat of this event, for ever.
    pub key: String,
    /// Made of the body's meaning, since the body carried no id.
    pub weak_key: bool,
    /// When it happened; when it was received, where the provider does not tell.
    pub at: Timestamp,
    /// The guest's name.
    pub name: Option<String>,
    /// The guest's phone.
    pub phone: Option<Phone>,
    /// Why there is no phone.
    pub phone_error: Option<PhoneError>,
    /// The guest's e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Numbers that people search by: the order's, the deal's, the record's.
    pub refs: Vec<String>,
    /// What flows may ask about and templates may show.
    pub data: Value,
    /// Read from before the connection was set up: no message follows unless a flow asks for such events.
    pub history: bool,
    /// The inbox row it was read from.
    pub entry: Id,
    /// One trace from the webhook to the last attempt (W3C trace id, 32 hex digits).
    pub trace: String,
}

/// Names of fields in [`Event::data`] whose texts are no words about a person: ids, times, amounts, states.
const IMPERSONAL: [&str; 22] = [
    "amount",
    "code",
    "company",
    "count",
    "currency",
    "date",
    "guests",
    "id",
    "ids",
    "items",
    "kind",
    "number",
    "order",
    "organization",
    "pipeline",
    "price",
    "restaurant",
    "start",
    "status",
    "sum",
    "time",
    "type",
];

impl Event {
    /// Takes out what is told of the guest: name, phone, e-mail address, and every text of the data that may be about a person. Amounts, times and
    /// ids stay.
    pub fn forget_person(&mut self, phone: &Named) {
        (self.name, self.phone, self.phone_error, self.email) = (None, None, None, None);
        self.refs.retain(|value| !phone.is_in(value));
        if self.weak_key || phone.is_in(&self.key) {
            // It is made of a hash of the phone.
            self.key = "erased".to_owned();
        }
        if phone.is_in(&self.subject) {
            self.subject = "erased".to_owned();
        }
        forget(&mut self.data, "", phone);
    }
}

fn forget(value: &mut Value, name: &str, phone: &Named) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| forget(value, name, phone)),
        Value::Array(values) => values.iter_mut().for_each(|value| forget(value, name, phone)),
        Value::String(text) => {
            let impersonal = IMPERSONAL.iter().any(|known| name == *known || name.ends_with(&format!("_{known}")));
            if !impersonal || phone.is_in(text) {
                *value = Value::Null;
            }
        }
        Value::Number(number) => {
            if phone.is_in(&number.to_string()) {
                *value = Value::Null;
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_be_about_a_person_goes_from_the_data_and_figures_stay() {
        let mut data = json!({
            "sum": "1200.50", "status": "Closed", "order_id": "77", "comment": "Мария, домофон 5", "name": "Maria", "guests": 2,
            "client": { "id": 7, "email": "m@example.com", "tel": 79991234567_i64 }, "items": ["Стрижка", "+7 (999) 123-45-67"],
        });
        forget(&mut data, "", &Named::new("+79991234567"));
        let left = json!({
            "sum": "1200.50", "status": "Closed", "order_id": "77", "comment": null, "name": null, "guests": 2,
            "client": { "id": 7, "email": null, "tel": null }, "items": ["Стрижка", null],
        });
        assert_eq!(data, left);
    }
}
