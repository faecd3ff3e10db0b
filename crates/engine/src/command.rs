//! Commands that somebody asks for: by the API, the command line or a message. All ways lead through [`Engine::command`].
//!
//! What a flow looks at is looked at here as well, when the command is asked for and again when it is sent. A command is made
//! once for a caller's key, however often it is asked for.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{
    Address, Channel, Content, Id, Job, Provider,
    check::{self, Fault},
    id::Kind,
    message::{Attachment, Template},
    port::Messages,
    signature::fingerprint,
};
use uzel_store::{Change, Command, CommandState, Contact, NewCommand, Once, StoreError, TimelineCommand};

use crate::{
    Engine, Link, Role, World,
    flow::Ground,
    sender::{self, Wish},
    setup::templates,
    tick,
};

pub(crate) mod batch;
mod content;

use content::content;
pub(crate) use content::{subject_fault, template_faults};

/// How long a caller's key is remembered.
const KEY_LIFE: SignedDuration = SignedDuration::from_hours(72);
const KEY_BYTES_MAX: usize = 255;
pub(crate) const TEXT_BYTES_MAX: usize = 4_096;
/// A message that goes later than this after its time is held back, unless the command says otherwise.
const LATEST: SignedDuration = SignedDuration::from_hours(24);
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(366 * 24);

/// A message to one person, as it is asked for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "merchant": "cafe", "via": "sms", "to": "+79991234567", "text": "Your table is ready", "ground": "service"
}))]
pub struct CommandRequest {
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
    /// The person's phone; by `email` a mailbox, by `telegram` a chat's number, by `push` a device.
    pub to: String,
    /// What is sent, in plain words. With `template` or `html` it may be missing.
    #[serde(default)]
    pub text: String,
    /// A message that the provider has approved (WhatsApp).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Of an e-mail; the title of a push notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Of an e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Files that go with an e-mail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Without it: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// Without it: a day after it is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_at: Option<Timestamp>,
    /// On what ground the person is written to.
    pub ground: Ground,
}

impl CommandRequest {
    fn wish(&self) -> Wish<'_> {
        Wish {
            connection: self.connection.as_deref(),
            via: self.via.as_deref(),
            channel: self.channel,
            provider: self.provider.as_deref(),
        }
    }

    /// Of JSON, in which the merchant may be missing where the way it came names one.
    pub(crate) fn read(body: &[u8], merchant: &str) -> Result<Self, Refused> {
        let mut value: serde_json::Value =
            serde_json::from_slice(body).map_err(|error| Refused::Unreadable(format!("the body is not JSON: {error}")))?;
        if let Some(fields) = value.as_object_mut() {
            fields.entry("merchant").or_insert_with(|| merchant.into());
        }
        serde_path_to_error::deserialize(value)
            .map_err(|error| Refused::Invalid(vec![check::unread(check::pointer(error.path()), error.inner())]))
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Holder {
    /// What proved it, by which the keys of one holder are told from those of another.
    pub proof: Vec<u8>,
    /// `None`: the hub's owner.
    pub merchant: Option<Id>,
    pub role: Role,
}

/// A command that is queued, or was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Accepted {
    /// The command.
    pub id: Id,
    /// How it stands.
    pub state: CommandState,
    /// The connection that sends it.
    pub connection: Id,
    /// No provider stands behind that connection: it goes to the journal and to nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dev: bool,
    /// It was asked for before, with this key and this body.
    #[serde(skip)]
    pub repeated: bool,
}

/// Why nothing was queued.
#[derive(Debug, Clone)]
pub enum Refused {
    /// No key of the hub came, or one that it does not know.
    NoKey,
    /// The key may not ask for this.
    Role,
    /// The caller's own key is missing, or too long.
    NoOnce(String),
    TooLarge(usize),
    Unreadable(String),
    Invalid(Vec<Fault>),
    /// The caller's key stands for something else.
    OtherBody,
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Engine {
    /// Queues a text that somebody asks for under a key of their own. The same again gives the first command again.
    pub async fn command(&self, holder: &Holder, request: CommandRequest, key: &str) -> Result<Accepted, Refused> {
        may_ask(holder)?;
        is_key(key)?;
        let now = self.clock.now();
        let body = serde_json::to_vec(&request).expect("texts and times are JSON");
        let key = fingerprint([holder.proof.as_slice(), b"commands", key.as_bytes()]);
        let body = fingerprint([body.as_slice()]);
        // Before anything is judged: what was taken once is not refused because time went on.
        if let Some(accepted) = self.asked_before(key, body, now).await? {
            return Ok(accepted);
        }
        let (new, dev) = build(&self.world(), self.providers, holder, &request, now).map_err(Refused::Invalid)?;
        let (id, connection) = (new.command.id, new.command.connection);
        let once = Once { key, body, command: id, until: now.saturating_add(KEY_LIFE).unwrap_or(Timestamp::MAX) };
        let change = Change { commands: vec![new], once: Some(once), now: Some(now), ..Change::default() };
        match self.store.apply(change).await {
            Ok(_) => {
                self.due.notify_one();
                Ok(Accepted { id, state: CommandState::Waiting, connection, dev, repeated: false })
            }
            // The same was asked for at the same moment.
            Err(StoreError::Conflict) => self.asked_before(key, body, now).await?.ok_or(Refused::Store(StoreError::Busy)),
            Err(error) => Err(Refused::Store(error)),
        }
    }

    async fn asked_before(&self, key: [u8; 16], body: [u8; 16], now: Timestamp) -> Result<Option<Accepted>, Refused> {
        let Some(before) = self.store.once(key).await?.filter(|before| before.until > now) else { return Ok(None) };
        if before.body != body {
            return Err(Refused::OtherBody);
        }
        // It was queued together with the key.
        let Some((_, command)) = self.store.command(before.command).await? else { return Err(Refused::Store(StoreError::Busy)) };
        let dev = self.world().links.get(&command.connection).is_some_and(|link| !sender::reaches_people(link));
        let TimelineCommand { id, state, connection, .. } = command;
        Ok(Some(Accepted { id, state, connection, dev, repeated: true }))
    }
}

fn may_ask(holder: &Holder) -> Result<(), Refused> {
    let may = matches!(holder.role, Role::Admin | Role::Owner | Role::Operator);
    if may { Ok(()) } else { Err(Refused::Role) }
}

fn is_key(key: &str) -> Result<(), Refused> {
    if !key.is_empty() && key.len() <= KEY_BYTES_MAX {
        return Ok(());
    }
    Err(Refused::NoOnce(format!("must have 1 to {KEY_BYTES_MAX} bytes, not {}", key.len())))
}

/// Who sends, by what, and in which country phones are read that lack their code.
struct Way<'a> {
    link: Option<&'a Arc<Link>>,
    channel: Channel,
    country: &'a str,
}

fn way<'a>(
    world: &'a World,
    providers: &[Provider],
    holder: &Holder,
    merchant: &str,
    wish: Wish<'_>,
    faults: &mut Vec<Fault>,
) -> Way<'a> {
    // Another's merchant looks as if it did not exist.
    let found = world.merchant(merchant).filter(|merchant| holder.merchant.is_none_or(|own| own == *merchant));
    if found.is_none() {
        faults.push(Fault::new("/merchant", format!("no merchant `{merchant}`")));
    }
    let wanted = wish.channel;
    let link =
        found.and_then(|merchant| sender::sender(world, providers, merchant, wish).map_err(|none| faults.push(none.into())).ok());
    // Where none sends, what is sent is judged as it would go by the channel that is named, or as a text.
    let by_link = link.and_then(|link| link.connector.messages()).map(Messages::channel);
    let country = found.and_then(|merchant| world.merchants.get(&merchant)).map_or("RU", |(_, merchant)| &merchant.country);
    Way { link, channel: by_link.or(wanted).unwrap_or(Channel::Sms), country }
}

/// The command, or every fault of what was asked.
fn build(
    world: &World,
    providers: &[Provider],
    holder: &Holder,
    request: &CommandRequest,
    now: Timestamp,
) -> Result<(NewCommand, bool), Vec<Fault>> {
    let mut faults = Vec::new();
    let Way { link: found, channel, country } = way(world, providers, holder, &request.merchant, request.wish(), &mut faults);
    let to = sender::receiver(&request.to, channel, country).map_err(|fault| faults.push(fault)).ok();
    let content = content(request, channel, &mut faults);
    faults.extend(unlisted(found, request));
    let due_at = request.due_at.unwrap_or(now).max(now);
    let latest_at = request.latest_at.unwrap_or_else(|| due_at.saturating_add(LATEST).unwrap_or(Timestamp::MAX));
    if due_at > now.saturating_add(AHEAD_MAX).unwrap_or(Timestamp::MAX) {
        faults.push(Fault::new("/due_at", "is more than a year ahead"));
    }
    if latest_at < due_at {
        faults.push(Fault::new("/latest_at", "is before the text is due, or has passed: it would never go"));
    }
    let (Some(link), Some(to), true) = (found, to, faults.is_empty()) else { return Err(faults) };
    let ordering_key = format!("{}/{}", link.id, to.key());
    let message = Message { to, content, consent: request.ground == Ground::Consent, due_at, latest_at };
    Ok((queued(link, message, Some(ordering_key)), !sender::reaches_people(link)))
}

/// A template that the provider has not approved.
fn unlisted(link: Option<&Arc<Link>>, request: &CommandRequest) -> Option<Fault> {
    let listed = link.and_then(|link| link.connector.messages()).and_then(Messages::templates)?;
    let of = request.template.as_ref()?;
    templates::fault(listed, &of.name, &of.language).map(|(field, why)| Fault::new(format!("/template/{field}"), why))
}

/// A message to one person that belongs to no flow.
pub(crate) struct Message {
    pub(crate) to: Address,
    pub(crate) content: Content,
    pub(crate) consent: bool,
    pub(crate) due_at: Timestamp,
    pub(crate) latest_at: Timestamp,
}

/// The command that brings a message by a connection. Without an ordering key it waits for no other.
pub(crate) fn queued(link: &Link, message: Message, ordering_key: Option<String>) -> NewCommand {
    let id = Id::new(Kind::Command);
    let Message { to, content, consent, due_at, latest_at } = message;
    let command = Command {
        id,
        merchant: link.merchant,
        connection: link.id,
        flow: None,
        event: None,
        job: Job::Send {
            to,
            content: Box::new(content),
            consent,
            repeatable: link.connector.messages().is_some_and(Messages::repeatable),
            batch: None,
        },
        due_at,
        latest_at: Some(latest_at),
        source: link.id,
        attempts: 0,
        contact: Contact::default(),
        lease: 0,
        trace: tick::new_trace(),
    };
    let ordering_key = ordering_key.unwrap_or_else(|| id.to_string());
    NewCommand { command, ordering_key, subject: format!("command/{id}"), held: None, slot: None }
}
