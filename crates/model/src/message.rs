//! Messages to people: by which channel, to whom, and what they say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CallError, Named, Refusal, phone};

/// How people are reached. Each channel has one kind of address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    Sms,
    Whatsapp,
    Email,
    Telegram,
    Push,
}

impl Channel {
    pub const ALL: [Self; 5] = [Self::Sms, Self::Whatsapp, Self::Email, Self::Telegram, Self::Push];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Whatsapp => "whatsapp",
            Self::Email => "email",
            Self::Telegram => "telegram",
            Self::Push => "push",
        }
    }

    /// Whether an address is of the kind that this channel takes.
    pub fn takes(self, to: &Address) -> bool {
        matches!(
            (self, to),
            (Self::Sms | Self::Whatsapp, Address::Phone(_))
                | (Self::Email, Address::Email(_))
                | (Self::Telegram, Address::Chat(_))
                | (Self::Push, Address::Device(_))
        )
    }
}

/// Whom a message goes to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// E.164.
    Phone(String),
    /// A mailbox, in lower case.
    Email(String),
    /// A Telegram chat.
    Chat(i64),
    /// A device that has asked for notices: a subscription of Web Push as JSON, or a token of FCM.
    Device(String),
}

impl Address {
    /// What contacts, slots and orders of messages are kept by: another text for each address, a phone as it is.
    pub fn key(&self) -> String {
        match self {
            Self::Phone(phone) => phone.clone(),
            Self::Email(email) => email.clone(),
            Self::Chat(chat) => format!("chat/{chat}"),
            Self::Device(device) => format!("device/{}", crate::signature::sha256_hex([device.as_bytes()])),
        }
    }

    /// For people who may not see whom it goes to.
    pub fn masked(&self) -> String {
        match self {
            Self::Phone(phone) => phone::mask(phone),
            Self::Email(email) => mask_email(email),
            Self::Chat(_) => "chat ***".to_owned(),
            Self::Device(_) => "device ***".to_owned(),
        }
    }
}

/// `maria@example.com` → `m***@example.com`.
pub fn mask_email(email: &str) -> String {
    match email.split_once('@') {
        Some((name, domain)) => format!("{}***@{domain}", name.chars().next().map(String::from).unwrap_or_default()),
        None => "***".to_owned(),
    }
}

/// Reads a mailbox as people write it; the domain decides nothing here, a provider does.
pub fn read_email(raw: &str) -> Result<String, String> {
    let email = raw.trim().to_lowercase();
    let well = email.len() <= 254
        && !email.chars().any(|c| c.is_whitespace() || c.is_control() || "<>,;\"()[]\\".contains(c))
        && email.split_once('@').is_some_and(|(name, domain)| {
            !name.is_empty()
                && name.len() <= 64
                && !domain.contains('@')
                && domain.contains('.')
                && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
        });
    if well { Ok(email) } else { Err("is no e-mail address: write `name@example.com`".to_owned()) }
}

/// What a message says. Each channel takes of it what it can show.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Content {
    /// The words, plain: what the journal shows, and what goes where nothing richer is taken.
    pub text: String,
    /// A message that the provider has approved (WhatsApp).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Of an e-mail; the title of a push notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Of an e-mail; Telegram takes its few tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Of an e-mail; Telegram takes one picture.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Where a push notice or a button leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Comes without a sound.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// Where a person can end such e-mails by one request (RFC 8058).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsubscribe_url: Option<String>,
    /// Sealed: the code that stands in place of [`HIDDEN`] when it is sent. Whoever gets it has asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// What stands for a code wherever it is kept or shown.
pub const HIDDEN: &str = "••••••";

impl Content {
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// With this code in its places, as it is sent.
    pub fn with_code(&self, code: &str) -> Self {
        let fill = |text: &String| text.replace(HIDDEN, code);
        Self {
            text: fill(&self.text),
            subject: self.subject.as_ref().map(fill),
            html: self.html.as_ref().map(fill),
            template: self.template.as_ref().map(|template| Template {
                components: template.components.iter().map(|part| replaced(part, HIDDEN, code)).collect(),
                ..template.clone()
            }),
            ..self.clone()
        }
    }

    /// Takes out what it says.
    pub fn forget(&mut self) {
        *self = Self {
            template: self.template.take().map(|template| Template { components: Vec::new(), ..template }),
            ..Self::default()
        };
    }

    /// Whether it names a phone.
    pub fn names(&self, phone: &Named) -> bool {
        serde_json::to_string(self).is_ok_and(|content| phone.is_in(&content))
    }
}

/// A document with this for that in each of its texts.
pub fn replaced(value: &Value, from: &str, to: &str) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace(from, to)),
        Value::Array(items) => items.iter().map(|item| replaced(item, from, to)).collect(),
        Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), replaced(member, from, to))).collect(),
        other => other.clone(),
    }
}

/// A message that the provider has approved, with what stands in its places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// As the provider knows it, for instance `review_request`.
    pub name: String,
    /// Exactly an approved translation, for instance `ru`.
    pub language: String,
    /// Meta's form: `[{"type": "body", "parameters": [{"type": "text", "text": "…"}]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Map<String, Value>>")]
    pub components: Vec<Value>,
}

/// A file that goes with a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// The file's name.
    pub name: String,
    /// For instance `image/png`.
    pub media_type: String,
    /// Base64.
    pub content: String,
}

/// A message as a connector gets it.
#[derive(Debug, Clone, Copy)]
pub struct Outbound<'a> {
    pub to: &'a Address,
    pub content: &'a Content,
    /// The command's idempotency key, for providers that take one.
    pub key: &'a str,
}

impl<'a> Outbound<'a> {
    /// The phone that it goes to.
    pub fn phone(&self) -> Result<&'a str, CallError> {
        match self.to {
            Address::Phone(phone) => Ok(phone),
            _ => Err(self.wrong()),
        }
    }

    pub fn email(&self) -> Result<&'a str, CallError> {
        match self.to {
            Address::Email(email) => Ok(email),
            _ => Err(self.wrong()),
        }
    }

    pub fn chat(&self) -> Result<i64, CallError> {
        match self.to {
            Address::Chat(chat) => Ok(*chat),
            _ => Err(self.wrong()),
        }
    }

    pub fn device(&self) -> Result<&'a str, CallError> {
        match self.to {
            Address::Device(device) => Ok(device),
            _ => Err(self.wrong()),
        }
    }

    fn wrong(&self) -> CallError {
        CallError::refused(Refusal::Ours, "address", "this channel does not take such an address")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_are_read_as_people_write_them() {
        assert_eq!(read_email(" Maria@Example.COM "), Ok("maria@example.com".to_owned()));
        for wrong in
            ["", "maria", "maria@", "@example.com", "a@b", "a@@b.c", "a b@c.d", "Maria <m@example.com>", "a@b..c", "a@-b.c"]
        {
            assert!(read_email(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_text_job_is_stored_as_it_was_before_there_were_other_channels() {
        let stored = r#"{"job":"send","phone":"+79991234567","text":"Hello"}"#;
        let job: crate::Job = serde_json::from_str(stored).unwrap();
        assert_eq!(serde_json::to_string(&job).unwrap(), stored);
    }
}
