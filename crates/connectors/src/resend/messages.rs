//! E-mails out, and what became of them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_model::{
    Bytes, CallError, Channel, Client, Content, Outbound, Outgoing, Refusal,
    connector::StatusNews,
    port::{Batches, Messages, Sent},
};

use super::{Resend, wire};
use crate::tree;

/// By this tag a webhook tells which command its e-mail was.
pub(super) const COMMAND_TAG: &str = "uzel_command";
/// An hour less than the 24 that Resend promises: clocks differ, and a call takes its time.
const KNOWN_FOR: SignedDuration = SignedDuration::from_hours(23);
/// E-mails in one call.
const BATCH_MAX: usize = 100;
/// What the first line of a text may have as a subject.
const SUBJECT_CHARS_MAX: usize = 78;
/// E-mails asked about in one turn: each is a call, and sending comes first.
const ASKED_MAX: usize = 10;

#[derive(Serialize)]
struct Email<'a> {
    from: &'a str,
    to: [&'a str; 1],
    subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Value::is_null")]
    headers: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Value>,
    tags: Vec<Value>,
}

#[derive(Deserialize)]
struct Taken {
    id: String,
}

#[derive(Deserialize)]
struct BatchTaken {
    data: Vec<Taken>,
    #[serde(default)]
    errors: Vec<NotTaken>,
}

#[derive(Deserialize)]
struct NotTaken {
    index: usize,
    #[serde(default)]
    message: String,
}

#[async_trait]
impl Messages for Resend {
    fn channel(&self) -> Channel {
        Channel::Email
    }

    fn repeatable(&self) -> bool {
        true
    }

    fn known_for(&self) -> Option<SignedDuration> {
        Some(KNOWN_FOR)
    }

    async fn send(&self, client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        let email = self.email(&message)?;
        let outgoing = self.call("POST", "/emails").header("idempotency-key", message.key).json(&email).reads_429();
        let reply = client.send(outgoing).await?;
        if reply.status >= 300 {
            return Err(wire::refused(&reply, client.now()));
        }
        reply.json::<Taken>().map(|taken| Sent::new(taken.id))
    }

    fn batches(&self) -> Option<&dyn Batches> {
        Some(self)
    }

    fn can_be_asked(&self) -> bool {
        self.full_access
    }

    /// A few of them, others in the next minute.
    async fn statuses(&self, client: &Client<'_>, provider_ids: &[String]) -> Result<Vec<StatusNews>, CallError> {
        let start = (client.now().as_second() / 60).unsigned_abs() as usize * ASKED_MAX % provider_ids.len().max(1);
        let mut told = Vec::new();
        for id in provider_ids.iter().cycle().skip(start).take(ASKED_MAX.min(provider_ids.len())) {
            let reply = client.send(self.call("GET", &format!("/emails/{id}")).reads_429()).await?;
            match reply.status {
                0..300 => {}
                // Not one of this team's any more.
                404 => continue,
                _ => return Err(wire::refused(&reply, client.now())),
            }
            let email: Value = reply.json()?;
            let event = email["last_event"].as_str().unwrap_or_default();
            let known = tree::text(&email["id"]).is_some_and(|known| known == *id);
            let state = wire::state(event).filter(|_| known);
            let state = state.ok_or_else(|| CallError::Unreadable("the answer does not say how the e-mail stands".to_owned()))?;
            told.push(StatusNews::new(id, state, event));
        }
        Ok(told)
    }
}

#[async_trait]
impl Batches for Resend {
    fn messages_max(&self) -> usize {
        BATCH_MAX
    }

    fn body(&self, messages: &[Outbound<'_>]) -> Result<String, CallError> {
        let emails: Vec<Email<'_>> = messages.iter().map(|message| self.email(message)).collect::<Result<_, _>>()?;
        Ok(serde_json::to_string(&emails).expect("a wire struct has text keys only"))
    }

    /// One that is not taken keeps no other back (`permissive`).
    async fn send_all(
        &self,
        client: &Client<'_>,
        body: &str,
        count: usize,
        key: &str,
    ) -> Result<Vec<Result<String, String>>, CallError> {
        let mut outgoing = self
            .call("POST", "/emails/batch")
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .header("x-batch-validation", "permissive")
            .reads_429();
        outgoing.body = Bytes::copy_from_slice(body.as_bytes());
        let reply = client.send(outgoing).await?;
        if reply.status >= 300 {
            return Err(wire::refused(&reply, client.now()));
        }
        reply.json::<BatchTaken>()?.of_each(count)
    }
}

impl BatchTaken {
    /// `data` has only those that were taken, in their order: the places of the others are skipped.
    fn of_each(self, count: usize) -> Result<Vec<Result<String, String>>, CallError> {
        let mut refused: BTreeMap<usize, String> = self.errors.into_iter().map(|error| (error.index, error.message)).collect();
        let mut taken = self.data.into_iter().map(|taken| taken.id);
        let each: Option<Vec<_>> =
            (0..count).map(|place| refused.remove(&place).map(Err).or_else(|| taken.next().map(Ok))).collect();
        each.filter(|_| refused.is_empty() && taken.next().is_none())
            .ok_or_else(|| CallError::Unreadable(format!("the answer does not tell of each of {count} e-mails")))
    }
}

impl Resend {
    fn call(&self, method: &'static str, path: &str) -> Outgoing {
        Outgoing::new(method, format!("{}{path}", self.base_url.trim_end_matches('/')))
            .header("authorization", format!("Bearer {}", self.api_key.expose()))
    }

    /// The same message gives the same bytes each time: under one key another body is refused.
    fn email<'a>(&'a self, message: &Outbound<'a>) -> Result<Email<'a>, CallError> {
        let content = message.content;
        if content.text.is_empty() && content.html.is_none() {
            return Err(CallError::refused(Refusal::Ours, "content", "an e-mail needs a text or HTML"));
        }
        let ended = content
            .unsubscribe_url
            .as_ref()
            .map(|url| json!({ "List-Unsubscribe": format!("<{url}>"), "List-Unsubscribe-Post": "List-Unsubscribe=One-Click" }));
        let attachments = content
            .attachments
            .iter()
            .map(|file| json!({ "filename": file.name, "content": file.content, "content_type": file.media_type }));
        let mut tags = vec![json!({ "name": COMMAND_TAG, "value": message.key })];
        tags.extend(content.code.is_some().then(|| json!({ "name": "kind", "value": "verification" })));
        Ok(Email {
            from: &self.from,
            to: [message.email()?],
            subject: subject(content),
            text: &content.text,
            html: content.html.as_deref(),
            reply_to: self.reply_to.as_deref(),
            headers: ended.unwrap_or_default(),
            attachments: attachments.collect(),
            tags,
        })
    }
}

/// Its own, or the beginning of the text.
fn subject(content: &Content) -> &str {
    if let Some(subject) = content.subject.as_deref().filter(|subject| !subject.trim().is_empty()) {
        return subject;
    }
    let line = content.text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("—");
    line.char_indices().nth(SUBJECT_CHARS_MAX).and_then(|(end, _)| line.get(..end)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use uzel_model::{Address, Connector, message::Attachment, port::Delivery};

    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    fn open() -> Box<dyn Connector> {
        let settings = json!({ "api_key": "re_secret", "from": "Кофейня <noreply@mail.example.com>", "full_access": true });
        PROVIDER.open(settings).unwrap()
    }

    async fn send(script: &Script, content: &Content) -> Result<Sent, CallError> {
        let to = Address::Email("ivan@example.com".to_owned());
        let message = Outbound { to: &to, content, key: "cmd_1" };
        open().messages().unwrap().send(&Client::new(script), message).await
    }

    #[tokio::test]
    async fn an_email_goes_under_the_key_of_its_command_with_all_that_it_says() {
        let script = Script::new(&[(200, r#"{"id":"e1"}"#)]);
        let content = Content {
            html: Some("<p>Код</p>".to_owned()),
            subject: Some("Чек".to_owned()),
            attachments: vec![Attachment {
                name: "chek.txt".to_owned(),
                media_type: "text/plain".to_owned(),
                content: "0Jo=".to_owned(),
            }],
            unsubscribe_url: Some("https://hub.example/u/1".to_owned()),
            ..Content::text("Код")
        };
        assert_eq!(send(&script, &content).await.unwrap().provider_id, "e1");
        let sent = &script.sent()[0];
        let header = |name: &str| sent.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!((header("idempotency-key"), header("authorization")), (Some("cmd_1"), Some("Bearer re_secret")));
        let body: Value = serde_json::from_slice(&sent.body).unwrap();
        assert_eq!(
            body,
            json!({
                "from": "Кофейня <noreply@mail.example.com>", "to": ["ivan@example.com"], "subject": "Чек", "text": "Код",
                "html": "<p>Код</p>",
                "headers": { "List-Unsubscribe": "<https://hub.example/u/1>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click" },
                "attachments": [{ "filename": "chek.txt", "content": "0Jo=", "content_type": "text/plain" }],
                "tags": [{ "name": "uzel_command", "value": "cmd_1" }],
            })
        );
    }

    #[tokio::test]
    async fn a_batch_tells_of_each_mail_and_an_answer_that_does_not_is_none() {
        let connector = open();
        let batches = connector.messages().unwrap().batches().unwrap();
        let to = ["a", "b", "c"].map(|name| Address::Email(format!("{name}@example.com")));
        let content = Content { subject: Some("s".to_owned()), ..Content::text("t") };
        let messages = [0, 1, 2].map(|place| Outbound { to: &to[place], content: &content, key: "cmd_1" });
        let body = batches.body(&messages).unwrap();
        for (answer, wanted) in [
            (json!({ "data": [{ "id": "1" }, { "id": "2" }, { "id": "3" }] }), Some([Ok("1"), Ok("2"), Ok("3")])),
            (
                json!({ "data": [{ "id": "1" }, { "id": "3" }], "errors": [{ "index": 1, "message": "no" }] }),
                Some([Ok("1"), Err("no"), Ok("3")]),
            ),
            (
                json!({ "data": [], "errors": [{ "index": 2, "message": "c" }, { "index": 0, "message": "a" }, { "index": 1 }] }),
                Some([Err("a"), Err(""), Err("c")]),
            ),
            (json!({ "data": [{ "id": "1" }, { "id": "2" }] }), None),
            (json!({ "data": [{ "id": "1" }, { "id": "2" }, { "id": "3" }, { "id": "4" }] }), None),
            (json!({ "data": [{ "id": "1" }, { "id": "2" }, { "id": "3" }], "errors": [{ "index": 3 }] }), None),
            (
                json!({ "data": [{ "id": "1" }, { "id": "2" }], "errors": [{ "index": 1 }, { "index": 1 }] }),
                Some([Ok("1"), Err(""), Ok("2")]),
            ),
            (json!({}), None),
            (json!([]), None),
        ] {
            let script = Script::new(&[(200, &answer.to_string())]);
            let taken = batches.send_all(&Client::new(&script), &body, 3, "cmd_0").await;
            let told = wanted.map(|wanted| wanted.map(|one| one.map(str::to_owned).map_err(str::to_owned)).to_vec());
            assert_eq!(taken.as_ref().ok(), told.as_ref(), "{answer}");
            assert!(told.is_some() || matches!(taken, Err(CallError::Unreadable(_))), "{taken:?}");
            let sent = &script.sent()[0];
            let header = |name: &str| sent.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
            assert_eq!((header("idempotency-key"), header("x-batch-validation")), (Some("cmd_0"), Some("permissive")));
            assert_eq!(sent.body, body.as_bytes());
        }
    }

    #[test]
    fn without_a_subject_the_first_line_is_one() {
        let long = "я".repeat(100);
        for (text, wanted) in [("\n Привет \nи ещё", "Привет"), (long.as_str(), &long[..156]), ("", "—")] {
            assert_eq!(subject(&Content::text(text)), wanted);
        }
    }

    #[tokio::test]
    async fn every_refusal_is_sorted_by_what_to_do() {
        use Refusal::{Account, Command, OtherWords, Ours};
        for (status, name, wanted) in [
            (400, "invalid_idempotency_key", Some(Ours)),
            (400, "validation_error", Some(Command)),
            (403, "invalid_api_key", Some(Account)),
            (403, "suspended_api_key", Some(Account)),
            (403, "validation_error", Some(Account)),
            (404, "not_found", Some(Ours)),
            (405, "method_not_allowed", Some(Ours)),
            (409, "invalid_idempotent_request", Some(OtherWords)),
            (409, "concurrent_idempotent_requests", None),
            (409, "resource_locked", None),
            (422, "missing_required_field", Some(Command)),
            (422, "validation_error", Some(Command)),
            (422, "invalid_attachment", Some(Command)),
            (422, "invalid_from_address", Some(Account)),
            (429, "rate_limit_exceeded", None),
            (429, "daily_quota_exceeded", Some(Account)),
            (429, "monthly_quota_exceeded", Some(Account)),
            (451, "security_error", Some(Command)),
        ] {
            let body = json!({ "statusCode": status, "name": name, "message": "words" }).to_string();
            let script = Script::new(&[(status, &body)]);
            match (send(&script, &Content::text("x")).await.unwrap_err(), wanted) {
                (CallError::Refused { refusal, code, .. }, Some(wanted)) => assert_eq!((refusal, code.as_str()), (wanted, name)),
                (CallError::Later { reason, .. }, None) => assert!(reason.contains(name)),
                other => panic!("{name}: {other:?}"),
            }
        }
        // A page of their front instead of a document.
        for (status, wanted) in [(403, Account), (404, Ours), (400, Command), (413, Command)] {
            let script = Script::new(&[(status, "<html>")]);
            let refused = send(&script, &Content::text("x")).await;
            assert!(matches!(refused, Err(CallError::Refused { refusal, .. }) if refusal == wanted), "{status}: {refused:?}");
        }
        for body in ["<html>", "{}", r#"{"id":null}"#] {
            let script = Script::new(&[(200, body)]);
            assert!(matches!(send(&script, &Content::text("x")).await, Err(CallError::Unreadable(_))), "{body}");
        }
        let script = Script::new(&[]);
        let refused = send(&script, &Content::default()).await;
        assert!(matches!(refused, Err(CallError::Refused { refusal: Ours, .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn what_became_of_mails_is_asked_a_few_at_a_time() {
        let answers: Vec<String> =
            (0..10).map(|id| json!({ "id": format!("e{id}"), "last_event": "bounced" }).to_string()).collect();
        let mut answers: Vec<(u16, &str)> = answers.iter().map(|answer| (200, answer.as_str())).collect();
        answers[3] = (404, "{}");
        let script = Script::new(&answers);
        let ids: Vec<String> = (0..25).map(|id| format!("e{id}")).collect();
        let told = open().messages().unwrap().statuses(&Client::new(&script), &ids).await.unwrap();
        assert_eq!(told.len(), 9);
        assert!(told.iter().all(|news| news.state == Delivery::Failed && news.code == "bounced"));
        assert!(open().messages().unwrap().statuses(&Client::new(&script), &[]).await.unwrap().is_empty());
    }
}
