//! Messages to chats: texts in parts that Telegram takes, one picture or file, a button.

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use uzel_model::{
    Address, CallError, Channel, Client, Content, Outbound, Outgoing, Refusal, Reply,
    message::Attachment,
    port::{Messages, Sent},
    signature,
};

use super::{Telegram, wire};

/// UTF-16 units of a message, and of what stands below a picture.
const TEXT_MAX: usize = 4_096;
const CAPTION_MAX: usize = 1_024;
/// Parts of one text; what is longer is cut.
const PARTS_MAX: usize = 10;
/// What Telegram keeps of the mark-up of a mail.
const TAGS: [&str; 9] = ["b", "strong", "i", "em", "u", "s", "code", "pre", "blockquote"];

#[async_trait]
impl Messages for Telegram {
    fn channel(&self) -> Channel {
        Channel::Telegram
    }

    /// What goes here are notices: twice is better than never.
    fn repeatable(&self) -> bool {
        true
    }

    fn tells_delivery(&self) -> bool {
        false
    }

    async fn send(&self, client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        let mut chat = Chat { telegram: self, client, id: message.chat()?, moved: false };
        let first = chat.say(message.content).await?;
        let remark = chat.moved.then(|| "the group has become a supergroup: it has another number now".to_owned());
        let moved_to = chat.moved.then_some(Address::Chat(chat.id));
        Ok(Sent { remark, moved_to, ..Sent::new(format!("{}/{first}", chat.id)) })
    }
}

/// A chat that is written to.
struct Chat<'a> {
    telegram: &'a Telegram,
    client: &'a Client<'a>,
    id: i64,
    moved: bool,
}

impl Chat<'_> {
    /// Gives the number of the first message.
    async fn say(&mut self, content: &Content) -> Result<i64, CallError> {
        let text = content.text.trim();
        let mut first = None;
        if let Some(file) = content.attachments.first() {
            let caption = if units(text) <= CAPTION_MAX { text } else { "" };
            first = Some(self.send_file(file, caption, content).await?);
            if !caption.is_empty() || text.is_empty() {
                return first.ok_or_else(nothing);
            }
        }
        let html = content.html.as_deref().map(marked_up).filter(|html| units(html) <= TEXT_MAX && !html.trim().is_empty());
        if let Some(html) = html {
            let reply = self.post_text(&html, true, Some(content)).await?;
            if !wire::is_unparsed(&reply) {
                let sent = number(&wire::result(&reply)?)?;
                return Ok(first.unwrap_or(sent));
            }
        }
        let parts = parts(text, TEXT_MAX);
        let last = parts.len();
        for (place, part) in parts.into_iter().take(PARTS_MAX).enumerate() {
            let reply = self.post_text(part, false, Some(content).filter(|_| place + 1 == last.min(PARTS_MAX))).await?;
            let sent = number(&wire::result(&reply)?)?;
            first.get_or_insert(sent);
        }
        first.ok_or_else(nothing)
    }

    /// One message; the button, if there is one, comes with the last.
    async fn post_text(&mut self, text: &str, marked_up: bool, last_of: Option<&Content>) -> Result<Reply, CallError> {
        let mut asked = json!({ "text": text, "link_preview_options": { "is_disabled": true } });
        if marked_up {
            asked["parse_mode"] = json!("HTML");
        }
        if last_of.is_some_and(|content| content.silent) {
            asked["disable_notification"] = json!(true);
        }
        if let Some(button) = last_of.and_then(button) {
            asked["reply_markup"] = button;
        }
        self.post(|url, chat| {
            let mut asked = asked.clone();
            asked["chat_id"] = json!(chat);
            Outgoing::new("POST", format!("{url}sendMessage")).json(&asked)
        })
        .await
    }

    async fn send_file(&mut self, file: &Attachment, caption: &str, content: &Content) -> Result<i64, CallError> {
        let bytes = STANDARD.decode(&file.content);
        let bytes = bytes.map_err(|_| CallError::refused(Refusal::Ours, "attachment", "an attachment is no base64"))?;
        let picture = matches!(file.media_type.as_str(), "image/png" | "image/jpeg");
        let (method, field) = if picture { ("sendPhoto", "photo") } else { ("sendDocument", "document") };
        let boundary = format!("uzel{}", &signature::sha256_hex([bytes.as_slice()])[..32]);
        let mut fields = vec![("caption", caption.to_owned())];
        fields.extend(content.silent.then(|| ("disable_notification", "true".to_owned())));
        fields.extend(button(content).filter(|_| !caption.is_empty()).map(|button| ("reply_markup", button.to_string())));
        fields.retain(|(_, value)| !value.is_empty());
        let reply = self
            .post(|url, chat| {
                let chat = ("chat_id", chat.to_string());
                let body = multipart(&boundary, std::iter::once(&chat).chain(&fields), field, file, &bytes);
                let kind = format!("multipart/form-data; boundary={boundary}");
                let mut outgoing = Outgoing::new("POST", format!("{url}{method}")).header("content-type", kind);
                outgoing.body = body.into();
                outgoing
            })
            .await?;
        number(&wire::result(&reply)?)
    }

    /// Sends, and once more where the group has moved: the refusal proves that nothing was sent.
    async fn post(&mut self, outgoing: impl Fn(&str, i64) -> Outgoing) -> Result<Reply, CallError> {
        let url = self.telegram.url("");
        let reply = self.client.send(outgoing(&url, self.id)).await?;
        match wire::migrated(&reply).filter(|_| !self.moved) {
            Some(id) => {
                (self.id, self.moved) = (id, true);
                self.client.send(outgoing(&url, id)).await
            }
            None => Ok(reply),
        }
    }
}

fn nothing() -> CallError {
    CallError::refused(Refusal::Ours, "empty", "the message says nothing")
}

fn number(message: &Value) -> Result<i64, CallError> {
    message["message_id"].as_i64().ok_or_else(|| CallError::Unreadable("the answer has no message_id".to_owned()))
}

fn button(content: &Content) -> Option<Value> {
    let link = content.link.as_deref().filter(|link| link.starts_with("https://") || link.starts_with("http://"))?;
    let host = link.split('/').nth(2).unwrap_or(link);
    Some(json!({ "inline_keyboard": [[{ "text": host, "url": link }]] }))
}

fn multipart<'a>(
    boundary: &str,
    fields: impl Iterator<Item = &'a (&'a str, String)>,
    field: &str,
    file: &Attachment,
    bytes: &[u8],
) -> Vec<u8> {
    let plain = |c: &char| !c.is_control() && !matches!(c, '"' | '\\');
    let name: String = file.name.chars().filter(plain).collect();
    let kind: String = file.media_type.chars().filter(plain).collect();
    let mut body = String::new();
    for (name, value) in fields {
        body += &format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    body += &format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n"
    );
    [body.as_bytes(), bytes, format!("\r\n--{boundary}--\r\n").as_bytes()].concat()
}

/// Telegram counts UTF-16 units.
fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// A text in parts of so many units at the most, cut at ends of lines where that can be.
fn parts(text: &str, units_max: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut taken = 0;
        let mut fits = rest.len();
        for (place, c) in rest.char_indices() {
            taken += c.len_utf16();
            if taken > units_max {
                fits = place;
                break;
            }
        }
        let end = if fits == rest.len() { fits } else { rest[..fits].rfind('\n').filter(|end| *end > 0).unwrap_or(fits) };
        parts.push(rest[..end].trim_end());
        rest = rest[end..].trim_start();
    }
    parts
}

/// The mark-up of a mail, as far as Telegram takes it: its few tags without attributes, line ends for paragraphs, nothing of the rest.
fn marked_up(html: &str) -> String {
    let mut shown = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, from)) = rest.split_once('<') {
        shown.push_str(before);
        let Some((tag, after)) = from.split_once('>') else {
            shown.push_str("&lt;");
            rest = from;
            continue;
        };
        let name = tag.trim_start_matches('/').split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        let closes = tag.starts_with('/');
        rest = after;
        match name.as_str() {
            known if TAGS.contains(&known) => shown += &format!("<{}{known}>", if closes { "/" } else { "" }),
            "br" => shown.push('\n'),
            "p" | "div" | "tr" | "h1" | "h2" | "h3" | "li" | "table" if closes => shown.push('\n'),
            "style" | "script" | "head" | "title" if !closes => {
                let end = after.to_ascii_lowercase().find(&format!("</{name}"));
                rest = end.map_or("", |end| &after[end..]);
            }
            _ => {}
        }
    }
    (shown + rest).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use uzel_model::Connector;

    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    const OK: &str = r#"{"ok":true,"result":{"message_id":1042,"chat":{"id":5}}}"#;

    fn open() -> Box<dyn Connector> {
        PROVIDER.open(json!({ "bot_token": "7000000001:AAtest" })).unwrap()
    }

    async fn send(content: &Content, answers: &[(u16, &str)]) -> (Result<Sent, CallError>, Vec<Outgoing>) {
        let script = Script::new(answers);
        let to = Address::Chat(4_503_599_627_370_497);
        let message = Outbound { to: &to, content, key: "k" };
        let sent = open().messages().unwrap().send(&Client::new(&script), message).await;
        (sent, script.sent())
    }

    fn body(outgoing: &Outgoing) -> Value {
        serde_json::from_slice(&outgoing.body).unwrap()
    }

    #[tokio::test]
    async fn a_text_goes_plain_with_its_button() {
        let content =
            Content {
                link: Some("https://hub.example/x".to_owned()), silent: true, ..Content::text("1 < 2 & Кафе «Ёж»")
            };
        let (sent, calls) = send(&content, &[(200, OK)]).await;
        assert_eq!(sent.unwrap().provider_id, "4503599627370497/1042");
        assert!(calls[0].url.ends_with("/bot7000000001:AAtest/sendMessage"));
        let asked = body(&calls[0]);
        assert_eq!((&asked["text"], &asked["parse_mode"]), (&json!("1 < 2 & Кафе «Ёж»"), &Value::Null));
        assert_eq!(asked["chat_id"], 4_503_599_627_370_497_i64);
        assert_eq!(asked["disable_notification"], true);
        assert_eq!(asked["reply_markup"]["inline_keyboard"][0][0]["url"], "https://hub.example/x");
    }

    #[tokio::test]
    async fn mark_up_that_telegram_does_not_take_goes_once_more_as_plain_text() {
        let content = Content { html: Some("<p>A <b>c</b><br>d</p><a href='x'>e</a>".to_owned()), ..Content::text("plain") };
        let wrong = r#"{"ok":false,"error_code":400,"description":"Bad Request: can't parse entities: x"}"#;
        let (sent, calls) = send(&content, &[(400, wrong), (200, OK)]).await;
        sent.unwrap();
        assert_eq!((&body(&calls[0])["text"], &body(&calls[0])["parse_mode"]), (&json!("A <b>c</b>\nd\ne"), &json!("HTML")));
        assert_eq!((&body(&calls[1])["text"], &body(&calls[1])["parse_mode"]), (&json!("plain"), &Value::Null));
    }

    #[tokio::test]
    async fn a_long_text_goes_in_parts_that_end_with_lines() {
        let text = format!("{}\n{}", "ё".repeat(4_000), "😀".repeat(2_048));
        let (sent, calls) = send(&Content::text(text), &[(200, OK), (200, OK)]).await;
        sent.unwrap();
        let lengths: Vec<usize> = calls.iter().map(|call| units(body(call)["text"].as_str().unwrap())).collect();
        assert_eq!(lengths, [4_000, 4_096]);
        assert_eq!(parts(&"x".repeat(9_000), TEXT_MAX).iter().map(|part| part.len()).collect::<Vec<_>>(), [4_096, 4_096, 808]);
        assert!(parts(" \n ", TEXT_MAX).is_empty());
    }

    #[tokio::test]
    async fn a_group_that_has_moved_is_followed_once() {
        let moved = r#"{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat",
            "parameters":{"migrate_to_chat_id":-1001234567890}}"#;
        let (sent, calls) = send(&Content::text("x"), &[(400, moved), (200, OK)]).await;
        let sent = sent.unwrap();
        assert_eq!(sent.moved_to, Some(Address::Chat(-1_001_234_567_890)));
        assert!(sent.remark.is_some());
        assert_eq!(body(&calls[1])["chat_id"], -1_001_234_567_890_i64);
        let (twice, _) = send(&Content::text("x"), &[(400, moved), (400, moved)]).await;
        assert!(matches!(twice, Err(CallError::Refused { refusal: Refusal::Command, .. })), "{twice:?}");
    }

    #[tokio::test]
    async fn a_picture_goes_with_its_words_below_or_before_them() {
        let png = Attachment {
            name: "день.png".to_owned(),
            media_type: "image/png".to_owned(),
            content: STANDARD.encode([0_u8, 255, 13, 10]),
        };
        let content = Content { attachments: vec![png.clone()], ..Content::text("Выручка") };
        let (sent, calls) = send(&content, &[(200, OK)]).await;
        sent.unwrap();
        assert!(calls[0].url.ends_with("/sendPhoto"));
        let text = String::from_utf8_lossy(&calls[0].body).into_owned();
        assert!(text.contains("name=\"caption\"\r\n\r\nВыручка\r\n") && text.contains("filename=\"день.png\""), "{text}");
        assert!(calls[0].body.windows(4).any(|bytes| bytes == [0, 255, 13, 10]));
        let long = Content { attachments: vec![png], ..Content::text("ё".repeat(1_025)) };
        let (sent, calls) = send(&long, &[(200, OK), (200, OK)]).await;
        sent.unwrap();
        assert!(calls[1].url.ends_with("/sendMessage"));
        let broken = Attachment { name: "x".to_owned(), media_type: "image/png".to_owned(), content: "?".to_owned() };
        let (sent, calls) = send(&Content { attachments: vec![broken], ..Content::text("x") }, &[]).await;
        assert!(matches!(sent, Err(CallError::Refused { refusal: Refusal::Ours, .. })) && calls.is_empty());
    }

    #[tokio::test]
    async fn what_says_nothing_is_refused_before_it_is_sent() {
        let (sent, calls) = send(&Content::text("  \n "), &[]).await;
        assert!(matches!(sent, Err(CallError::Refused { refusal: Refusal::Ours, .. })) && calls.is_empty());
    }
}
