//! Commands that somebody asks for: by the API, the command line or a message. All ways lead through [`Engine::command`].
//!
//! What a flow looks at is looked at here as well, when the command is asked for and again when it is sent. A command is made
//! once for a caller's key, however often it is asked for.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{
    Address, Content, Id, Job,
    check::{self, Fault},
    id::Kind,
    phone::{self, Kind as PhoneKind, Phone},
    port::Messages,
    signature::fingerprint,
};
use uzel_store::{Change, Command, CommandState, Contact, NewCommand, Once, StoreError};

use crate::{Engine, Link, Role, World, flow::Ground, tick};

/// How long a caller's key is remembered.
const KEY_LIFE: SignedDuration = SignedDuration::from_hours(72);
const KEY_BYTES_MAX: usize = 255;
const TEXT_BYTES_MAX: usize = 4_096;
/// A message that goes later than this after its time is held back, unless the command says otherwise.
const LATEST: SignedDuration = SignedDuration::from_hours(24);
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(366 * 24);

/// A text to one person, as it is asked for.
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
    /// The person's phone.
    pub to: String,
    /// What is sent.
    pub text: String,
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
        if !matches!(holder.role, Role::Admin | Role::Owner | Role::Operator) {
            return Err(Refused::Role);
        }
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Refused::NoOnce(format!("must have 1 to {KEY_BYTES_MAX} bytes, not {}", key.len())));
        }
        let now = self.clock.now();
        let body = serde_json::to_vec(&request).expect("texts and times are JSON");
        let key = fingerprint([holder.proof.as_slice(), b"commands", key.as_bytes()]);
        let body = fingerprint([body.as_slice()]);
        // Before anything is judged: what was taken once is not refused because time went on.
        if let Some(accepted) = self.asked_before(key, body, now).await? {
            return Ok(accepted);
        }
        let new = build(&self.world(), holder, &request, now).map_err(Refused::Invalid)?;
        let id = new.command.id;
        let once = Once { key, body, command: id, until: now.saturating_add(KEY_LIFE).unwrap_or(Timestamp::MAX) };
        let change = Change { commands: vec![new], once: Some(once), now: Some(now), ..Change::default() };
        match self.store.apply(change).await {
            Ok(_) => {
                self.due.notify_one();
                Ok(Accepted { id, state: CommandState::Waiting, repeated: false })
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
        let state = self.store.command(before.command).await?.map_or(CommandState::Waiting, |(_, command)| command.state);
        Ok(Some(Accepted { id: before.command, state, repeated: true }))
    }
}

/// The command, or every fault of what was asked.
fn build(world: &World, holder: &Holder, request: &CommandRequest, now: Timestamp) -> Result<NewCommand, Vec<Fault>> {
    let mut faults = Vec::new();
    // Another's merchant looks as if it did not exist.
    let merchant = world.merchant(&request.merchant).filter(|merchant| holder.merchant.is_none_or(|own| own == *merchant));
    if merchant.is_none() {
        faults.push(Fault::new("/merchant", format!("no merchant `{}`", request.merchant)));
    }
    let link = merchant.and_then(|merchant| sender(world, merchant, request).map_err(|fault| faults.push(fault)).ok());
    let country = merchant.and_then(|merchant| world.merchants.get(&merchant)).map_or("RU", |(_, merchant)| &merchant.country);
    let phone = receiver(&request.to, country).map_err(|fault| faults.push(fault)).ok();
    let text = request.text.trim();
    if text.is_empty() {
        faults.push(Fault::new("/text", "is empty"));
    } else if text.len() > TEXT_BYTES_MAX {
        faults.push(Fault::new("/text", format!("may have {TEXT_BYTES_MAX} bytes at the most, not {}", text.len())));
    }
    let due_at = request.due_at.unwrap_or(now).max(now);
    let latest_at = request.latest_at.unwrap_or_else(|| due_at.saturating_add(LATEST).unwrap_or(Timestamp::MAX));
    if due_at > now.saturating_add(AHEAD_MAX).unwrap_or(Timestamp::MAX) {
        faults.push(Fault::new("/due_at", "is more than a year ahead"));
    }
    if latest_at < due_at {
        faults.push(Fault::new("/latest_at", "is before the text is due, or has passed: it would never go"));
    }
    let (Some(merchant), Some(link), Some(phone), true) = (merchant, link, phone, faults.is_empty()) else {
        return Err(faults);
    };
    let id = Id::new(Kind::Command);
    let command = Command {
        id,
        merchant,
        connection: link.id,
        flow: None,
        event: None,
        job: Job::Send {
            to: Address::Phone(phone.e164.clone()),
            content: Content::text(text).into(),
            consent: request.ground == Ground::Consent,
            repeatable: link.connector.messages().is_some_and(Messages::repeatable),
        },
        due_at,
        latest_at: Some(latest_at),
        source: link.id,
        attempts: 0,
        contact: Contact::default(),
        lease: 0,
        trace: tick::new_trace(),
    };
    let ordering_key = format!("{}/{}", link.id, phone.e164);
    Ok(NewCommand { command, ordering_key, subject: format!("command/{id}"), held: None, slot: None })
}

fn sender<'a>(world: &'a World, merchant: Id, request: &CommandRequest) -> Result<&'a Link, Fault> {
    let (place, name) = match (&request.connection, &request.via) {
        (Some(name), None) => ("/connection", name),
        (None, Some(name)) => ("/via", name),
        (None, None) => return Err(Fault::new("/connection", "is missing: name the connection that sends, or give `via`")),
        (Some(_), Some(_)) => return Err(Fault::new("/via", "stands beside `connection`: give one of the two")),
    };
    let by_id = || name.parse().ok().and_then(|id| world.links.get(&id)).filter(|link| link.merchant == merchant);
    let found = world.link_of(merchant, name).or_else(by_id);
    let link = found.ok_or_else(|| Fault::new(place, format!("no connection `{name}` of this merchant that can be used")))?;
    if link.connector.messages().is_none() {
        return Err(Fault::new(place, format!("{} sends no messages", link.provider.name)));
    }
    Ok(link)
}

fn receiver(to: &str, country: &str) -> Result<Phone, Fault> {
    let phone = phone::read_text(to, country).map_err(|error| Fault::new("/to", error.to_string()))?;
    match phone.kind {
        PhoneKind::Mobile => Ok(phone),
        _ => Err(Fault::new("/to", "is no mobile number: it takes no text")),
    }
}
