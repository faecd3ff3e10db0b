//! API v4: a deal's contact, a contact's phones, and our webhook.

use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel_model::{
    CallError, Client, Outgoing, Person, Refusal, Reply,
    port::{Found, Guests, Subscription},
};

use super::{
    Amocrm,
    reading::{self, WON},
};
use crate::tree;

/// What we ask to be told of.
const SETTING: &str = "status_lead";

impl Amocrm {
    /// Where the account is called; a session that knows better says so when it is applied.
    pub(super) fn base(&self) -> String {
        match (&self.base_url, &self.host) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(host)) => format!("https://{}", host.to_ascii_lowercase()),
            (None, None) => String::new(),
        }
    }

    async fn get(&self, client: &Client<'_>, path: &str) -> Result<Option<Value>, CallError> {
        read(client, &client.send(Outgoing::new("GET", format!("{}{path}", self.base()))).await?)
    }
}

/// The answer's body; `None` where amoCRM found nothing.
pub(super) fn read(client: &Client<'_>, reply: &Reply) -> Result<Option<Value>, CallError> {
    let problem = || {
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let first = tree::at(&body, &["validation-errors", "0", "errors", "0", "detail"]);
        [first, &body["detail"], &body["title"]].into_iter().find_map(tree::text).unwrap_or_else(|| "no reason given".to_owned())
    };
    match reply.status {
        204 => Ok(None),
        200..300 => reply.json().map(Some),
        400 => Err(CallError::refused(Refusal::Ours, 400, problem())),
        402 => Err(CallError::refused(Refusal::Account, 402, "the amoCRM account is not paid")),
        // No right, or blocked for too many calls: not a bad login, and time helps with the second.
        403 => Err(CallError::Later {
            reason: format!("amoCRM gives no access for now: {}", problem()),
            at: client.now().checked_add(SignedDuration::from_mins(10)).ok(),
        }),
        404 => Err(CallError::refused(Refusal::Command, 404, "amoCRM knows no such address: another account's, perhaps")),
        status => Err(CallError::refused(Refusal::Command, status, problem())),
    }
}

#[async_trait]
impl Guests for Amocrm {
    /// `{"lead": id}` finds the contact, `{"contact": id}` the person.
    async fn look_up(&self, client: &Client<'_>, what: &Value) -> Result<Found, CallError> {
        if let Some(id) = tree::integer(&what["lead"]) {
            let Some(deal) = self.get(client, &format!("/api/v4/leads/{id}?with=contacts")).await? else {
                return Ok(Found::Nobody(format!("amoCRM does not know deal {id}")));
            };
            if tree::integer(&deal["status_id"]) != Some(WON) {
                return Ok(Found::Nobody("the deal is not won any more".to_owned()));
            }
            let contacts = tree::at(&deal, &["_embedded", "contacts"]).as_array().map(Vec::as_slice).unwrap_or_default();
            let main = contacts.iter().find(|contact| tree::flag(&contact["is_main"])).or(contacts.first());
            return Ok(match main.and_then(|contact| tree::integer(&contact["id"])) {
                Some(contact) => Found::Next(json!({ "contact": contact })),
                None => Found::Nobody("the deal has no contact".to_owned()),
            });
        }
        let Some(id) = tree::integer(&what["contact"]) else {
            return Err(CallError::refused(Refusal::Ours, "look_up", "a look-up needs a deal's or a contact's id"));
        };
        let Some(contact) = self.get(client, &format!("/api/v4/contacts/{id}")).await? else {
            return Ok(Found::Nobody(format!("amoCRM does not know contact {id}")));
        };
        let phones = self.phones(&contact["custom_fields_values"]);
        let emails = reading::email_fields(&contact["custom_fields_values"]);
        if phones.is_empty() && emails.is_empty() {
            return Ok(Found::Nobody(format!("contact {id} has no phone")));
        }
        Ok(Found::Person(Person { name: reading::name(&contact), phones, emails }))
    }
}

#[async_trait]
impl Subscription for Amocrm {
    async fn subscribe(&self, client: &Client<'_>, url: &str) -> Result<(), CallError> {
        let body = json!({ "destination": url, "settings": [SETTING], "sort": 10 });
        let outgoing = Outgoing::new("POST", format!("{}/api/v4/webhooks", self.base())).json(&body);
        // The same destination again is an update.
        read(client, &client.send(outgoing.reads()).await?).map(drop)
    }

    async fn check(&self, client: &Client<'_>, url: &str) -> Result<Option<String>, CallError> {
        let filter = serde_urlencoded::to_string([("filter[destination]", url)]).unwrap_or_default();
        let answer = self.get(client, &format!("/api/v4/webhooks?{filter}")).await?.unwrap_or_default();
        let hooks = tree::at(&answer, &["_embedded", "webhooks"]).as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(hook) = hooks.iter().find(|hook| hook["destination"] == url) else {
            return Ok(Some("amoCRM has no webhook with our address".to_owned()));
        };
        let subscribed = hook["settings"].as_array().is_some_and(|settings| settings.contains(&json!(SETTING)));
        Ok(match (tree::flag(&hook["disabled"]), subscribed) {
            (true, _) => Some("amoCRM has switched our webhook off".to_owned()),
            (false, false) => Some("our webhook is not subscribed to changes of a deal's status".to_owned()),
            (false, true) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    fn amocrm() -> Box<dyn uzel_model::Connector> {
        super::super::PROVIDER.open(json!({ "host": "example.amocrm.ru", "long_lived_token": "t" })).unwrap()
    }

    #[tokio::test]
    async fn a_phone_is_found_in_two_calls() {
        let script = Script::new(&[
            (200, r#"{"status_id":142,"_embedded":{"contacts":[{"id":1,"is_main":false},{"id":52171001,"is_main":true}]}}"#),
            (
                200,
                r#"{"first_name":"Мария","custom_fields_values":[{"field_code":null,"field_name":"Откуда","values":[{"value":"7"}]},
                {"field_code":"PHONE","values":[{"value":"1","enum_code":"FAX"},{"value":"2","enum_code":"HOME"},
                {"value":"3","enum_code":"WORK"},{"value":"4","enum_code":"MOB"}]}]}"#,
            ),
        ]);
        let (client, amocrm) = (Client::new(&script), amocrm());
        let guests = amocrm.guests().unwrap();
        let Found::Next(next) = guests.look_up(&client, &json!({ "lead": 40331001 })).await.unwrap() else { panic!() };
        let found = guests.look_up(&client, &next).await.unwrap();
        assert_eq!(
            found,
            Found::Person(Person {
                name: Some("Мария".into()),
                phones: vec![json!("4"), json!("3"), json!("2")],
                emails: Vec::new()
            })
        );
        assert_eq!(script.sent()[0].url, "https://example.amocrm.ru/api/v4/leads/40331001?with=contacts");
        assert_eq!(script.sent()[1].url, "https://example.amocrm.ru/api/v4/contacts/52171001");
    }

    #[tokio::test]
    async fn there_may_be_nobody_to_write_to() {
        let deal = json!({ "lead": 1 });
        let contact = json!({ "contact": 1 });
        for (what, status, body) in [
            (&deal, 200, r#"{"status_id":7,"_embedded":{"contacts":[{"id":1}]}}"#),
            (&deal, 200, r#"{"status_id":142,"_embedded":{"contacts":[]}}"#),
            (&deal, 204, ""),
            (&contact, 204, ""),
            (&contact, 200, r#"{"custom_fields_values":null}"#),
        ] {
            let script = Script::new(&[(status, body)]);
            let amocrm = amocrm();
            let found = amocrm.guests().unwrap().look_up(&Client::new(&script), what).await;
            assert!(matches!(found, Ok(Found::Nobody(_))), "{body}: {found:?}");
        }
    }

    #[tokio::test]
    async fn a_webhook_is_missing_off_or_deaf() {
        let url = "https://hub.example/api/webhook/amocrm?key=KEY";
        let hook = |disabled: bool, setting: &str| {
            json!({ "_embedded": { "webhooks": [{ "destination": url, "disabled": disabled, "settings": [setting] }] } })
                .to_string()
        };
        let (off, deaf, stands) = (hook(true, SETTING), hook(false, "add_lead"), hook(false, SETTING));
        let script = Script::new(&[(204, ""), (200, &off), (200, &deaf), (200, &stands), (201, "{}"), (403, ""), (402, "")]);
        let (client, amocrm) = (Client::new(&script), amocrm());
        let subscription = amocrm.subscription().unwrap();
        for wrong in [true, true, true, false] {
            assert_eq!(subscription.check(&client, url).await.unwrap().is_some(), wrong);
        }
        subscription.subscribe(&client, url).await.unwrap();
        assert!(matches!(subscription.subscribe(&client, url).await, Err(CallError::Later { at: Some(_), .. })));
        let refused = subscription.subscribe(&client, url).await;
        assert!(matches!(refused, Err(CallError::Refused { refusal: Refusal::Account, .. })));
    }
}
