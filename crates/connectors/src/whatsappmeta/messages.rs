//! Messages to people.

use async_trait::async_trait;
use serde_json::{Value, json};
use uzel_model::{
    CallError, Channel, Client, Outbound, Outgoing, Refusal,
    message::Template,
    port::{Messages, Sent},
};

use super::{WhatsApp, errors};
use crate::tree;

const TEXT_CHARS_MAX: usize = 4_096;
const WINDOW_H: u32 = 24;

#[async_trait]
impl Messages for WhatsApp {
    fn channel(&self) -> Channel {
        Channel::Whatsapp
    }

    fn reply_window_h(&self) -> Option<u32> {
        Some(WINDOW_H)
    }

    fn templates(&self) -> Option<&[String]> {
        self.templates.as_deref()
    }

    async fn send(&self, client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        let to: String = message.phone()?.chars().filter(char::is_ascii_digit).collect();
        let mut body = json!({
            "messaging_product": "whatsapp", "recipient_type": "individual", "to": to, "biz_opaque_callback_data": message.key,
        });
        match &message.content.template {
            Some(template) => {
                body["type"] = json!("template");
                body["template"] = written(template);
            }
            None => {
                let text = &message.content.text;
                if text.chars().count() > TEXT_CHARS_MAX {
                    let reason = format!("the text is longer than {TEXT_CHARS_MAX} characters");
                    return Err(CallError::refused(Refusal::Content, "text", reason));
                }
                body["type"] = json!("text");
                body["text"] = json!({ "body": text, "preview_url": text.contains("https://") || text.contains("http://") });
            }
        }
        let url = self.url(&format!("{}/messages", self.phone_number_id));
        let answer = self.call(client, Outgoing::new("POST", url).json(&body)).await?;
        match tree::text(tree::at(&answer, &["messages", "0", "id"])) {
            Some(provider_id) => {
                let held = tree::text(tree::at(&answer, &["messages", "0", "message_status"]));
                let held = held.filter(|status| status != "accepted");
                let remark = held.map(|status| format!("a message by a template is held back: {status}"));
                Ok(Sent { remark, ..Sent::new(provider_id) })
            }
            None => Err(CallError::Unreadable("the answer names no message".to_owned())),
        }
    }
}

impl WhatsApp {
    /// Makes a call, and gives the answer unless it refuses.
    pub(super) async fn call(&self, client: &Client<'_>, outgoing: Outgoing) -> Result<Value, CallError> {
        let token = format!("Bearer {}", self.access_token.expose());
        let reply = client.send(outgoing.header("authorization", token)).await?;
        if reply.status >= 400 {
            return Err(errors::refused(&reply, self.pair_wait_s, client.now()));
        }
        reply.json()
    }
}

/// A template in Meta's form. What stands in its places may hold no line ends, tabs or rows of spaces.
fn written(template: &Template) -> Value {
    let mut written = json!({ "name": template.name, "language": { "code": template.language } });
    if !template.components.is_empty() {
        written["components"] = Value::Array(template.components.iter().map(cleaned).collect());
    }
    written
}

fn cleaned(component: &Value) -> Value {
    let mut component = component.clone();
    for parameter in component.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(text) = parameter.get("text").and_then(Value::as_str) {
            parameter["text"] = json!(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    component
}

#[cfg(test)]
mod tests {
    use uzel_model::{Address, Content};

    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    const TAKEN: &str = r#"{"messaging_product":"whatsapp","contacts":[{"input":"79990001122","wa_id":"799900011220"}],
        "messages":[{"id":"wamid.HBgL=="}]}"#;

    /// What is sent, and what became of it.
    async fn send(content: &Content, answer: &str) -> (Value, Result<Sent, CallError>) {
        let ours = PROVIDER.open(json!({ "access_token": "EAA-token", "phone_number_id": "106540352242922" })).unwrap();
        let (script, to) = (Script::new(&[(200, answer)]), Address::Phone("+79990001122".to_owned()));
        let outbound = Outbound { to: &to, content, key: "cmd_1" };
        let sent = ours.messages().unwrap().send(&Client::new(&script), outbound).await;
        let calls = script.sent();
        let Some(call) = calls.first() else { return (Value::Null, sent) };
        assert_eq!(call.url, "https://graph.facebook.com/v23.0/106540352242922/messages");
        assert!(call.headers.contains(&("authorization", "Bearer EAA-token".to_owned())), "{:?}", call.headers);
        (serde_json::from_slice(&call.body).unwrap(), sent)
    }

    #[tokio::test]
    async fn a_text_goes_as_the_document_shows_it() {
        let (body, sent) = send(&Content::text("Оставьте отзыв: https://otz.example/r/A1b2"), TAKEN).await;
        let wanted = json!({
            "messaging_product": "whatsapp", "recipient_type": "individual", "to": "79990001122", "type": "text",
            "text": { "body": "Оставьте отзыв: https://otz.example/r/A1b2", "preview_url": true }, "biz_opaque_callback_data": "cmd_1"
        });
        assert_eq!((body, sent), (wanted, Ok(Sent::new("wamid.HBgL=="))));
    }

    #[tokio::test]
    async fn what_stands_in_a_template_is_cleaned() {
        let components = vec![
            json!({ "type": "body", "parameters": [{ "type": "text", "text": " Кофейня\n«У  моря»\t1     2 " }] }),
            json!({ "type": "button", "sub_type": "url", "index": "0", "parameters": [{ "type": "text", "text": "r/A1b2" }] }),
            json!({ "type": "header", "parameters": [{ "type": "image", "image": { "link": "https://x" } }, "odd", null] }),
            json!("odd"),
        ];
        let template = Template { name: "review_request".to_owned(), language: "ru".to_owned(), components };
        let content = Content { template: Some(template), ..Content::text("words") };
        let (body, _) = send(&content, TAKEN).await;
        assert_eq!((&body["type"], &body["text"]), (&json!("template"), &Value::Null));
        let template = &body["template"];
        assert_eq!((&template["name"], &template["language"]["code"]), (&json!("review_request"), &json!("ru")));
        assert_eq!(template["components"][0]["parameters"][0]["text"], "Кофейня «У моря» 1 2");
        assert_eq!(template["components"][1]["index"], "0");
        assert_eq!(
            template["components"][2]["parameters"],
            json!([{ "type": "image", "image": { "link": "https://x" } }, "odd", null])
        );
    }

    #[tokio::test]
    async fn what_is_held_back_is_told_and_what_nobody_understands_is_not_taken_for_sent() {
        let held = TAKEN.replace(r#""wamid.HBgL==""#, r#""w","message_status":"held_for_quality_assessment""#);
        assert!(send(&Content::text("a"), &held).await.1.unwrap().remark.unwrap().contains("held_for_quality_assessment"));
        for answer in
            ["{}", "null", "[]", r#"{"messages":[]}"#, r#"{"messages":[{"id":""}]}"#, r#"{"messages":{}}"#, "<html>", ""]
        {
            assert!(matches!(send(&Content::text("a"), answer).await.1, Err(CallError::Unreadable(_))), "{answer}");
        }
        let (body, sent) = send(&Content::text("я".repeat(4_097)), TAKEN).await;
        assert!(matches!(sent, Err(CallError::Refused { refusal: Refusal::Content, .. })) && body.is_null());
    }

    #[tokio::test]
    async fn an_address_of_another_channel_is_refused() {
        let ours = PROVIDER.open(json!({ "access_token": "t", "phone_number_id": "1" })).unwrap();
        let (script, content) = (Script::new(&[]), Content::text("a"));
        let outbound = Outbound { to: &Address::Chat(7), content: &content, key: "k" };
        let sent = ours.messages().unwrap().send(&Client::new(&script), outbound).await;
        assert!(matches!(sent, Err(CallError::Refused { refusal: Refusal::Ours, .. })));
    }
}
