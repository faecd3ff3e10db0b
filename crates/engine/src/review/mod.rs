//! Review requests: the page behind a short link, what a guest leaves there, and what the merchant answers.
//!
//! What a guest gave is in the journal, on disk, before the page says thanks; flows, endpoints and the feed get it from there.

mod links;
mod maps;
mod reading;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
pub use links::CODE_CHARS;
pub(crate) use links::{Links, made, made_for, sent};
pub use maps::Maps;
use reading::Left;
pub(crate) use reading::{SOURCE, follow};
use uzel_model::{Bytes, Content, Id, Job, Request, id::Kind, port::Messages};
use uzel_store::{
    Change, Command, Contact, Entry, LeftReview, LinkNews, LinkPurpose, NewCommand, Review, ReviewAnswer, ReviewReply, ShortLink,
    Source, StoreError,
};

use crate::{Engine, Link, flow::Ground, tick};

/// How long a guest may change what they gave.
const CHANGE: SignedDuration = SignedDuration::from_hours(24);
/// And how often.
const GIVEN_MAX: u32 = 20;
/// How often a review that changes meanwhile is looked at again.
const TRIES_MAX: u32 = 5;
/// An answer that goes later than this is held back.
const ANSWER_LATEST: SignedDuration = SignedDuration::from_hours(48);
/// How long a comment, and an answer, may be.
pub const COMMENT_CHARS_MAX: usize = 2_000;
pub const ANSWER_CHARS_MAX: usize = 1_000;

/// What stands behind a short link.
#[derive(Debug, Clone)]
pub struct Landing {
    pub link: ShortLink,
    pub review: Option<Review>,
    /// Name of the outlet, or of the merchant where there is none.
    pub place: String,
    /// `ru`, `uz` or `en`: the merchant's.
    pub language: String,
    pub maps: Maps,
    /// Whether what was given can still be changed.
    pub is_open: bool,
}

/// Why nothing was left.
#[derive(Debug, Clone)]
pub enum NotLeft {
    NoSuch,
    /// It was left too long ago, or changed too often.
    Closed,
    /// A comment came before any stars.
    NoStars,
    Store(StoreError),
}

impl From<StoreError> for NotLeft {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Why a review was not answered.
#[derive(Debug, Clone)]
pub enum NotAnswered {
    NoSuch,
    /// It has an answer.
    Already,
    /// Nobody knows any more who left it.
    Erased,
    /// The person wants no messages, or has not agreed to them.
    Unwanted,
    /// The connection that asked is gone, or sends nothing.
    NoWay,
    Text(String),
    Store(StoreError),
}

impl From<StoreError> for NotAnswered {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Engine {
    /// What a code leads to: nothing where it never led anywhere, or no more.
    pub async fn landing(&self, code: &str, purpose: LinkPurpose) -> Result<Option<Landing>, StoreError> {
        let Some(code) = links::hash(code) else { return Ok(None) };
        let now = self.clock.now();
        let found = self.store.short_link(code).await?;
        let Some((link, review)) = found.filter(|(link, _)| link.purpose == purpose && link.expires_at > now) else {
            return Ok(None);
        };
        let world = self.world();
        let Some((_, merchant)) = world.merchants.get(&link.merchant) else { return Ok(None) };
        // Whoever wants no messages wants none of the whole business.
        let outlet = link.outlet.filter(|_| purpose == LinkPurpose::Review).and_then(|outlet| world.outlets.get(&outlet));
        let outlet = outlet.map(|(_, _, outlet)| outlet);
        Ok(Some(Landing {
            is_open: review.as_ref().is_none_or(|review| can_change(review, now)),
            place: outlet.map_or(&merchant.name, |outlet| &outlet.name).clone(),
            language: merchant.language.clone(),
            maps: outlet.map(|outlet| outlet.maps.clone()).unwrap_or_default(),
            link,
            review,
        }))
    }

    /// Counts what became of a link. Nobody waits for it to succeed.
    pub async fn note_link(&self, code: [u8; 16], news: LinkNews) {
        let change = Change { link_news: vec![(code, news)], now: Some(self.clock.now()), ..Change::default() };
        if let Err(error) = self.store.apply(change).await {
            tracing::debug!("what became of a link was not counted: {error}");
        }
    }

    /// Takes stars, or a comment to stars that were given, or both. It is on disk when this returns; the same again changes
    /// nothing.
    pub async fn leave_review(&self, code: &str, stars: Option<u8>, comment: Option<String>) -> Result<(), NotLeft> {
        for _ in 0..TRIES_MAX {
            let landing = self.landing(code, LinkPurpose::Review).await?.ok_or(NotLeft::NoSuch)?;
            let before = landing.review.as_ref();
            let stars = stars.or(before.map(|review| review.stars)).ok_or(NotLeft::NoStars)?;
            let new_comment = comment.clone().filter(|comment| before.is_none_or(|it| it.comment.as_ref() != Some(comment)));
            if before.is_some_and(|review| review.stars == stars) && new_comment.is_none() {
                return Ok(());
            }
            if !landing.is_open {
                return Err(NotLeft::Closed);
            }
            match self.put_review(&landing, stars, new_comment).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done?),
            }
        }
        Err(NotLeft::Store(StoreError::Busy))
    }

    async fn put_review(&self, landing: &Landing, stars: u8, comment: Option<String>) -> Result<(), StoreError> {
        let (link, before, now) = (&landing.link, landing.review.as_ref(), self.clock.now());
        let was = before.map_or(0, |review| review.given);
        let review = before.map_or_else(|| Id::new(Kind::Review), |review| review.id);
        let left = Left {
            review,
            given: was + 1,
            stars,
            commented: comment.is_some(),
            comment: comment.clone().or(before.and_then(|review| review.comment.clone())),
            outlet: link.outlet,
            flow: link.flow,
            channel: link.channel,
            to: link.to.clone(),
        };
        let entry = Entry {
            id: Id::new(Kind::Entry),
            merchant: link.merchant,
            connection: link.source,
            provider: SOURCE.to_owned(),
            request: Request {
                method: "POST".to_owned(),
                // Without the code, which would let whoever sees the journal answer again.
                path: "/r".to_owned(),
                query: Vec::new(),
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                body: Bytes::from(serde_json::to_vec(&left).expect("ids, texts and numbers are JSON")),
                received_at: now,
                peer: None,
                key: None,
            },
            answer: "303".to_owned(),
            source: Source::Webhook,
            trace: tick::new_trace(),
        };
        let left = LeftReview { code: link.code, review, was, stars, comment, at: now };
        let change = Change { entries: vec![entry], left_review: Some(left), now: Some(now), ..Change::default() };
        self.store.apply(change).await.map(drop)
    }

    /// Answers a review, by the channel that it was asked for by. `merchant`: whose it must be.
    pub async fn answer_review(&self, id: Id, merchant: Option<Id>, text: &str, by: &str) -> Result<Review, NotAnswered> {
        let review = self.store.review(id).await?.filter(|review| merchant.is_none_or(|own| own == review.merchant));
        let review = review.ok_or(NotAnswered::NoSuch)?;
        let text = text.trim();
        if text.is_empty() || text.chars().count() > ANSWER_CHARS_MAX {
            return Err(NotAnswered::Text(format!("must have 1 to {ANSWER_CHARS_MAX} characters")));
        }
        if review.answer.is_some() {
            return Err(NotAnswered::Already);
        }
        let new = self.answer_command(&review, text).await?;
        let now = self.clock.now();
        let answer = ReviewAnswer { text: text.to_owned(), by: by.to_owned(), at: now, command: new.command.id };
        let reply = ReviewReply { review: id, answer: answer.clone() };
        let change = Change { commands: vec![new], review_reply: Some(reply), now: Some(now), ..Change::default() };
        match self.store.apply(change).await {
            Err(StoreError::Conflict) => Err(NotAnswered::Already),
            done => {
                done?;
                self.due.notify_one();
                Ok(Review { answer: Some(answer), ..review })
            }
        }
    }

    async fn answer_command(&self, review: &Review, text: &str) -> Result<NewCommand, NotAnswered> {
        let to = review.to.clone().ok_or(NotAnswered::Erased)?;
        let world = self.world();
        let link: Option<&Arc<Link>> = world.links.get(&review.via);
        let link = link.filter(|link| link.connector.messages().is_some_and(|messages| messages.channel().takes(&to)));
        let link = link.ok_or(NotAnswered::NoWay)?;
        let flow = review.flow.and_then(|flow| world.flow(flow));
        let consent = flow.is_some_and(|flow| flow.doc.ground == Ground::Consent);
        let contact = self.store.contact(review.merchant, &to.key()).await?;
        if contact.refuses(Some(review.channel)) || consent && !contact.agrees(Some(review.channel)) {
            return Err(NotAnswered::Unwanted);
        }
        let now = self.clock.now();
        let due_at = flow.map_or(now, |flow| flow.open_at(now, &world.zone(review.outlet)));
        let ordering_key = format!("{}/{}", link.id, to.key());
        let command = Command {
            id: Id::new(Kind::Command),
            merchant: review.merchant,
            connection: link.id,
            flow: None,
            event: None,
            job: Job::Send {
                to,
                content: Box::new(Content::text(text)),
                consent,
                repeatable: link.connector.messages().is_some_and(Messages::repeatable),
                batch: None,
            },
            due_at,
            latest_at: due_at.saturating_add(ANSWER_LATEST).ok(),
            source: link.id,
            attempts: 0,
            contact: Contact::default(),
            lease: 0,
            trace: tick::new_trace(),
        };
        Ok(NewCommand { command, ordering_key, subject: format!("review/{}", review.id), held: None, slot: None })
    }
}

fn can_change(review: &Review, now: Timestamp) -> bool {
    review.given < GIVEN_MAX && now < review.left_at.saturating_add(CHANGE).unwrap_or(Timestamp::MAX)
}
