//! Batches that somebody asks for: up to a hundred messages, each to its own person in its own words, under one key.
//!
//! Each message is judged once, here: who wants none gets none, and the answer says so. Where the provider takes them in one call the
//! rest is written down as it will be sent; else each goes by itself.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{
    Address, Channel, Content, Id, Job, Outbound,
    check::Fault,
    id::Kind,
    message::Template,
    port::{Batches, Messages},
    signature::fingerprint,
};
use uzel_store::{Change, Command, CommandState, Contact, NewCommand, Once, StoreError};

use super::{CommandRequest, Holder, KEY_LIFE, LATEST, Message, Refused, Way, content, is_key, may_ask, queued, unlisted, way};
use crate::{
    Engine, Link,
    flow::Ground,
    sender::{self, Wish},
    tick,
};

const MESSAGES_MAX: usize = 100;

/// Messages to many people, as they are asked for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "merchant": "cafe", "channel": "email", "ground": "consent",
    "messages": [{ "to": "ivan@example.com", "subject": "News", "text": "We open at eight" }]
}))]
pub struct BatchRequest {
    /// By id or slug.
    pub merchant: String,
    /// The connection that sends, by id or slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The same, by the word that flows have for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Instead of a connection: the merchant's first that sends by this channel and is not paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// Only by a connection to this provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// One to a hundred.
    #[schemars(length(min = 1, max = 100))]
    pub messages: Vec<BatchMessage>,
    /// What has not gone by then goes no more. Without it: a day from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_at: Option<Timestamp>,
    /// On what ground the people are written to.
    pub ground: Ground,
}

/// One message of a batch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchMessage {
    /// The person's phone; by `email` a mailbox.
    pub to: String,
    /// What is sent, in plain words. With `template` or `html` it may be missing.
    #[serde(default)]
    pub text: String,
    /// A message that the provider has approved (WhatsApp).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Of an e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Of an e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

/// A batch that is queued, or was before; or what it would be.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BatchAccepted {
    /// The command that sends all; nothing was queued where there is none.
    pub id: Option<Id>,
    /// The connection that sends.
    pub connection: Id,
    /// All go by one call; else each goes by itself.
    pub one_call: bool,
    /// No provider stands behind that connection: they go to the journal and to nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dev: bool,
    /// In the order in which they were asked for.
    pub messages: Vec<Batched>,
}

/// A message of a batch, and how it stands.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Batched {
    /// The command that it is.
    pub id: Option<Id>,
    /// Whom it goes to, masked.
    pub to: String,
    /// How it stands; `held`: it does not go.
    pub state: CommandState,
    /// Why it is held back: `opt_out`, `no_consent`, `repeated` (the same message to the same person stands further up).
    pub reason: Option<String>,
}

impl BatchRequest {
    fn wish(&self) -> Wish<'_> {
        Wish {
            connection: self.connection.as_deref(),
            via: self.via.as_deref(),
            channel: self.channel,
            provider: self.provider.as_deref(),
        }
    }

    /// One of its messages, as it would be asked for alone.
    fn one(&self, message: &BatchMessage) -> CommandRequest {
        let BatchMessage { to, text, template, subject, html } = message.clone();
        CommandRequest {
            merchant: self.merchant.clone(),
            connection: self.connection.clone(),
            via: self.via.clone(),
            channel: self.channel,
            provider: self.provider.clone(),
            to,
            text,
            template,
            subject,
            html,
            attachments: Vec::new(),
            due_at: None,
            latest_at: self.latest_at,
            ground: self.ground,
        }
    }
}

/// A message that can be read, and why it does not go.
struct Judged {
    to: Address,
    content: Content,
    held: Option<&'static str>,
}

/// A batch that can be read, each of its messages judged.
struct Plan {
    link: Arc<Link>,
    messages: Vec<Judged>,
    latest_at: Timestamp,
}

impl Plan {
    /// What takes all that go in one call. A single one needs no batch.
    fn batches(&self) -> Option<&dyn Batches> {
        let going = self.messages.iter().filter(|message| message.held.is_none()).count();
        let batches = self.link.connector.messages().and_then(Messages::batches)?;
        (2..=batches.messages_max()).contains(&going).then_some(batches)
    }

    fn accepted(&self, id: Option<Id>, ids: &[Id]) -> BatchAccepted {
        let shown = |(place, message): (usize, &Judged)| Batched {
            id: ids.get(place).copied(),
            to: message.to.masked(),
            state: if message.held.is_some() { CommandState::Held } else { CommandState::Waiting },
            reason: message.held.map(str::to_owned),
        };
        BatchAccepted {
            id,
            connection: self.link.id,
            one_call: self.batches().is_some(),
            dev: !sender::reaches_people(&self.link),
            messages: self.messages.iter().enumerate().map(shown).collect(),
        }
    }
}

impl Engine {
    /// Queues messages that somebody asks for under a key of their own. The same again gives the first batch again, as it stands.
    pub async fn batch(&self, holder: &Holder, request: &BatchRequest, key: &str) -> Result<BatchAccepted, Refused> {
        may_ask(holder)?;
        is_key(key)?;
        let now = self.clock.now();
        let body = serde_json::to_vec(request).expect("texts and times are JSON");
        let key = fingerprint([holder.proof.as_slice(), b"batches", key.as_bytes()]);
        let body = fingerprint([body.as_slice()]);
        if let Some(before) = self.batch_before(key, body, now).await? {
            return Ok(before);
        }
        let plan = self.judged(holder, request, now).await?;
        // Made first: what waits behind a command of its key is younger.
        let id = Id::new(Kind::Command);
        let (commands, ids) = commands(&plan, id, request.ground, now)?;
        let once = Once { key, body, command: id, until: now.saturating_add(KEY_LIFE).unwrap_or(Timestamp::MAX) };
        let change = Change { commands, once: Some(once), now: Some(now), ..Change::default() };
        match self.store.apply(change).await {
            Ok(_) => {
                self.due.notify_one();
                Ok(plan.accepted(Some(id), &ids))
            }
            // The same was asked for at the same moment.
            Err(StoreError::Conflict) => self.batch_before(key, body, now).await?.ok_or(Refused::Store(StoreError::Busy)),
            Err(error) => Err(Refused::Store(error)),
        }
    }

    /// What would become of a batch. Nothing is queued.
    pub async fn batch_dry_run(&self, holder: &Holder, request: &BatchRequest) -> Result<BatchAccepted, Refused> {
        may_ask(holder)?;
        Ok(self.judged(holder, request, self.clock.now()).await?.accepted(None, &[]))
    }

    async fn judged(&self, holder: &Holder, request: &BatchRequest, now: Timestamp) -> Result<Plan, Refused> {
        let mut plan = read(self, holder, request, now).map_err(Refused::Invalid)?;
        let channel = plan.link.connector.messages().map(Messages::channel);
        let mut known = BTreeSet::new();
        for message in &mut plan.messages {
            let contact = self.store.contact(plan.link.merchant, &message.to.key()).await?;
            let words = serde_json::to_vec(&message.content).expect("a content is JSON");
            message.held = if contact.refuses(channel) {
                Some("opt_out")
            } else if request.ground == Ground::Consent && !contact.agrees(channel) {
                Some("no_consent")
            } else {
                (!known.insert(fingerprint([message.to.key().as_bytes(), words.as_slice()]))).then_some("repeated")
            };
        }
        Ok(plan)
    }

    async fn batch_before(&self, key: [u8; 16], body: [u8; 16], now: Timestamp) -> Result<Option<BatchAccepted>, Refused> {
        let Some(before) = self.store.once(key).await?.filter(|before| before.until > now) else { return Ok(None) };
        if before.body != body {
            return Err(Refused::OtherBody);
        }
        // They were queued together with the key.
        let found =
            self.store.command(before.command).await?.map(|(_, batch)| (batch.connection, serde_json::from_value(batch.job)));
        let Some((connection, Ok(Job::Batch { messages: ids, body, .. }))) = found else {
            return Err(Refused::Store(StoreError::Busy));
        };
        let mut messages = Vec::new();
        for id in ids {
            let Some((_, command)) = self.store.command(id).await? else { return Err(Refused::Store(StoreError::Busy)) };
            let job: Option<Job> = serde_json::from_value(command.job).ok();
            let to = job.as_ref().and_then(Job::address).map(Address::masked).unwrap_or_default();
            messages.push(Batched { id: Some(id), to, state: command.state, reason: command.reason });
        }
        let dev = self.world().links.get(&connection).is_some_and(|link| !sender::reaches_people(link));
        Ok(Some(BatchAccepted { id: Some(before.command), connection, one_call: body.is_some(), dev, messages }))
    }
}

/// What was asked for, not yet judged, or every fault of it.
fn read(engine: &Engine, holder: &Holder, request: &BatchRequest, now: Timestamp) -> Result<Plan, Vec<Fault>> {
    let world = engine.world();
    let mut faults = Vec::new();
    let Way { link, channel, country } = way(&world, engine.providers, holder, &request.merchant, request.wish(), &mut faults);
    if request.messages.is_empty() || request.messages.len() > MESSAGES_MAX {
        faults.push(Fault::new("/messages", format!("must be 1 to {MESSAGES_MAX}, not {}", request.messages.len())));
        return Err(faults);
    }
    let latest_at = request.latest_at.unwrap_or_else(|| now.saturating_add(LATEST).unwrap_or(Timestamp::MAX));
    if latest_at < now {
        faults.push(Fault::new("/latest_at", "has passed: nothing would ever go"));
    }
    let mut messages = Vec::new();
    for (place, message) in request.messages.iter().enumerate() {
        let one = request.one(message);
        let mut wrong = Vec::new();
        let to = sender::receiver(&message.to, channel, country).map_err(|fault| wrong.push(fault)).ok();
        let content = content(&one, channel, &mut wrong);
        wrong.extend(unlisted(link, &one));
        faults.extend(wrong.into_iter().map(|fault| Fault::new(format!("/messages/{place}{}", fault.pointer), fault.detail)));
        messages.extend(to.map(|to| Judged { to, content, held: None }));
    }
    match link {
        Some(link) if faults.is_empty() => Ok(Plan { link: link.clone(), messages, latest_at }),
        _ => Err(faults),
    }
}

/// The batch and its messages, in this order, and the ids of the messages.
fn commands(plan: &Plan, id: Id, ground: Ground, now: Timestamp) -> Result<(Vec<NewCommand>, Vec<Id>), Refused> {
    let Plan { link, messages, latest_at } = plan;
    let (batches, trace, ordering_key) = (plan.batches(), tick::new_trace(), format!("batch/{id}"));
    let mut parts = Vec::new();
    for Judged { to, content, held } in messages {
        let own_key = format!("{}/{}", link.id, to.key());
        let consent = ground == Ground::Consent;
        let message = Message { to: to.clone(), content: content.clone(), consent, due_at: now, latest_at: *latest_at };
        let key = if batches.is_some() { ordering_key.clone() } else { own_key };
        let mut new = queued(link, message, Some(key));
        new.command.trace.clone_from(&trace);
        new.held = held.map(str::to_owned);
        if let (Job::Send { batch, .. }, true) = (&mut new.command.job, batches.is_some()) {
            *batch = Some(id);
        }
        parts.push(new);
    }
    let keys: Vec<String> = parts.iter().map(|new| new.command.id.to_string()).collect();
    let going = messages.iter().zip(&keys).filter(|(message, _)| message.held.is_none());
    let outbound: Vec<Outbound<'_>> = going.map(|(Judged { to, content, .. }, key)| Outbound { to, content, key }).collect();
    let body = batches.map(|batches| batches.body(&outbound)).transpose();
    let body = body.map_err(|error| Refused::Invalid(vec![Fault::new("/messages", error.to_string())]))?;
    let ids: Vec<Id> = parts.iter().map(|new| new.command.id).collect();
    let held = parts.iter().filter(|new| new.held.is_some()).map(|new| new.command.id).collect();
    let command = Command {
        id,
        merchant: link.merchant,
        connection: link.id,
        flow: None,
        event: None,
        job: Job::Batch { messages: ids.clone(), held, body },
        due_at: now,
        latest_at: Some(*latest_at),
        source: link.id,
        attempts: 0,
        contact: Contact::default(),
        lease: 0,
        trace,
    };
    let batch = NewCommand { command, ordering_key, subject: format!("command/{id}"), held: None, slot: None };
    Ok(([vec![batch], parts].concat(), ids))
}
