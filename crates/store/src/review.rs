//! Short links in messages, what people made of those that ask for a review, and how often: the rules that every store follows.

use serde::{Deserialize, Serialize};
use uzel_model::{Address, Channel, Id, Timestamp};

/// What a short link is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkPurpose {
    /// Asks for a review.
    Review,
    /// Ends messages.
    Unsubscribe,
}

/// A short link in a message. Its code is told to nobody but the person it goes to: only a hash of it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShortLink {
    /// Hash of the code.
    #[serde(skip)]
    pub code: [u8; 16],
    pub purpose: LinkPurpose,
    pub merchant: Id,
    pub outlet: Option<Id>,
    /// The connection whose event led to it.
    pub source: Id,
    /// The connection that sends, or has sent, the message.
    pub via: Id,
    pub channel: Channel,
    pub flow: Option<Id>,
    pub event: Option<Id>,
    /// The command that it was made with: without it there is no link.
    pub command: Id,
    pub to: Address,
    /// The day on which it was made, in the outlet's zone, counted from 1970: what becomes of it later is counted there too.
    pub day: i32,
    pub made_at: Timestamp,
    pub expires_at: Timestamp,
    /// When a provider took a message with it.
    pub sent_at: Option<Timestamp>,
    pub opened_at: Option<Timestamp>,
    /// One bit for each map that was gone to.
    pub clicks: u8,
    pub review: Option<Id>,
}

/// What became of a short link.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkNews {
    /// A provider took a message with it.
    Sent { via: Id, channel: Channel, to: Address, at: Timestamp },
    /// Its page was opened by a person.
    Opened { at: Timestamp },
    /// A map's page was gone to.
    Clicked { map: MapService, at: Timestamp },
}

/// Where an outlet is on a map, and people leave reviews.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapService {
    Dgis,
    Yandex,
    Google,
}

impl MapService {
    pub const ALL: [Self; 3] = [Self::Dgis, Self::Yandex, Self::Google];

    pub fn name(self) -> &'static str {
        match self {
            Self::Dgis => "dgis",
            Self::Yandex => "yandex",
            Self::Google => "google",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A review as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Review {
    pub id: Id,
    pub merchant: Id,
    pub outlet: Option<Id>,
    pub source: Id,
    pub via: Id,
    pub channel: Channel,
    pub flow: Option<Id>,
    /// Nothing where the person was erased.
    pub to: Option<Address>,
    /// 1 to 5.
    pub stars: u8,
    /// For the owner only.
    pub comment: Option<String>,
    pub left_at: Timestamp,
    pub changed_at: Timestamp,
    /// How often it was given or changed.
    pub given: u32,
    pub answer: Option<ReviewAnswer>,
}

/// What the merchant answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewAnswer {
    pub text: String,
    pub by: String,
    pub at: Timestamp,
    pub command: Id,
}

/// A review that is left by a link, or changed. Another count of changes than `was` is a conflict: it changed meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftReview {
    pub code: [u8; 16],
    /// Id of the review, if it is the first by this link.
    pub review: Id,
    pub was: u32,
    pub stars: u8,
    pub comment: Option<String>,
    pub at: Timestamp,
}

/// An answer to a review that has none; else it is a conflict.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviewReply {
    pub review: Id,
    pub answer: ReviewAnswer,
}

/// Which reviews.
#[derive(Debug, Clone, Default)]
pub struct ReviewFilter {
    pub merchant: Option<Id>,
    pub outlet: Option<Id>,
    pub source: Option<Id>,
    pub stars: Option<u8>,
    pub answered: Option<bool>,
    /// Left before this one.
    pub before: Option<Id>,
    pub limit: usize,
}

/// How often something became of the links of one place, in some days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewCount {
    pub outlet: Option<Id>,
    pub source: Id,
    pub channel: Channel,
    /// `sent`, `opened`, `stars/1` to `stars/5`, `comment`, `click/dgis` and so on.
    pub what: String,
    pub count: i64,
}

/// A count that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shift {
    pub(crate) channel: Channel,
    pub(crate) what: String,
    pub(crate) by: i64,
}

impl ShortLink {
    /// Takes news in; gives the counts that move. What was known moves none.
    pub(crate) fn hear(&mut self, news: &LinkNews) -> Vec<Shift> {
        let mut shifts = Vec::new();
        match news {
            LinkNews::Sent { via, channel, to, at } => {
                // A fallback sends it again by another channel: until somebody has come by the first one, it counts there.
                if self.sent_at.is_some() && (self.channel == *channel || self.opened_at.is_some()) {
                    return shifts;
                }
                if self.sent_at.is_some() {
                    shifts.push(self.shift("sent", -1));
                }
                (self.via, self.channel, self.to, self.sent_at) = (*via, *channel, to.clone(), Some(*at));
                shifts.push(self.shift("sent", 1));
            }
            LinkNews::Opened { at } => self.open(*at, &mut shifts),
            LinkNews::Clicked { map, at } => {
                self.open(*at, &mut shifts);
                if self.clicks & map.bit() == 0 {
                    self.clicks |= map.bit();
                    shifts.push(self.shift(&format!("click/{}", map.name()), 1));
                }
            }
        }
        if self.purpose == LinkPurpose::Review { shifts } else { Vec::new() }
    }

    /// Whoever opens it has got it, whatever the provider said.
    fn open(&mut self, at: Timestamp, shifts: &mut Vec<Shift>) {
        if self.sent_at.is_none() {
            self.sent_at = Some(at);
            shifts.push(self.shift("sent", 1));
        }
        if self.opened_at.is_none() {
            self.opened_at = Some(at);
            shifts.push(self.shift("opened", 1));
        }
    }

    fn shift(&self, what: &str, by: i64) -> Shift {
        Shift { channel: self.channel, what: what.to_owned(), by }
    }

    /// The review as it stands after `left`, and the counts that move; nothing where it changed meanwhile.
    pub(crate) fn review(&mut self, before: Option<Review>, left: &LeftReview) -> Option<(Review, Vec<Shift>)> {
        if before.as_ref().map_or(0, |review| review.given) != left.was {
            return None;
        }
        let mut shifts = Vec::new();
        self.open(left.at, &mut shifts);
        let mut review = before.unwrap_or_else(|| Review {
            id: left.review,
            merchant: self.merchant,
            outlet: self.outlet,
            source: self.source,
            via: self.via,
            channel: self.channel,
            flow: self.flow,
            to: Some(self.to.clone()),
            stars: 0,
            comment: None,
            left_at: left.at,
            changed_at: left.at,
            given: 0,
            answer: None,
        });
        if review.stars != left.stars {
            if review.stars > 0 {
                shifts.push(self.shift(&format!("stars/{}", review.stars), -1));
            }
            shifts.push(self.shift(&format!("stars/{}", left.stars), 1));
        }
        if left.comment.is_some() && review.comment.is_none() {
            shifts.push(self.shift("comment", 1));
        }
        review.stars = left.stars;
        review.comment = left.comment.clone().or(review.comment);
        review.changed_at = left.at;
        review.given += 1;
        self.review = Some(review.id);
        Some((review, shifts))
    }
}

impl Review {
    /// Takes out who it was and what they wrote; stars and times stay.
    pub(crate) fn forget(&mut self) {
        (self.to, self.comment) = (None, None);
        if let Some(answer) = &mut self.answer {
            answer.text = String::new();
        }
    }
}

#[cfg(feature = "memory")]
impl ReviewFilter {
    pub(crate) fn wants(&self, review: &Review) -> bool {
        self.merchant.is_none_or(|merchant| merchant == review.merchant)
            && self.outlet.is_none_or(|outlet| Some(outlet) == review.outlet)
            && self.source.is_none_or(|source| source == review.source)
            && self.stars.is_none_or(|stars| stars == review.stars)
            && self.answered.is_none_or(|answered| answered == review.answer.is_some())
            && self.before.is_none_or(|before| review.id < before)
    }
}

/// A channel by its name, as rows have it.
pub(crate) fn channel(name: &str) -> Channel {
    Channel::ALL.into_iter().find(|channel| channel.name() == name).unwrap_or(Channel::Sms)
}

/// Stands for no outlet in the key of a count.
pub(crate) const NO_OUTLET: [u8; 16] = [0; 16];
