//! What is set up, as the loops use it: read-only, replaced whole when something changes.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use jiff::{Timestamp, tz::TimeZone};
use parking_lot::RwLock;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uzel_model::{
    Connector, Event, Id, Provider, Secret,
    endpoint::{self, Receiver},
    id::Kind,
    port::Session,
};
use uzel_store::Setup;

use crate::{
    Endpoint, Vault,
    bridge::{self, Issued},
    flow::{Flow, FlowDoc},
    keys::ApiKey,
    loyalty::{self, LoyaltyProgramme},
    masks::Masks,
    recipient::{
        Recipient,
        device::{self, Devices},
    },
    review::Maps,
    target::Target,
    watch,
};

/// A business.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Merchant {
    pub name: String,
    pub language: String,
    /// Country for phones without a code, two letters.
    pub country: String,
    /// Entries are kept so long, if that is shorter than what the hub keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u32>,
}

/// One of its points of sale.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outlet {
    pub name: String,
    pub zone: String,
    pub country: String,
    pub pos_type: String,
    /// When its till was last heard of.
    #[serde(default)]
    pub pos_seen_at: Option<Timestamp>,
    #[serde(default)]
    pub bridge: Issued,
    /// Where it stands, as people write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Not shown to customers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// A mark for people: its till works on, as the points platform has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inactive: bool,
    /// Its pages on maps.
    #[serde(default, skip_serializing_if = "Maps::is_empty")]
    pub maps: Maps,
}

/// A connection as stored: settings without their secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LinkDoc {
    pub provider: String,
    pub outlet: Option<Id>,
    pub settings: Map<String, Value>,
    pub paused: bool,
    /// Reads what was missed, on a schedule.
    pub poll: bool,
    /// From when on polls read; without it from the first poll on.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// When it was set up: what polls bring from before makes no messages.
    #[serde(default)]
    pub made_at: Option<Timestamp>,
    /// People are told when less money than that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_balance: Option<String>,
}

/// A connection, ready to be used.
#[derive(Debug)]
pub struct Link {
    pub id: Id,
    pub slug: String,
    pub merchant: Id,
    pub provider: &'static Provider,
    pub connector: Box<dyn Connector>,
    pub outlet: Option<Id>,
    pub outlet_name: String,
    pub zone: TimeZone,
    pub country: String,
    pub paused: bool,
    pub poll: bool,
    /// From when on polls read; without it from the first poll on.
    pub since: Option<Timestamp>,
    /// When it was set up.
    pub made_at: Timestamp,
    /// People are told when less money than that is left.
    pub(crate) low_balance: Option<Decimal>,
    /// Where its calls go.
    pub(crate) target: Target,
    /// Every secret of the settings and the key in the URL that we register, to be taken out of what is journalled.
    masks: Masks,
    /// What its login gave: of the newest, and of the one before, which a provider may still complain of.
    tokens: RwLock<VecDeque<(Session, Masks)>>,
}

impl Link {
    /// An endpoint, as the client sees it.
    pub(crate) fn to_endpoint(id: Id, slug: String, merchant: Id, paused: bool, receiver: Receiver, masks: Masks) -> Self {
        Self {
            id,
            slug,
            merchant,
            provider: &endpoint::PROVIDER,
            connector: Box::new(receiver),
            outlet: None,
            outlet_name: String::new(),
            zone: TimeZone::UTC,
            country: String::new(),
            paused,
            poll: false,
            since: None,
            made_at: Timestamp::UNIX_EPOCH,
            low_balance: None,
            target: Target::new(&endpoint::PROVIDER, &Map::new()),
            masks,
            tokens: RwLock::default(),
        }
    }

    /// A text without any secret of the connection.
    pub(crate) fn without_secrets(&self, text: &str) -> String {
        let tokens = self.tokens.read();
        tokens.iter().fold(self.masks.apply(text), |text, (_, masks)| masks.apply(&text))
    }

    /// From now on what this login gave is secret too.
    pub(crate) fn hide(&self, session: &Session) {
        fn parts(session: &Session) -> impl Iterator<Item = &str> {
            [Some(&session.access), session.refresh.as_ref()].into_iter().flatten().map(Secret::expose)
        }
        if self.tokens.read().front().is_some_and(|(known, _)| parts(known).eq(parts(session))) {
            return;
        }
        let masks = Masks::new(parts(session));
        let mut tokens = self.tokens.write();
        tokens.push_front((session.clone(), masks));
        tokens.truncate(2);
    }
}

/// Where an event comes from, as flows see it.
#[derive(Debug, Clone)]
pub(crate) struct Origin<'a> {
    pub(crate) zone: Cow<'a, TimeZone>,
    pub(crate) outlet_name: &'a str,
    /// Of the connection.
    pub(crate) slug: &'a str,
}

impl<'a> Origin<'a> {
    pub(crate) fn of(link: &'a Link) -> Self {
        Self { zone: Cow::Borrowed(&link.zone), outlet_name: &link.outlet_name, slug: &link.slug }
    }
}

/// A row as stored, for people.
#[derive(Debug, Clone)]
pub struct Stored {
    pub merchant: Option<Id>,
    pub slug: String,
    pub doc: Value,
    /// Names of secrets that are set.
    pub secrets: Vec<String>,
    pub version: i64,
}

/// All that is set up.
#[derive(Debug, Default)]
pub struct World {
    /// The hub's own address, below which short links lie.
    pub(crate) public_url: Option<String>,
    pub merchants: HashMap<Id, (String, Merchant)>,
    pub outlets: HashMap<Id, (Id, String, Outlet)>,
    /// Merchants by their slugs, and outlets by merchant and slug: looked up for every question of a till.
    merchant_slugs: HashMap<String, Id>,
    outlet_slugs: HashMap<Id, HashMap<String, Id>>,
    pub links: HashMap<Id, Arc<Link>>,
    pub flows: HashMap<Id, Arc<Flow>>,
    /// Those that were taken away among them, as long as something may still wait for them.
    pub(crate) endpoints: HashMap<Id, Arc<Endpoint>>,
    endpoints_of: HashMap<Id, Vec<Arc<Endpoint>>>,
    /// In the order in which they were set up.
    recipients: Vec<Arc<Recipient>>,
    /// By merchant.
    programmes: HashMap<Id, Arc<LoyaltyProgramme>>,
    /// Of outlets, current and next.
    bridge_secrets: HashMap<Id, Vec<Secret>>,
    /// Flows by their merchant, and connections by merchant and slug: looked up for every event.
    flows_of: HashMap<Id, Vec<Arc<Flow>>>,
    links_of: HashMap<Id, HashMap<String, Arc<Link>>>,
    /// Connections and flows that cannot be used as they are stored, and why.
    pub broken: Vec<(Id, String)>,
    /// Headers in which each provider puts secrets.
    credential_headers: HashMap<&'static str, &'static [&'static str]>,
    webhook_keys: HashMap<Vec<u8>, (Id, String)>,
    api_keys: HashMap<Vec<u8>, ApiKey>,
    /// Rows as stored, without their secrets, and the names of those.
    pub rows: HashMap<Id, Stored>,
}

impl World {
    pub(crate) fn build(setup: Setup, providers: &'static [Provider], vault: &Vault) -> Self {
        let mut world = Self::default();
        for row in setup.rows.iter() {
            world.rows.insert(
                row.id,
                Stored {
                    merchant: row.merchant,
                    slug: row.slug.clone(),
                    doc: row.doc.clone(),
                    secrets: secret_names(row, vault),
                    version: row.version,
                },
            );
            match row.id.kind() {
                Kind::Merchant => {
                    if let Ok(merchant) = serde_json::from_value(row.doc.clone()) {
                        world.merchant_slugs.insert(row.slug.clone(), row.id);
                        world.merchants.insert(row.id, (row.slug.clone(), merchant));
                    }
                }
                Kind::Outlet => {
                    if let (Some(merchant), Ok(outlet)) = (row.merchant, serde_json::from_value(row.doc.clone())) {
                        world.outlet_slugs.entry(merchant).or_default().insert(row.slug.clone(), row.id);
                        world.outlets.insert(row.id, (merchant, row.slug.clone(), outlet));
                    }
                    match bridge::secrets(row, vault) {
                        Ok(secrets) => drop(world.bridge_secrets.insert(row.id, secrets)),
                        Err(why) => world.broken.push((row.id, why)),
                    }
                }
                _ => {}
            }
        }
        for row in setup.rows {
            let Some(merchant) = row.merchant else { continue };
            match row.id.kind() {
                Kind::Connection => match world.link(row.id, merchant, row.slug, row.doc, row.sealed, providers, vault) {
                    Ok(link) => {
                        world.credential_headers.insert(link.provider.id, link.connector.credential_headers());
                        let link = Arc::new(link);
                        world.links_of.entry(merchant).or_default().insert(link.slug.clone(), link.clone());
                        world.links.insert(row.id, link);
                    }
                    Err(why) => {
                        tracing::error!(connection.id = %row.id, "a connection cannot be used: {why}");
                        world.broken.push((row.id, why));
                    }
                },
                Kind::Flow => {
                    let flow = serde_json::from_value::<FlowDoc>(row.doc)
                        .map_err(|error| error.to_string())
                        .and_then(|doc| Flow::new(row.id, merchant, row.slug, doc));
                    match flow {
                        Ok(flow) => {
                            let flow = Arc::new(flow);
                            world.flows_of.entry(merchant).or_default().push(flow.clone());
                            world.flows.insert(row.id, flow);
                        }
                        Err(why) => world.broken.push((row.id, why)),
                    }
                }
                Kind::Recipient => match Recipient::new(
                    row.id,
                    merchant,
                    row.slug,
                    row.doc,
                    devices(row.id, merchant, row.sealed.as_deref(), vault),
                ) {
                    Ok(recipient) => world.recipients.push(Arc::new(recipient)),
                    Err(why) => world.broken.push((row.id, why)),
                },
                Kind::Programme => match LoyaltyProgramme::open(row, merchant, world.zone_of(merchant), vault) {
                    Ok(programme) => drop(world.programmes.insert(merchant, Arc::new(programme))),
                    Err(broken) => world.broken.push(broken),
                },
                Kind::Endpoint => match Endpoint::open(row, merchant, vault) {
                    Ok(endpoint) => {
                        let endpoint = Arc::new(endpoint);
                        world.endpoints_of.entry(merchant).or_default().push(endpoint.clone());
                        world.endpoints.insert(endpoint.link.id, endpoint);
                    }
                    Err((id, why)) => {
                        tracing::error!(endpoint.id = %id, "an endpoint cannot be used: {why}");
                        world.broken.push((id, why));
                    }
                },
                _ => {}
            }
        }
        for key in setup.keys {
            match (key.webhook, key.of) {
                (true, Some(connection)) => {
                    world.webhook_keys.insert(key.hash, (connection, key.id));
                }
                (true, None) => {}
                (false, _) => {
                    world.api_keys.insert(key.hash.clone(), ApiKey::new(&key));
                }
            }
        }
        world
    }

    /// The same for a hub with this address.
    pub(crate) fn at(self, public_url: Option<String>) -> Self {
        Self { public_url, ..self }
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of one row, taken apart once")]
    fn link(
        &self,
        id: Id,
        merchant: Id,
        slug: String,
        doc: Value,
        sealed: Option<Vec<u8>>,
        providers: &'static [Provider],
        vault: &Vault,
    ) -> Result<Link, String> {
        let doc: LinkDoc = serde_json::from_value(doc).map_err(|error| error.to_string())?;
        let provider = providers
            .iter()
            .find(|provider| provider.id == doc.provider)
            .ok_or_else(|| format!("this program knows no provider `{}`", doc.provider))?;
        let target = Target::new(provider, &doc.settings);
        let mut settings = doc.settings;
        let hook_key = vault.hook_key(id.as_bytes());
        let mut secrets = vec![Secret::new(hook_key.expose())];
        if let Some(sealed) = sealed {
            let hidden =
                vault.unseal_settings(merchant, id, &sealed).map_err(|error| format!("its secrets cannot be read: {error}"))?;
            secrets.extend(hidden.values().filter_map(Value::as_str).map(Secret::new));
            settings.extend(hidden);
        }
        let connector = provider.open(Value::Object(settings)).map_err(|faults| {
            faults.iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect::<Vec<_>>().join("; ")
        })?;
        secrets.extend(connector.made_secrets());
        let masks = Masks::new(secrets.iter().map(Secret::expose));
        let outlet = doc.outlet.and_then(|outlet| self.outlets.get(&outlet));
        let country = outlet
            .map(|(_, _, outlet)| outlet.country.clone())
            .or_else(|| self.merchants.get(&merchant).map(|(_, merchant)| merchant.country.clone()))
            .unwrap_or_else(|| "RU".to_owned());
        let zone = outlet.and_then(|(_, _, outlet)| TimeZone::get(&outlet.zone).ok()).unwrap_or(TimeZone::UTC);
        let outlet_name = outlet
            .map(|(_, _, outlet)| outlet.name.clone())
            .or_else(|| self.merchants.get(&merchant).map(|(_, merchant)| merchant.name.clone()))
            .unwrap_or_default();
        Ok(Link {
            id,
            slug,
            merchant,
            provider,
            connector,
            outlet: doc.outlet,
            outlet_name,
            zone,
            country,
            paused: doc.paused,
            poll: doc.poll,
            since: doc.since,
            low_balance: doc.low_balance.as_deref().and_then(watch::amount),
            made_at: doc.made_at.or(doc.since).unwrap_or(Timestamp::UNIX_EPOCH),
            target,
            masks,
            tokens: RwLock::default(),
        })
    }

    pub fn flow(&self, id: Id) -> Option<&Arc<Flow>> {
        self.flows.get(&id)
    }

    pub(crate) fn flows_of(&self, merchant: Id) -> impl Iterator<Item = &Arc<Flow>> {
        self.flows_of.get(&merchant).into_iter().flatten()
    }

    /// A merchant's loyalty programme.
    pub fn programme_of(&self, merchant: Id) -> Option<&Arc<LoyaltyProgramme>> {
        self.programmes.get(&merchant)
    }

    pub(crate) fn programmes(&self) -> impl Iterator<Item = &Arc<LoyaltyProgramme>> {
        self.programmes.values()
    }

    /// The secrets by which a bridge may sign: the outlet's current and next, or, where it has neither, the merchant's.
    pub fn bridge_secrets(&self, merchant: Id, outlet: Option<Id>) -> &[Secret] {
        let of_outlet = outlet.and_then(|outlet| self.bridge_secrets.get(&outlet)).filter(|secrets| !secrets.is_empty());
        let of_merchant = || self.programmes.get(&merchant).map(|programme| &programme.bridge);
        of_outlet.or_else(of_merchant).map_or(&[], Vec::as_slice)
    }

    /// The secret that an outlet's bridge has now, or the merchant's own, and whose it is.
    pub fn bridge_secret(&self, merchant: Id, outlet: Option<Id>) -> Option<(Id, &Secret)> {
        let of_outlet = outlet.and_then(|outlet| Some((outlet, self.bridge_secrets.get(&outlet)?.first()?)));
        of_outlet.or_else(|| Some((merchant, self.bridge_secrets(merchant, None).first()?)))
    }

    /// A merchant's endpoints.
    pub fn endpoints_of(&self, merchant: Id) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints_of.get(&merchant).into_iter().flatten()
    }

    /// All endpoints, in the order in which they were set up.
    pub fn all_endpoints(&self) -> Vec<&Arc<Endpoint>> {
        let mut all: Vec<_> = self.endpoints.values().collect();
        all.sort_unstable_by_key(|endpoint| endpoint.link.id);
        all
    }

    /// People who get notices, in the order in which they were set up.
    pub fn recipients(&self) -> impl Iterator<Item = &Arc<Recipient>> {
        self.recipients.iter()
    }

    /// A merchant's people who get notices.
    pub fn recipients_of(&self, merchant: Id) -> impl Iterator<Item = &Arc<Recipient>> {
        self.recipients.iter().filter(move |recipient| recipient.merchant == merchant)
    }

    /// The connection or endpoint that a command goes to.
    pub(crate) fn way_out(&self, id: Id) -> Option<&Link> {
        self.links.get(&id).or_else(|| self.endpoints.get(&id).map(|endpoint| &endpoint.link)).map(Arc::as_ref)
    }

    /// Where an event of a merchant comes from: a connection, or its programme at an outlet.
    pub(crate) fn origin(&self, merchant: Id, source: Id, outlet: Option<Id>) -> Option<Origin<'_>> {
        if let Some(link) = self.links.get(&source) {
            return Some(Origin::of(link));
        }
        let programme = self.programmes.get(&merchant).filter(|programme| programme.id.as_bytes() == source.as_bytes())?;
        let (_, merchant) = self.merchants.get(&merchant)?;
        let outlet = outlet.and_then(|outlet| self.outlets.get(&outlet)).map(|(_, _, outlet)| outlet);
        let zone = outlet.and_then(|outlet| TimeZone::get(&outlet.zone).ok());
        Some(Origin {
            zone: zone.map_or(Cow::Borrowed(&programme.zone), Cow::Owned),
            outlet_name: outlet.map_or(&merchant.name, |outlet| &outlet.name),
            slug: loyalty::SOURCE,
        })
    }

    /// The slugs of an event's merchant and outlet.
    pub(crate) fn slugs(&self, event: &Event) -> (&str, Option<&str>) {
        let merchant = self.merchants.get(&event.merchant).map_or("", |(slug, _)| slug.as_str());
        let outlet = event.outlet.and_then(|outlet| self.outlets.get(&outlet));
        (merchant, outlet.map(|(_, slug, _)| slug.as_str()))
    }

    /// A merchant's connection by its slug.
    pub fn link_of(&self, merchant: Id, slug: &str) -> Option<&Arc<Link>> {
        self.links_of.get(&merchant)?.get(slug)
    }

    /// A merchant's connections.
    pub(crate) fn links_of(&self, merchant: Id) -> impl Iterator<Item = &Arc<Link>> {
        self.links_of.get(&merchant).into_iter().flat_map(HashMap::values)
    }

    /// The connection of this provider that the key belongs to, and the key's id.
    pub fn by_webhook_key(&self, vault: &Vault, provider: &str, key: &str) -> Option<(Arc<Link>, String)> {
        let (connection, id) = self.webhook_keys.get(&vault.key_hash(provider, key))?;
        self.links.get(connection).map(|link| (link.clone(), id.clone()))
    }

    pub fn credential_headers(&self, provider: &str) -> &'static [&'static str] {
        self.credential_headers.get(provider).copied().unwrap_or_default()
    }

    pub fn api_keys(&self) -> impl Iterator<Item = &ApiKey> {
        self.api_keys.values()
    }

    /// The API key with this keyed hash, also one that has expired.
    pub fn by_api_hash(&self, hash: &[u8]) -> Option<&ApiKey> {
        self.api_keys.get(hash)
    }

    pub fn merchant(&self, id_or_slug: &str) -> Option<Id> {
        let by_id = || id_or_slug.parse().ok().filter(|id| self.merchants.contains_key(id));
        self.merchant_slugs.get(id_or_slug).copied().or_else(by_id)
    }

    /// An outlet of a merchant.
    pub fn outlet(&self, merchant: Id, id_or_slug: &str) -> Option<Id> {
        let by_id = || id_or_slug.parse().ok().filter(|id| self.outlets.get(id).is_some_and(|(of, ..)| *of == merchant));
        self.outlet_slugs.get(&merchant).and_then(|slugs| slugs.get(id_or_slug)).copied().or_else(by_id)
    }

    /// A connection by its id, or by its slug where only one merchant has it.
    pub fn connection(&self, id_or_slug: &str) -> Option<&Arc<Link>> {
        let mut found = self.links.values().filter(|link| link.slug == id_or_slug || link.id.to_string() == id_or_slug);
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }
}

/// Of a connection: what is sealed in other rows has no names that people give.
/// Devices of a recipient. What does not open is as if it were not there: it has to be registered again.
fn devices(recipient: Id, merchant: Id, sealed: Option<&[u8]>, vault: &Vault) -> Devices {
    let hidden = sealed.map(|sealed| vault.unseal_settings(merchant, recipient, sealed)).transpose();
    let hidden = hidden.inspect_err(|why| tracing::error!(recipient.id = %recipient, "devices cannot be opened: {why}"));
    device::read(hidden.ok().flatten().unwrap_or_default())
}

fn secret_names(row: &uzel_store::SetupRow, vault: &Vault) -> Vec<String> {
    let (Kind::Connection, Some(merchant), Some(sealed)) = (row.id.kind(), row.merchant, &row.sealed) else { return Vec::new() };
    let hidden = vault.unseal_settings(merchant, row.id, sealed).unwrap_or_default();
    hidden.into_iter().map(|(name, _)| name).collect()
}
