//! What people say about messages: by reply words, by a link, by a provider's own settings, or written down by somebody.

use jiff::Timestamp;
use uzel_model::{Address, Channel, Event, Id, connector::Choice, event::kind, id::Kind, message, phone, signature::fingerprint};
use uzel_store::{Consent, ConsentHow, ConsentPurpose, Entry, LinkPurpose, StoreError};

use crate::{Engine, Link};

/// Whole messages that end messages, in capitals and with a plain apostrophe.
const STOP_WORDS: [&str; 8] = ["СТОП", "STOP", "ОТПИСКА", "ОТПИСАТЬСЯ", "ОТПИШИТЕ", "TO'XTA", "UNSUBSCRIBE", "/STOP"];
/// Whatever is taken for an apostrophe.
const APOSTROPHES: [char; 8] = ['’', '‘', 'ʻ', 'ʼ', '`', '´', '′', 'ʹ'];
/// Longer messages are none of those words.
const STOP_BYTES_MAX: usize = 64;

/// Whether a message is nothing but a word that ends messages.
fn is_stop(text: &str) -> bool {
    let text =
        text.trim_matches(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '!' | '\u{feff}' | '\u{200b}'));
    text.len() <= STOP_BYTES_MAX && STOP_WORDS.contains(&text.replace(APOSTROPHES, "'").to_uppercase().as_str())
}

/// Who wrote a message to the merchant.
fn sender(event: &Event) -> Option<Address> {
    let phone = event.phone.as_ref().map(|phone| Address::Phone(phone.e164.clone()));
    phone.or_else(|| event.data["chat"].as_i64().map(Address::Chat))
}

/// What a message that a person wrote says about messages.
pub(crate) fn said(entry: &Entry, event: &Event) -> Option<Consent> {
    let text = event.data["text"].as_str().filter(|_| event.kind == kind::MESSAGE_RECEIVED).filter(|text| is_stop(text))?;
    Some(Consent {
        key: fingerprint([b"message".as_slice(), entry.id.as_bytes(), event.key.as_bytes()]),
        merchant: event.merchant,
        address: sender(event)?.key(),
        channel: None,
        purpose: ConsentPurpose::Marketing,
        granted: false,
        how: ConsentHow::Message,
        text: text.trim().to_owned(),
        by: "hub".to_owned(),
        at: event.at.min(entry.request.received_at),
    })
}

/// What people told the provider of a channel. A "no" holds for all channels, a "yes" for the one it was said to.
pub(crate) fn chosen(link: &Link, entry: &Entry, choices: Vec<Choice>) -> Vec<Consent> {
    let channel = link.connector.messages().map(|messages| messages.channel());
    let word = |(place, choice): (usize, Choice)| Consent {
        key: fingerprint([b"choice".as_slice(), entry.id.as_bytes(), &place.to_be_bytes()]),
        merchant: link.merchant,
        address: choice.who.key(),
        channel: channel.filter(|_| choice.wants),
        purpose: ConsentPurpose::Marketing,
        granted: choice.wants,
        how: ConsentHow::Provider,
        text: format!("{}: {}", link.provider.name, choice.how),
        by: "hub".to_owned(),
        at: choice.at.unwrap_or(entry.request.received_at).min(entry.request.received_at),
    };
    choices.into_iter().enumerate().map(word).collect()
}

/// A word that somebody writes down.
#[derive(Debug, Clone)]
pub struct NewWord {
    pub merchant: Id,
    pub address: Address,
    pub channel: Option<Channel>,
    pub purpose: ConsentPurpose,
    pub granted: bool,
    pub how: ConsentHow,
    pub text: String,
    pub by: String,
}

impl NewWord {
    fn at(self, at: Timestamp) -> Consent {
        Consent {
            key: *Id::new(Kind::Attempt).as_bytes(),
            merchant: self.merchant,
            address: self.address.key(),
            channel: self.channel,
            purpose: self.purpose,
            granted: self.granted,
            how: self.how,
            text: self.text,
            by: self.by,
            at,
        }
    }
}

/// Reads a phone or a mailbox as people write it.
pub fn read_address(text: &str, country: &str) -> Result<Address, String> {
    if text.contains('@') {
        return message::read_email(text).map(Address::Email);
    }
    phone::read_text(text, country).map(|phone| Address::Phone(phone.e164)).map_err(|error| error.to_string())
}

impl Engine {
    /// Writes a word down; `false`: a later one stands.
    pub async fn record_word(&self, word: NewWord) -> Result<bool, StoreError> {
        let recorded = self.store.put_words(vec![word.at(self.clock.now())]).await?;
        Ok(recorded.first().copied().unwrap_or_default())
    }

    /// The same for many, of each whether anything follows.
    pub async fn record_words(&self, words: Vec<NewWord>) -> Result<Vec<bool>, StoreError> {
        let now = self.clock.now();
        self.store.put_words(words.into_iter().map(|word| word.at(now)).collect()).await
    }

    /// Ends messages to whoever got this link. `false`: it leads nowhere.
    pub async fn unsubscribe(&self, code: &str) -> Result<bool, StoreError> {
        let Some(landing) = self.landing(code, LinkPurpose::Unsubscribe).await? else { return Ok(false) };
        let link = landing.link;
        // Who presses twice has said it once.
        if self.store.contact(link.merchant, &link.to.key()).await?.opted_out {
            return Ok(true);
        }
        let word = NewWord {
            merchant: link.merchant,
            address: link.to,
            channel: None,
            purpose: ConsentPurpose::Marketing,
            granted: false,
            how: ConsentHow::Link,
            text: format!("by the link in a message of {} by {}", link.made_at, link.channel.name()),
            by: "hub".to_owned(),
        };
        self.record_word(word).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_end_messages_are_known_in_any_case_and_with_any_apostrophe() {
        for word in [
            "стоп",
            "  СТОП \n",
            "Stop",
            "отписка",
            "Отписаться",
            "отпишите",
            "to'xta",
            "To’xta",
            "TOʻXTA",
            "to‘xta",
            "toʼxta",
            "to`xta",
            "unsubscribe",
            "/stop",
            "Стоп!",
            "stop.",
        ] {
            assert!(is_stop(word), "{word}");
        }
        for text in ["стоп машина", "не стоп", "", "!", "Спасибо, стоп", "stopp", "toxta"] {
            assert!(!is_stop(text), "{text}");
        }
    }
}
