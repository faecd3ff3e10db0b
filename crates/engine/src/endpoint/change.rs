//! What a person, the API or the hub itself does with an endpoint: show, create, change, rotate, disable, enable, remove, test,
//! recover.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_model::{
    Event, Id, Secret,
    check::Fault,
    id::Kind,
    webhook::{PROVIDER_ID, SigningKey},
};
use uzel_store::{Change, CommandFilter, CommandState, Notice, Setup, SetupRow, StoreError};

use super::{Disabled, Endpoint, EndpointDoc, EndpointRule, Hidden, KeyDoc};
use crate::{
    Engine,
    outward::Call,
    setup::{Leniency, TURN_HOLD, Unchanged},
    tick, trial,
};

/// How long the older key signs beside a new one.
pub(crate) const OVERLAP: SignedDuration = SignedDuration::from_hours(24);
const OVERLAP_MAX_S: u32 = 30 * 86_400;
/// Events looked at in one go, and in one request, when webhooks are recovered.
const PORTION: usize = 500;
const RECOVERED_MAX: u64 = 50_000;
/// The type of the event that a test sends.
const PING: &str = "test.ping";

/// A signing key as it is shown: the secret once, when it was made.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct EndpointKey {
    /// As `X-Signature-Key-Id` names it.
    #[schemars(with = "String")]
    pub id: Id,
    /// For `v1`: `whsec_…`.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub secret: Option<Secret>,
    /// For `v1a`: `whpk_…`.
    pub public_key: String,
    /// When it was made.
    #[schemars(with = "String")]
    pub made_at: Timestamp,
    /// Until when it signs beside the newer one.
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
}

/// The one place where a secret is told: to whoever had it made.
fn shown<S: serde::Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

/// An endpoint as it is shown.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct EndpointView {
    /// Its id.
    #[schemars(with = "String")]
    pub id: Id,
    /// Its unique name.
    pub slug: String,
    /// Whose it is.
    #[schemars(with = "String")]
    pub merchant: Id,
    /// The same, by its slug.
    pub merchant_slug: String,
    /// The values of its URL's query are masked.
    #[serde(flatten)]
    pub rule: EndpointRule,
    /// Names of its own headers.
    pub headers: Vec<String>,
    /// The keys that sign now, the newest first.
    pub keys: Vec<EndpointKey>,
    /// Why nothing goes to it until a person enables it.
    pub disabled: Option<Disabled>,
    /// Since when nothing gets there, and why.
    pub failing: Option<Failing>,
    /// When it was set up.
    #[schemars(with = "String")]
    pub made_at: Timestamp,
}

/// Since when its calls fail, and why: until one succeeds it gets one at a time.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Failing {
    /// Since when.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// Why the last one did not get there.
    pub reason: String,
}

/// A new signing key.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "overlap_s": 86400 }))]
pub struct RotateRequest {
    /// A secret of your own (`whsec_` and 24 to 64 bytes in base64); else the hub makes one.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// How long the older key signs too, in seconds; a day if not set.
    #[serde(default)]
    pub overlap_s: Option<u32>,
}

/// What an endpoint did with a test.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TestOutcome {
    /// Whether it was taken.
    pub delivered: bool,
    /// `webhook-id` of what was sent.
    pub webhook_id: String,
    /// What it answered: status and body, cut and masked as in the journal.
    pub answer: String,
    /// What was wrong.
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: i64,
    /// The exchange in the journal.
    #[schemars(with = "Option<String>")]
    pub exchange: Option<Id>,
}

/// What was queued again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Recovered {
    /// How many events were looked at.
    pub events: u64,
    /// How many are sent again.
    pub queued: u64,
    /// There is more than one request looks at: ask again from here.
    #[schemars(with = "Option<String>")]
    pub more_since: Option<Timestamp>,
}

impl Endpoint {
    /// As the API and the command line show it: no secret, and no value of a query or a header.
    pub fn view(&self, engine: &Engine) -> EndpointView {
        let slug = engine.world().merchants.get(&self.link.merchant).map(|(slug, _)| slug.clone());
        let url = self.link.without_secrets(&self.doc.rule.url);
        EndpointView {
            id: self.link.id,
            slug: self.link.slug.clone(),
            merchant: self.link.merchant,
            merchant_slug: slug.unwrap_or_default(),
            rule: EndpointRule { url, ..self.doc.rule.clone() },
            headers: self.header_names.clone(),
            keys: self.keys_at(engine.clock.now(), false),
            disabled: self.doc.disabled.clone(),
            failing: engine.open_breaker(self.link.id).map(|open| Failing { since: open.since, reason: open.reason }),
            made_at: self.doc.made_at,
        }
    }

    fn keys_at(&self, now: Timestamp, with_secrets: bool) -> Vec<EndpointKey> {
        let keys = self.signing(now).into_iter();
        keys.map(|(doc, key)| EndpointKey {
            id: doc.id,
            secret: with_secrets.then(|| key.secret().clone()),
            public_key: key.public(),
            made_at: doc.made_at,
            until: doc.until,
        })
        .collect()
    }
}

impl EndpointDoc {
    /// Puts a new key first; the one before it signs until then, and older ones no more.
    pub(crate) fn rotate(&mut self, hidden: &mut Hidden, secret: Option<&Secret>, now: Timestamp, overlap: SignedDuration) {
        let id = hidden.add_key(secret);
        self.keys.truncate(1);
        self.keys.iter_mut().for_each(|key| key.until = now.saturating_add(overlap).ok());
        self.keys.retain(|_| !overlap.is_zero());
        self.keys.insert(0, KeyDoc::new(id, now));
        hidden.keys.retain(|id, _| self.keys.iter().any(|key| key.id == *id));
    }
}

impl Engine {
    /// An endpoint by its id, or by its slug where only one merchant of those that are seen has it.
    pub fn endpoint(&self, id_or_slug: &str, merchant: Option<Id>) -> Option<Arc<Endpoint>> {
        let world = self.world();
        let all = world.all_endpoints().into_iter();
        let mut found = all
            .filter(|endpoint| merchant.is_none_or(|own| own == endpoint.merchant()))
            .filter(|endpoint| endpoint.slug() == id_or_slug || endpoint.id().to_string() == id_or_slug);
        let first = found.next()?;
        found.next().is_none().then(|| first.clone())
    }

    /// Sets an endpoint up, as a setup file would; gives it with its key, whose secret is shown this once.
    pub async fn create_endpoint(
        self: &Arc<Self>,
        part: Value,
        by: &str,
    ) -> Result<Result<EndpointView, Vec<Fault>>, StoreError> {
        let merchant = part["merchant"].as_str().and_then(|name| self.world().merchant(name));
        let slug = part["slug"].as_str().unwrap_or_default().to_owned();
        let there = |engine: &Self| merchant.and_then(|merchant| engine.endpoint(&slug, Some(merchant)));
        if there(self).is_some() {
            return Ok(Err(vec![Fault::new("/slug", format!("`{slug}` is there already: change it, or take another name"))]));
        }
        if let Err(faults) = self.put_endpoint(part, merchant, by).await? {
            return Ok(Err(faults));
        }
        let made = there(self).ok_or_else(|| StoreError::Failed("the endpoint is gone already".to_owned()))?;
        let mut view = made.view(self);
        view.keys = made.keys_at(self.clock.now(), true);
        Ok(Ok(view))
    }

    /// Changes what the patch names (a merge patch), where it still has this version, if one is named; headers that are not named
    /// stay, unless the URL moves to another host.
    pub async fn change_endpoint(
        self: &Arc<Self>,
        id: Id,
        patch: Value,
        version: Option<i64>,
        by: &str,
    ) -> Result<EndpointView, Unchanged> {
        let stored = self.store.setup().await?.rows.into_iter().find(|row| row.id == id);
        let row = stored.ok_or(Unchanged::Missing)?;
        if version.is_some_and(|version| version != row.version) {
            return Err(Unchanged::Changed);
        }
        let hidden = Hidden::open(&row, &self.vault).map_err(StoreError::Failed)?;
        let doc: EndpointDoc = serde_json::from_value(row.doc).map_err(|error| StoreError::Failed(error.to_string()))?;
        let mut part = json!(doc.rule);
        let own = json!({ "merchant": row.merchant.map(|merchant| merchant.to_string()), "slug": row.slug });
        let host = |url: &str| reqwest::Url::parse(url).ok().map(|url| url.origin());
        let moved = patch["url"].as_str().is_some_and(|url| host(url) != host(&doc.rule.url));
        for (name, value) in patch.as_object().into_iter().flatten().chain(own.as_object().into_iter().flatten()) {
            if value.is_null() {
                part.as_object_mut().map(|part| part.remove(name))
            } else {
                part.as_object_mut().map(|part| part.insert(name.clone(), value.clone()))
            };
        }
        if patch.get("headers").is_none() && !moved {
            part["headers"] = json!(hidden.headers);
        }
        self.put_endpoint(part, row.merchant, by).await?.map_err(Unchanged::Faults)?;
        let changed = self.world().endpoints.get(&id).map(|endpoint| endpoint.view(self));
        changed.ok_or(Unchanged::Missing)
    }

    /// By the road that setup files take, with the merchant by its slug and faults told of the request itself.
    async fn put_endpoint(
        self: &Arc<Self>,
        mut part: Value,
        merchant: Option<Id>,
        by: &str,
    ) -> Result<Result<(), Vec<Fault>>, StoreError> {
        if let Some((slug, _)) = merchant.and_then(|merchant| self.world().merchants.get(&merchant).cloned()) {
            part["merchant"] = json!(slug);
        }
        let applied = self.apply_as(by, &json!({ "endpoint": [part] }), Leniency::default()).await?;
        Ok(applied.map(drop).map_err(|faults| {
            let own = |fault: Fault| Fault::new(fault.pointer.trim_start_matches("/endpoint/0"), fault.detail);
            faults.into_iter().map(own).collect()
        }))
    }

    /// Puts a new signing key first, and shows its secret this once. The one before it signs for a while beside it.
    pub async fn rotate_endpoint(
        self: &Arc<Self>,
        id: Id,
        request: RotateRequest,
        by: &str,
    ) -> Result<Result<EndpointKey, Vec<Fault>>, StoreError> {
        if let Some(Err(why)) = request.secret.as_ref().map(|secret| SigningKey::new(secret.clone(), &[0; 32])) {
            return Ok(Err(vec![Fault::new("/secret", why)]));
        }
        let overlap_s = request.overlap_s.unwrap_or(OVERLAP.as_secs() as u32);
        if overlap_s > OVERLAP_MAX_S {
            return Ok(Err(vec![Fault::new("/overlap_s", format!("may be {OVERLAP_MAX_S} at the most"))]));
        }
        let now = self.clock.now();
        let overlap = SignedDuration::from_secs(overlap_s.into());
        self.alter(id, by, "endpoint.rotate", move |doc, hidden| doc.rotate(hidden, request.secret.as_ref(), now, overlap))
            .await?;
        let rotated = self.world().endpoints.get(&id).and_then(|endpoint| endpoint.keys_at(now, true).into_iter().next());
        rotated.map(Ok).ok_or_else(|| StoreError::Failed("the endpoint is gone".to_owned()))
    }

    /// Nothing goes to it any more, until a person enables it: what waits is held back. The person is told first, since of two
    /// writes the second may not come.
    pub(crate) async fn close_endpoint(self: &Arc<Self>, notice: Notice, disabled: Disabled) -> Result<(), StoreError> {
        let id = notice.connection;
        tracing::warn!(endpoint.id = %id, "an endpoint is disabled: {}", disabled.reason);
        self.store.apply(Change { notices: vec![notice], now: Some(disabled.at), ..Change::default() }).await?;
        self.alter(id, "hub", "endpoint.disable", move |doc, _| doc.disabled = doc.disabled.take().or(Some(disabled))).await
    }

    /// Webhooks go to it again, from now on. What was held back meanwhile stays so until it is recovered.
    pub async fn enable_endpoint(self: &Arc<Self>, id: Id, by: &str) -> Result<(), StoreError> {
        self.close_breaker(id).await?;
        self.alter(id, by, "endpoint.enable", |doc, _| doc.disabled = None).await
    }

    /// Takes it away: its secrets go, and what waits for it is held back.
    pub async fn remove_endpoint(self: &Arc<Self>, id: Id, version: Option<i64>, by: &str) -> Result<(), Unchanged> {
        self.remove(id, version, by).await
    }

    /// Changes a stored endpoint, alone.
    pub(super) async fn alter(
        self: &Arc<Self>,
        id: Id,
        by: &str,
        action: &'static str,
        change: impl FnOnce(&mut EndpointDoc, &mut Hidden) + Send + 'static,
    ) -> Result<(), StoreError> {
        let (engine, by) = (self.clone(), by.to_owned());
        let work = async move {
            let _alone = engine.changing.lock().await;
            let taken = engine.take_soon("setup", TURN_HOLD, TURN_HOLD).await?.ok_or(StoreError::Busy)?;
            let done = engine.alter_stored(id, &by, action, change).await;
            engine.give_back(taken).await;
            done
        };
        self.to_the_end(work).await.map_err(StoreError::Failed)?
    }

    async fn alter_stored(
        &self,
        id: Id,
        by: &str,
        action: &str,
        change: impl FnOnce(&mut EndpointDoc, &mut Hidden),
    ) -> Result<(), StoreError> {
        let unreadable = |error: serde_json::Error| StoreError::Failed(error.to_string());
        let setup = self.store.setup().await?;
        let Some(row) = setup.rows.iter().find(|row| row.id == id).cloned() else { return Ok(()) };
        let mut hidden = Hidden::open(&row, &self.vault).map_err(StoreError::Failed)?;
        let mut doc: EndpointDoc = serde_json::from_value(row.doc.clone()).map_err(unreadable)?;
        change(&mut doc, &mut hidden);
        let sealed = self.seal_row(&setup, &row, json!(hidden)).await?;
        let audit = vec![self.audit_row(by, action, row.merchant, id, json!({ "slug": row.slug }))];
        let row = SetupRow { doc: json!(doc), sealed, ..row };
        self.store.put_setup(Setup { rows: vec![row], audit, ..Setup::default() }).await?;
        self.use_stored(&[]).await
    }

    /// Sends a test at once, whatever its filter says, and tells what it answered. A type of event gives a sample of that.
    pub async fn test_endpoint(self: &Arc<Self>, endpoint: &Arc<Endpoint>, kind: Option<String>) -> Result<TestOutcome, String> {
        let (engine, own) = (self.clone(), endpoint.clone());
        self.asked(&endpoint.link, async move { engine.test(&own, kind.as_deref().unwrap_or(PING)).await }).await
    }

    async fn test(&self, endpoint: &Endpoint, kind: &str) -> Result<TestOutcome, String> {
        let now = self.clock.now();
        let event = Event {
            merchant: endpoint.merchant(),
            connection: endpoint.id(),
            provider: PROVIDER_ID.to_owned(),
            outlet: None,
            subject: format!("test/{}", endpoint.slug()),
            key: format!("test/{now}"),
            at: now,
            trace: tick::new_trace(),
            data: json!({ "test": true }),
            ..trial::sample(kind)
        };
        let outgoing = endpoint.request(&self.world(), &event, now)?;
        let call = Call::new(self, &endpoint.link, &event.trace).received_by(&endpoint.receiver);
        let answered = call.deliver(&outgoing).await;
        let mut exchanges = call.into_exchanges();
        let delivered = answered.as_ref().is_ok_and(|reply| (200..300).contains(&reply.status));
        if let (false, Some(last)) = (delivered, exchanges.last_mut()) {
            last.error.get_or_insert_with(|| "it was not taken".to_owned());
        }
        let exchange = exchanges.last().cloned();
        let change = Change { exchanges, now: Some(now), ..Change::default() };
        self.store.apply(change).await.map_err(|error| error.to_string())?;
        Ok(TestOutcome {
            delivered,
            webhook_id: event.id.to_string(),
            error: exchange
                .as_ref()
                .and_then(|exchange| exchange.error.clone())
                .or(answered.err().map(|error| error.to_string())),
            duration_ms: exchange.as_ref().map_or(0, |exchange| exchange.duration_ms),
            exchange: exchange.as_ref().map(|exchange| exchange.id),
            answer: exchange.map_or_else(String::new, |exchange| exchange.response),
        })
    }

    /// Queues again what was told to the hub since then and never got there; with `all`, everything that the endpoint wants.
    pub async fn recover_endpoint(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        since: Timestamp,
        all: bool,
    ) -> Result<Recovered, StoreError> {
        let (engine, own) = (self.clone(), endpoint.clone());
        self.to_the_end(async move { engine.recover(&own, since, all).await }).await.map_err(StoreError::Failed)?
    }

    /// Sends one event to an endpoint again, unless it got there or is on its way; tells whether it was queued.
    pub async fn redeliver(self: &Arc<Self>, endpoint: &Endpoint, event: &Event) -> Result<bool, StoreError> {
        let filter = CommandFilter {
            merchant: Some(endpoint.merchant()),
            connection: Some(endpoint.id()),
            state: None,
            event: Some(event.id),
            from: None,
            to: None,
            before: None,
            limit: PORTION,
        };
        let sent = self.store.commands(filter).await?;
        if sent.iter().any(|(_, sent)| !matches!(sent.state, CommandState::Dead | CommandState::Held | CommandState::Unknown)) {
            return Ok(false);
        }
        let now = self.clock.now();
        let commands = vec![endpoint.command(event, false, now)];
        self.store.apply(Change { commands, now: Some(now), ..Change::default() }).await?;
        self.due.notify_one();
        Ok(true)
    }

    async fn recover(&self, endpoint: &Endpoint, since: Timestamp, all: bool) -> Result<Recovered, StoreError> {
        let mut recovered = Recovered::default();
        let mut after = Id::least(Kind::Event, since.saturating_sub(SignedDuration::from_millis(1)).unwrap_or(since));
        loop {
            let portion = self.store.told_to(endpoint.merchant(), endpoint.id(), after, PORTION).await?;
            let Some((last, _)) = portion.last() else { return Ok(recovered) };
            after = last.id;
            recovered.events += portion.len() as u64;
            let now = self.clock.now();
            let wanted = portion.iter().filter(|(event, states)| {
                let lost =
                    !states.is_empty() && states.iter().all(|state| matches!(state, CommandState::Dead | CommandState::Held));
                let on_its_way = states.iter().any(|state| matches!(state, CommandState::Waiting | CommandState::Sending));
                lost || all && !on_its_way && endpoint.wants(event).unwrap_or_default()
            });
            let commands: Vec<_> = wanted.map(|(event, _)| endpoint.command(event, false, now)).collect();
            recovered.queued += commands.len() as u64;
            if !commands.is_empty() {
                self.store.apply(Change { commands, now: Some(now), ..Change::default() }).await?;
                self.due.notify_one();
            }
            if recovered.events >= RECOVERED_MAX {
                recovered.more_since = Some(Timestamp::from_millisecond(after.ordinal() >> 12).unwrap_or(since));
                return Ok(recovered);
            }
        }
    }
}
