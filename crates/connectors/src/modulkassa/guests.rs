//! What became of a document, whose order it was, and how the till is.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uzel_model::{
    CallError, Client, Outgoing, Refusal, Reply,
    port::{Found, Guests, Health},
};

use super::{ModulKassa, is_plain, login::basic, reading::answered};
use crate::tree;

/// A till that has not reported for so long is told of.
const SILENT: SignedDuration = SignedDuration::from_mins(15);
/// For so long a document is asked for that is not printed yet.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);

#[async_trait]
impl Guests for ModulKassa {
    async fn look_up(&self, client: &Client<'_>, what: &Value) -> Result<Found, CallError> {
        let plain = |name: &str| tree::text(&what[name]).filter(|id| is_plain(id));
        let Some(id) = plain("document") else {
            return Err(CallError::refused(Refusal::Ours, "look_up", "a look-up needs a document's id"));
        };
        let reply = client.send(Outgoing::new("GET", self.at(&format!("v1/doc/{id}/status")))).await?;
        if matches!(reply.status, 400 | 404) {
            return Ok(Found::Nobody(format!("ModulKassa does not know document {id}")));
        }
        let document = answer(&reply)?;
        let Some(status) = tree::text(&document["status"]) else {
            return Err(CallError::Unreadable("status is missing in the answer".to_owned()));
        };
        let failure = &document["failureInfo"];
        match status.as_str() {
            "FAILED" => {
                let kind = tree::text(&failure["type"]).unwrap_or_default();
                let said = [&failure["message"], &document["message"]].into_iter().find_map(tree::text).unwrap_or_default();
                Ok(Found::Nobody(format!("document {id} was not printed: {kind} {said}")))
            }
            "PRINTED" | "WAIT_FOR_CALLBACK" | "COMPLETED" if document["fiscalInfo"].is_object() => {
                let order = match plain("till_order") {
                    Some(order) => self.order(client, &order).await?,
                    None => Value::Null,
                };
                Ok(Found::Told(answered(what, &document, &order)))
            }
            "COMPLETED" => Ok(Found::Nobody(format!("document {id} has no receipt: nothing follows"))),
            _ => match again_at(client.now(), &what["told_at"]) {
                Some(at) => {
                    Err(CallError::Later { reason: format!("document {id} is not printed yet ({status})"), at: Some(at) })
                }
                None => Ok(Found::Nobody(format!("document {id} was not printed within a day ({status})"))),
            },
        }
    }
}

#[async_trait]
impl Health for ModulKassa {
    async fn health(&self, client: &Client<'_>) -> Result<Option<String>, CallError> {
        let answer = answer(&client.send(Outgoing::new("GET", self.at("v1/status"))).await?)?;
        let at = tree::moment(&answer["dateTime"]).or_else(|| tree::moment(&answer["statusDateTime"]));
        let silent = at.filter(|at| client.now().duration_since(*at) > SILENT);
        Ok(match (tree::text(&answer["status"]).as_deref(), silent) {
            (None, _) => return Err(CallError::Unreadable("status is missing in the answer".to_owned())),
            (Some("DISABLED"), _) => Some("fiscalisation is switched off for the till".to_owned()),
            (Some("ASSOCIATED"), _) => Some("the till has never reported".to_owned()),
            (Some("FAILED"), _) => Some("the state of the till cannot be read".to_owned()),
            (Some(_), Some(at)) => Some(format!("the till has not reported since {at}")),
            (Some(_), None) => None,
        })
    }
}

impl ModulKassa {
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.base_url.trim_end_matches('/'))
    }

    /// An order of the till; `Null` where there is none, or where orders may not be asked for.
    async fn order(&self, client: &Client<'_>, id: &str) -> Result<Value, CallError> {
        let (Some(login), Some(password), Some(point)) = (&self.orders_login, &self.orders_password, &self.retail_point_id)
        else {
            return Ok(Value::Null);
        };
        let url = format!("{}/v2/retail-point/{point}/order/{id}", self.orders_url.trim_end_matches('/'));
        let own = basic(&format!("{login}:{}", password.expose()));
        let reply = client.send(Outgoing::new("GET", url).header("authorization", own)).await?;
        if reply.status == 404 { Ok(Value::Null) } else { answer(&reply) }
    }
}

/// The answer, or what the refusal means: it has no body.
fn answer(reply: &Reply) -> Result<Value, CallError> {
    match reply.status {
        0..300 => reply.json(),
        403 => Err(CallError::refused(Refusal::Account, 403, "ModulKassa does not let this connection read the retail point")),
        status => Err(CallError::refused(Refusal::Command, status, format!("ModulKassa answered {status}"))),
    }
}

/// When to ask once more: a till asks for its documents every five seconds.
fn again_at(now: Timestamp, told_at: &Value) -> Option<Timestamp> {
    let told_at = tree::integer(told_at).and_then(|second| Timestamp::from_second(second).ok())?;
    let age = now.duration_since(told_at);
    let wait_s = match age {
        age if age > PATIENCE => return None,
        age if age < SignedDuration::from_mins(1) => 5,
        age if age < SignedDuration::from_mins(11) => 30,
        _ => 600,
    };
    now.checked_add(SignedDuration::from_secs(wait_s)).ok()
}
