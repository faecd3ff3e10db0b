//! Whose visit it was: asked by the client's number.

use async_trait::async_trait;
use serde_json::Value;
use uzel_model::{
    CallError, Client, Person, Refusal,
    port::{Found, Guests},
};

use super::{Yclients, reading::hidden, wire::data};
use crate::tree;

#[async_trait]
impl Guests for Yclients {
    async fn look_up(&self, client: &Client<'_>, what: &Value) -> Result<Found, CallError> {
        let company = tree::integer(&what["company"]).or_else(|| self.company_id.and_then(|id| i64::try_from(id).ok()));
        let Some((company, id)) = company.zip(tree::integer(&what["client"])) else {
            return Err(CallError::refused(Refusal::Ours, "client", "a look-up needs the branch's and the client's numbers"));
        };
        let reply = client.send(self.call("GET", format!("/client/{company}/{id}"))).await?;
        if reply.status == 404 {
            return Ok(Found::Nobody(format!("YCLIENTS does not know client {id}")));
        }
        let guest = data(&reply)?;
        if hidden(&guest["phone"]) {
            return Ok(Found::Nobody(format!(
                "YCLIENTS shows no phone of client {id}: there is none, or the user may not see it"
            )));
        }
        Ok(Found::Person(Person {
            name: tree::text(&guest["name"]),
            phones: vec![guest["phone"].clone()],
            emails: tree::emails(&guest, &[&["email"]]),
        }))
    }
}
