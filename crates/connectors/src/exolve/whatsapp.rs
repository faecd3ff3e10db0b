//! MTS Exolve: WhatsApp by a contract with its sales department.
//!
//! There is no public document of it. What is assumed stands in settings: the address, the bodies of texts and of templates with
//! `{places}` that the hub fills, where the answer has the message's id, and whether statuses come. As they stand they are like
//! Exolve's SMS. Names, languages and parts of templates are Meta's, and so is the rule of the 24-hour window.

use async_trait::async_trait;
use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use uzel_model::{
    CallError, Channel, Client, Connector, Malformed, Outbound, Provider, Reading, Refusal, Request, Secret,
    connector::{Rate, Scope, Variables},
    port::{Messages, Sent},
    signature,
};

use super::{events, mapping::Mapping, wire};
use crate::tree;

pub(crate) const PROVIDER: Provider = Provider::new::<ExolveWhatsapp>("whatsappexolve", "MTS Exolve WhatsApp")
    .with_words(include_str!("whatsapp.words.toml"))
    .with_variables(Variables {
        slug: "whatsapp-exolve",
        needed: &[("EXOLVE_WHATSAPP_API_KEY", "api_key"), ("EXOLVE_WHATSAPP_SENDER_ID", "sender_id")],
        optional: &[("EXOLVE_WHATSAPP_SEND_URL", "send_url")],
    });

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExolveWhatsapp {
    /// API key of the application in your Exolve account.
    #[garde(skip)]
    api_key: Secret,
    /// Id of the sender that Exolve has given you for WhatsApp.
    #[garde(length(chars, min = 1, max = 100))]
    #[schemars(length(min = 1, max = 100))]
    sender_id: String,
    /// Where messages are sent, as your contract with Exolve says; without it nothing is sent.
    #[garde(inner(length(chars, min = 1)))]
    #[schemars(length(min = 1))]
    send_url: Option<String>,
    /// Body of a text: JSON with {sender}, {phone} (digits without a plus) and {text}.
    #[serde(default = "text_body")]
    #[schemars(with = "String")]
    #[garde(skip)]
    text_body: Mapping,
    /// Body of an approved template: the same with {template}, {language} and {components}.
    #[serde(default = "template_body")]
    #[schemars(with = "String")]
    #[garde(skip)]
    template_body: Mapping,
    /// Templates that are approved, each as name and language (`thanks/ru`). Where they are listed, a flow or a message that names another
    /// one is refused at once.
    #[garde(inner(length(max = 500)))]
    #[schemars(length(max = 500))]
    templates: Option<Vec<String>>,
    /// Where the answer has the message's id: names with dots between them.
    #[serde(default = "id_path")]
    #[garde(length(chars, min = 1, max = 200))]
    #[schemars(length(min = 1, max = 200))]
    id_path: String,
    /// Exolve tells what becomes of messages at this connection's address. Leave it off until a status has been seen: else the hub
    /// waits for news that never come.
    #[serde(default)]
    #[garde(skip)]
    tells_delivery: bool,
    /// Calls a second at the most.
    #[serde(default = "calls_per_s")]
    #[garde(range(min = 1, max = 100_000))]
    #[schemars(range(min = 1, max = 100_000))]
    calls_per_s: u32,
}

fn mapping(body: &str) -> Mapping {
    Mapping::try_from(body.to_owned()).expect("a test reads the defaults")
}

fn text_body() -> Mapping {
    mapping(r#"{"sender_id":"{sender}","destination":"{phone}","text":"{text}"}"#)
}

fn template_body() -> Mapping {
    mapping(
        r#"{"sender_id":"{sender}","destination":"{phone}","template":{"name":"{template}","language":"{language}","components":"{components}"}}"#,
    )
}

fn id_path() -> String {
    "message_id".to_owned()
}

fn calls_per_s() -> u32 {
    10
}

impl Connector for ExolveWhatsapp {
    /// Assumed to look like those of SMS.
    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        events::read(&request.json()?)
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }

    fn rates(&self) -> Vec<Rate> {
        let account = signature::sha256_hex([self.api_key.expose().as_bytes()]);
        vec![Rate::per_second(Scope::Account(account), self.calls_per_s)]
    }
}

#[async_trait]
impl Messages for ExolveWhatsapp {
    fn channel(&self) -> Channel {
        Channel::Whatsapp
    }

    fn tells_delivery(&self) -> bool {
        self.tells_delivery
    }

    /// WhatsApp's own rule, whoever sells it.
    fn reply_window_h(&self) -> Option<u32> {
        Some(24)
    }

    fn templates(&self) -> Option<&[String]> {
        self.templates.as_deref()
    }

    async fn send(&self, client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        let Some(url) = &self.send_url else {
            let reason = "WhatsApp by Exolve has no address to send to: ask Exolve for the address and set `send_url`";
            return Err(CallError::refused(Refusal::Account, "send_url", reason));
        };
        let mapping = if message.content.template.is_some() { &self.template_body } else { &self.text_body };
        let body = mapping.fill(&self.sender_id, message.phone()?, message);
        let answer = wire::call(client, &self.api_key, url.clone(), &body, false).await?;
        let path: Vec<&str> = self.id_path.split('.').collect();
        let id = tree::text(tree::at(&answer, &path)).or_else(|| wire::id(&answer));
        let id = id.ok_or_else(|| CallError::Unreadable(format!("the answer has no {}", self.id_path)))?;
        Ok(Sent::new(id))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uzel_model::{Address, Content, message::Template};

    use super::*;
    use crate::testing::Script;

    async fn send(settings: Value, content: &Content, answer: &str) -> (Result<Sent, CallError>, Vec<Value>) {
        let mut whole = json!({ "api_key": "key-of-exolve", "sender_id": "S1" });
        whole.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let ours = PROVIDER.open(whole).unwrap();
        let (script, to) = (Script::new(&[(200, answer)]), Address::Phone("+79990001122".to_owned()));
        let message = Outbound { to: &to, content, key: "k" };
        let sent = ours.messages().unwrap().send(&Client::new(&script), message).await;
        let bodies = script.sent().iter().map(|sent| serde_json::from_slice(&sent.body).unwrap()).collect();
        (sent, bodies)
    }

    fn review() -> Content {
        let components = vec![json!({ "type": "body", "parameters": [{ "type": "text", "text": "Анна" }] })];
        let template = Template { name: "review_request".to_owned(), language: "ru".to_owned(), components };
        Content { template: Some(template), ..Content::text("Оставьте отзыв") }
    }

    #[tokio::test]
    async fn texts_and_templates_go_as_the_settings_say() {
        let url = json!({ "send_url": "https://wa.example/send" });
        let (sent, bodies) = send(url.clone(), &Content::text("Привет"), r#"{"message_id":"7"}"#).await;
        assert_eq!(sent.unwrap().provider_id, "7");
        assert_eq!(bodies, [json!({ "sender_id": "S1", "destination": "79990001122", "text": "Привет" })]);
        let (sent, bodies) = send(url, &review(), r#"{"message_id":8}"#).await;
        assert_eq!(sent.unwrap().provider_id, "8");
        let template = review().template.unwrap();
        let wanted = json!({ "name": "review_request", "language": "ru", "components": template.components });
        assert_eq!(bodies[0]["template"], wanted);

        let other = json!({ "send_url": "https://wa.example/send", "id_path": "data.0.id",
            "template_body": r#"{"to":"{phone}","body":{"{x":"{template}:{language}"}}"# });
        let (sent, bodies) = send(other, &review(), r#"{"data":[{"id":"wamid.7"}]}"#).await;
        assert_eq!(sent.unwrap().provider_id, "wamid.7");
        assert_eq!(bodies, [json!({ "to": "79990001122", "body": { "{x": "review_request:ru" } })]);
    }

    #[tokio::test]
    async fn without_an_address_it_says_whom_to_ask_and_calls_nobody() {
        let (sent, bodies) = send(json!({}), &Content::text("Привет"), "{}").await;
        match sent {
            Err(CallError::Refused { refusal: Refusal::Account, reason, .. }) => {
                assert!(reason.contains("ask Exolve for the address"))
            }
            other => panic!("{other:?}"),
        }
        assert!(bodies.is_empty());
    }

    #[test]
    fn a_wrong_body_is_refused_by_its_name() {
        let open = |body: &str| PROVIDER.open(json!({ "api_key": "k", "sender_id": "S", "text_body": body })).map(drop);
        assert_eq!(open(r#"{"to":"{phone}"}"#), Ok(()));
        for wrong in ["", "text", "[]", r#"{"to":"{number}"}"#] {
            assert_eq!(open(wrong).unwrap_err()[0].pointer, "/text_body", "{wrong}");
        }
    }
}
