//! What people say about messages, each word with its proof, and what follows from all of them: the rules that every store follows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{Channel, Id, Timestamp};

/// What messages a word is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentPurpose {
    /// Offers, and requests for reviews.
    #[default]
    Marketing,
    /// About the person's own orders.
    Service,
}

/// How a word was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentHow {
    /// On a form, of paper or of a site.
    Form,
    /// At a till.
    Till,
    /// To somebody, in person or by telephone.
    Spoken,
    /// Brought from another system.
    Import,
    /// By a message to the merchant.
    Message,
    /// By a link in a message.
    Link,
    /// To the provider of the channel.
    Provider,
}

/// A person's word about messages. Words are kept as long as the person is known, and never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// One word has one key: what comes again changes nothing.
    #[serde(skip)]
    pub key: [u8; 16],
    #[serde(skip, default = "nobody")]
    pub merchant: Id,
    /// Whose word it is ([`uzel_model::Address::key`]).
    #[serde(skip)]
    pub address: String,
    /// Nothing: any channel.
    pub channel: Option<Channel>,
    pub purpose: ConsentPurpose,
    pub granted: bool,
    pub how: ConsentHow,
    /// What they said or signed, or where that is kept.
    pub text: String,
    /// Who wrote it down: id of a key, `local`, `hub`.
    pub by: String,
    pub at: Timestamp,
}

fn nobody() -> Id {
    Id::from_bytes(uzel_model::id::Kind::Merchant, [0; 16])
}

/// Somebody who wants no messages, or none by some channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptOut {
    pub address: String,
    /// Nothing: by none.
    pub channels: Option<Vec<Channel>>,
    pub since: Timestamp,
}

/// What a person has told the merchant about messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contact {
    /// Wants no messages by any channel.
    pub opted_out: bool,
    /// Agrees to messages by any channel.
    pub consented: bool,
    /// Channels by which they want none, a bit for each.
    pub refused: u8,
    /// Channels by which they agree to messages, a bit for each.
    pub agreed: u8,
}

const fn bit(channel: Channel) -> u8 {
    1 << channel as u8
}

const ALL: u8 = (1 << Channel::ALL.len()) - 1;

impl Contact {
    /// Whether nothing may go to them by this channel.
    pub fn refuses(&self, channel: Option<Channel>) -> bool {
        self.opted_out || channel.is_some_and(|channel| self.refused & bit(channel) != 0)
    }

    /// Whether they have agreed to messages by this channel.
    pub fn agrees(&self, channel: Option<Channel>) -> bool {
        self.consented || channel.is_some_and(|channel| self.agreed & bit(channel) != 0)
    }

    pub(crate) fn refused_channels(&self) -> Vec<Channel> {
        Channel::ALL.into_iter().filter(|channel| self.refused & bit(*channel) != 0).collect()
    }
}

/// How a contact stands after a word; nothing where a later word stands. `before`: how it stood, and since when; `erased_at`: when
/// somebody with this address opted out whose row was erased.
pub(crate) fn weigh(
    before: Option<(Contact, Timestamp)>,
    erased_at: Option<Timestamp>,
    word: &Consent,
) -> Option<(Contact, Timestamp)> {
    let (mut contact, known_at) = before.unwrap_or((Contact::default(), Timestamp::UNIX_EPOCH));
    let latest = known_at.max(erased_at.unwrap_or(known_at));
    // An opt-out always counts.
    if word.granted && word.at < latest {
        return None;
    }
    contact.opted_out |= erased_at.is_some();
    match (word.granted, word.channel.map(bit)) {
        (true, None) => {
            let consented = contact.consented || word.purpose == ConsentPurpose::Marketing;
            contact = Contact { consented, ..Contact::default() };
        }
        (true, Some(channel)) => {
            let refused = if contact.opted_out { ALL } else { contact.refused };
            contact.opted_out = false;
            contact.refused = refused & !channel;
            if word.purpose == ConsentPurpose::Marketing {
                contact.agreed |= channel;
            }
        }
        (false, None) => contact = Contact { opted_out: true, ..Contact::default() },
        (false, Some(channel)) => {
            contact.refused |= channel;
            contact.agreed &= !channel;
        }
    }
    Some((contact, word.at.max(latest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(granted: bool, channel: Option<Channel>, at: i64) -> Consent {
        Consent {
            key: [0; 16],
            merchant: nobody(),
            address: "+79991234567".to_owned(),
            channel,
            purpose: ConsentPurpose::Marketing,
            granted,
            how: ConsentHow::Form,
            text: String::new(),
            by: "local".to_owned(),
            at: Timestamp::from_second(at).unwrap(),
        }
    }

    #[test]
    fn a_later_word_stands_and_an_opt_out_always_counts() {
        let agreed = weigh(None, None, &word(true, None, 10)).unwrap();
        assert!(agreed.0.agrees(Some(Channel::Sms)));
        let out = weigh(Some(agreed), None, &word(false, None, 5)).unwrap();
        assert!(out.0.refuses(None) && !out.0.agrees(None) && out.1 == agreed.1);
        assert_eq!(weigh(Some(out), None, &word(true, None, 9)), None);
        assert!(!weigh(Some(out), None, &word(true, None, 11)).unwrap().0.refuses(None));
        let erased_at = Timestamp::from_second(20).ok();
        assert_eq!(weigh(None, erased_at, &word(true, None, 19)), None);
        assert!(weigh(None, erased_at, &word(true, None, 21)).unwrap().0.agrees(None));
    }

    #[test]
    fn a_word_about_one_channel_leaves_the_others_as_they_are() {
        let agreed = weigh(None, None, &word(true, None, 1)).unwrap();
        let no_sms = weigh(Some(agreed), None, &word(false, Some(Channel::Sms), 2)).unwrap();
        assert!(no_sms.0.refuses(Some(Channel::Sms)) && !no_sms.0.refuses(Some(Channel::Whatsapp)));
        assert!(no_sms.0.agrees(Some(Channel::Whatsapp)));
        let out = weigh(Some(no_sms), None, &word(false, None, 3)).unwrap();
        let back = weigh(Some(out), None, &word(true, Some(Channel::Whatsapp), 4)).unwrap().0;
        assert!(back.agrees(Some(Channel::Whatsapp)) && !back.refuses(Some(Channel::Whatsapp)));
        assert!(back.refuses(Some(Channel::Sms)) && back.refuses(Some(Channel::Email)) && !back.agrees(Some(Channel::Email)));
    }
}
