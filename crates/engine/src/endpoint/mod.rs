//! Endpoints: URLs of the merchant's own software that receive signed webhooks.
//!
//! What an endpoint wants is decided where an event is read, in the same transaction: one command each, in the outbox like all
//! others. What is sent is made of the stored event at each try, so that a payload which was set up wrongly can be set right
//! while it waits.

mod answer;
mod change;
pub(crate) mod deliver;
mod platform;
mod rule;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cel::Program;
use jiff::Timestamp;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde::{Deserialize, Serialize};
use uzel_model::{
    Event, Id, Job, Outgoing, Secret, cloudevent,
    cloudevent::CloudEvent,
    endpoint::Receiver as Rates,
    event,
    id::Kind,
    webhook::{self, SigningKey},
};
use uzel_store::{Command, Contact, NewCommand, NewEvent, SetupRow};

pub use self::{
    answer::SignedAnswer,
    change::{EndpointKey, EndpointView, Failing, Recovered, RotateRequest, TestOutcome},
    platform::{Webhook, WebhookView},
    rule::{EndpointRule, Order, RateRule},
};
pub(crate) use self::{change::OVERLAP, rule::header_faults};
use crate::{Link, Vault, World, flow, masks::Masks, outward::Receiver};

/// A webhook may have so many bytes; of a larger event the connector's data are left out.
const BODY_BYTES_MAX: usize = 256 << 10;

/// How kinds of events about points begin.
pub(crate) const LOYALTY: &str = "loyalty.";

/// Why an endpoint gets nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Disabled {
    /// Why.
    pub reason: String,
    /// Since when.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

/// A signing key as stored in the open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyDoc {
    pub(crate) id: Id,
    pub(crate) made_at: Timestamp,
    /// Until when it signs beside the newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Timestamp>,
    /// Its owner's own name for it, which receivers are told in place of the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The next one of the points platform's two: both sign, and which of them signs for loyalty is switched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) next: bool,
}

impl KeyDoc {
    pub(crate) fn new(id: Id, made_at: Timestamp) -> Self {
        Self { id, made_at, until: None, name: None, next: false }
    }

    /// What `X-Signature-Key-Id` says.
    pub(crate) fn told(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.to_string())
    }
}

/// An endpoint as stored, without its secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EndpointDoc {
    #[serde(flatten)]
    pub(crate) rule: EndpointRule,
    pub(crate) made_at: Timestamp,
    /// The newest first.
    pub(crate) keys: Vec<KeyDoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disabled: Option<Disabled>,
}

/// What of an endpoint is sealed.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Hidden {
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// By the key's id: the secret, and the seed of the ed25519 pair in hex.
    #[serde(default)]
    pub(crate) keys: BTreeMap<Id, (String, String)>,
}

impl Hidden {
    pub(crate) fn open(row: &SetupRow, vault: &Vault) -> Result<Self, String> {
        let (Some(sealed), Some(merchant)) = (&row.sealed, row.merchant) else { return Ok(Self::default()) };
        let plain = vault.unseal_settings(merchant, row.id, sealed).map_err(|error| error.to_string())?;
        serde_json::from_value(plain.into()).map_err(|_| "its secrets are not readable".to_owned())
    }

    fn key(&self, id: Id) -> Result<SigningKey, String> {
        let (secret, seed) = self.keys.get(&id).ok_or("a signing key is missing")?;
        let seed = hex::decode(seed).map_err(|_| "a signing key is not readable")?;
        let of = |make: fn(Secret, &[u8]) -> Result<SigningKey, String>| make(Secret::new(secret.as_str()), &seed);
        of(SigningKey::new).or_else(|_| of(SigningKey::of_text))
    }

    /// A new key of this secret, or of a secret that nobody else has.
    pub(crate) fn add_key(&mut self, secret: Option<&Secret>) -> Id {
        let id = Id::new(Kind::Key);
        let secret = secret.cloned().unwrap_or_else(|| SigningKey::secret_of(&rand::random::<[u8; 32]>()));
        self.keys.insert(id, (secret.expose().to_owned(), hex::encode(rand::random::<[u8; 32]>())));
        id
    }
}

/// An endpoint, ready to be told.
#[derive(Debug)]
pub struct Endpoint {
    /// As the client sees it.
    pub(crate) link: Arc<Link>,
    pub(crate) doc: EndpointDoc,
    filter: Option<Program>,
    template: Option<Template>,
    keys: Vec<(KeyDoc, SigningKey)>,
    receiver: Receiver,
    header_names: Vec<String>,
}

/// A merchant's own form of the payload.
struct Template(Environment<'static>);

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template")
    }
}

impl Template {
    /// Every value that is put in stands there as JSON.
    fn new(text: &str) -> Result<Self, String> {
        let mut texts = Environment::new();
        texts.set_undefined_behavior(UndefinedBehavior::Chainable);
        texts.set_fuel(Some(50_000));
        texts.set_auto_escape_callback(|_| AutoEscape::Json);
        texts.add_template_owned("payload", text.to_owned()).map_err(|error| format!("is no template: {error}"))?;
        Ok(Self(texts))
    }

    fn render(&self, event: &Event, merchant: &str, outlet: Option<&str>) -> Result<String, String> {
        let context = context! { merchant, outlet, event => minijinja::value::Serde(event) };
        let rendered = self.0.get_template("payload").and_then(|template| template.render(context));
        let rendered = rendered.map_err(|error| format!("cannot be made: {error}"))?;
        serde_json::from_str::<&serde_json::value::RawValue>(rendered.trim())
            .map_err(|error| format!("is no JSON for an event `{}`: {error}", event.kind))?;
        Ok(rendered.trim().to_owned())
    }
}

impl Endpoint {
    /// Of a stored row; the error names the endpoint.
    pub(crate) fn open(row: SetupRow, merchant: Id, vault: &Vault) -> Result<Self, (Id, String)> {
        let id = row.id;
        Self::of(row, merchant, vault).map_err(|why| (id, why))
    }

    fn of(row: SetupRow, merchant: Id, vault: &Vault) -> Result<Self, String> {
        let hidden = Hidden::open(&row, vault)?;
        let doc: EndpointDoc = serde_json::from_value(row.doc).map_err(|error| error.to_string())?;
        let keys = doc.keys.iter().map(|key| Ok((key.clone(), hidden.key(key.id)?)));
        let keys: Vec<(KeyDoc, SigningKey)> = keys.collect::<Result<_, String>>()?;
        let rule = &doc.rule;
        let query: Vec<(String, String)> = reqwest::Url::parse(&rule.url)
            .map(|url| url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
            .unwrap_or_default();
        let masks = hidden.keys.values().map(|(secret, _)| secret.as_str());
        let masks = masks.chain(hidden.headers.values().map(String::as_str)).chain(query.iter().map(|(_, value)| value.as_str()));
        let masks = Masks::new(masks);
        let rates =
            rule.rate.as_ref().map_or_else(Rates::default, |rate| Rates { calls: Some(rate.calls), period_s: rate.period_s });
        Ok(Self {
            link: Arc::new(Link::to_endpoint(row.id, row.slug, merchant, rule.paused, rates, masks)),
            filter: rule.program()?,
            template: rule.template.as_deref().map(Template::new).transpose()?,
            receiver: Receiver {
                timeout: Duration::from_millis(u64::from(rule.timeout_ms)),
                headers: hidden.headers.iter().map(|(name, value)| (name.clone(), Secret::new(value.as_str()))).collect(),
            },
            header_names: hidden.headers.into_keys().collect(),
            keys,
            doc,
        })
    }

    pub fn id(&self) -> Id {
        self.link.id
    }

    pub fn slug(&self) -> &str {
        &self.link.slug
    }

    pub fn merchant(&self) -> Id {
        self.link.merchant
    }

    /// Whether nothing goes to it until a person enables it.
    pub fn is_disabled(&self) -> bool {
        self.doc.disabled.is_some()
    }

    /// Why nothing goes to it any more.
    fn closed(&self) -> Option<&'static str> {
        self.doc.disabled.is_some().then_some("endpoint_disabled")
    }

    /// Whether it wants an event: by its type, and by its filter.
    fn wants(&self, event: &Event) -> Result<bool, String> {
        if !self.listens(event) {
            return Ok(false);
        }
        let Some(filter) = &self.filter else { return Ok(true) };
        match flow::judge(filter, event) {
            Ok(cel::Value::Bool(met)) => Ok(met),
            Ok(other) => Err(format!("its filter gives {other:?}, not true or false")),
            Err(error) => Err(format!("its filter cannot be judged: {error}")),
        }
    }

    fn listens(&self, event: &Event) -> bool {
        self.doc.rule.events.iter().any(|pattern| rule::matches(pattern, &event.kind))
    }

    /// Whether it is told of any event about points.
    pub(crate) fn hears_of_points(&self) -> bool {
        let kinds = event::kind::ALL.iter().filter(|kind| kind.starts_with(LOYALTY));
        kinds.into_iter().any(|kind| self.doc.rule.events.iter().any(|pattern| rule::matches(pattern, kind)))
    }

    /// Whether it asks for such events by a name that means few others: what it gets with all the rest is not made for it alone.
    pub(crate) fn names(&self, kind: &str) -> bool {
        self.doc.rule.events.iter().any(|pattern| pattern != "*" && rule::matches(pattern, kind))
    }

    /// The body for an event, and its media type.
    fn payload(&self, world: &World, event: &Event) -> Result<(Vec<u8>, &'static str), String> {
        let (merchant, outlet) = world.slugs(event);
        let (body, kind) = match &self.template {
            Some(template) => {
                let body = template.render(event, merchant, outlet).map_err(|why| format!("its payload {why}"))?;
                (body.into_bytes(), "application/json")
            }
            None => {
                let whole = CloudEvent::of(event, merchant, outlet);
                let body = whole.to_json();
                let body = if body.len() > BODY_BYTES_MAX { whole.cut().to_json() } else { body };
                (body, cloudevent::CONTENT_TYPE)
            }
        };
        if body.len() > BODY_BYTES_MAX {
            return Err(format!("its payload has more than {BODY_BYTES_MAX} bytes"));
        }
        Ok((body, kind))
    }

    /// The keys that sign now, the newest first.
    fn signing(&self, now: Timestamp) -> Vec<&(KeyDoc, SigningKey)> {
        self.keys.iter().filter(|(key, _)| key.until.is_none_or(|until| now < until)).collect()
    }

    /// A signed request that carries an event.
    fn request(&self, world: &World, event: &Event, now: Timestamp) -> Result<Outgoing, String> {
        let (body, content_type) = self.payload(world, event)?;
        let (id, timestamp_s) = (event.id.to_string(), now.as_second());
        let signing = self.signing(now);
        let keys: Vec<&SigningKey> = signing.iter().map(|(_, key)| key).collect();
        let mut outgoing = Outgoing::new("POST", self.doc.rule.url.as_str())
            .header("content-type", content_type)
            .header("webhook-id", id.as_str())
            .header("webhook-timestamp", timestamp_s.to_string())
            .header("webhook-signature", webhook::signatures(keys, &id, timestamp_s, &body));
        // One signature only fits here: whoever does not know the newer key yet must be able to verify it.
        if let Some((doc, key)) = signing.last()
            && (self.doc.rule.loyalty_signature || event.kind.starts_with(LOYALTY))
        {
            outgoing = outgoing
                .header("x-loyalty-signature", key.loyalty(timestamp_s, &body))
                .header("x-signature-timestamp", timestamp_s.to_string())
                .header("x-signature-key-id", doc.told())
                .header("x-merchant-id", event.merchant.to_string())
                .header("x-event-id", id);
        }
        outgoing.body = body.into();
        Ok(outgoing.reads())
    }

    /// The command by which an event gets there.
    pub(crate) fn command(&self, event: &Event, after_look_up: bool, now: Timestamp) -> NewCommand {
        let id = Id::new(Kind::Command);
        let ordering_key = match self.doc.rule.order {
            Order::PerSubject => format!("{}/{}/{}", self.link.id, event.connection, event.subject),
            Order::None => format!("{}/{id}", self.link.id),
        };
        let command = Command {
            id,
            merchant: event.merchant,
            connection: self.link.id,
            flow: None,
            event: Some(event.id),
            job: Job::Deliver { after_look_up },
            due_at: now,
            latest_at: None,
            source: event.connection,
            attempts: 0,
            contact: Contact::default(),
            lease: 0,
            trace: event.trace.clone(),
        };
        // What calls a subject off does not call off the news of it.
        let subject = format!("webhook/{}", event.id);
        NewCommand { command, ordering_key, subject, held: self.closed().map(str::to_owned), slot: None }
    }
}

/// The commands by which a new event gets to the endpoints that want it. Where it is still being looked up, filters judge
/// when that has ended.
pub(crate) fn told(world: &World, new: &NewEvent, now: Timestamp, notes: &mut Vec<String>) -> Vec<NewCommand> {
    let mut commands = Vec::new();
    for endpoint in world.endpoints_of(new.event.merchant) {
        let wants = if new.pending { Ok(endpoint.listens(&new.event)) } else { endpoint.wants(&new.event) };
        match wants {
            Ok(true) => commands.push(endpoint.command(&new.event, new.pending, now)),
            Ok(false) => {}
            Err(why) => notes.push(format!("endpoint {}: {why}", endpoint.slug())),
        }
    }
    commands
}

/// Whether any endpoint of the merchant is told of such an event.
pub(crate) fn wanted(world: &World, event: &Event) -> bool {
    world.endpoints_of(event.merchant).any(|endpoint| endpoint.listens(event))
}
