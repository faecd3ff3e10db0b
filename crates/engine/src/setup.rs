//! Setting up by a file: merchants, outlets, connections, flows, endpoints and recipients. Checked whole before anything changes, applied
//! idempotently, with a difference that can be shown first.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use uzel_model::{Channel, Id, Secret, check::Fault, id::Kind, port::Messages};
use uzel_store::{Audit, KeyRow, Rekeying, Setup, SetupRow, StoreError};

pub(crate) use self::programmes::new_qr_secret;
use self::shape::{Parts, Placed, doubles, field, listed, places, shape_faults};
pub use self::{
    endpoints::EndpointPart,
    programmes::{ProgrammePart, QrKeyPart},
    recipients::RecipientPart,
};
use crate::{Engine, Merchant, Outlet, Vault, flow::FlowDoc, review::Maps, target::Target, vault::Sealer, watch, world::LinkDoc};

mod edit;
mod endpoints;
mod programmes;
mod recipients;
mod shape;
pub(crate) mod templates;

pub use edit::{Made, Thing, Unchanged};

/// Keys imported by a file must be as hard to guess as ours.
const KEY_CHARS_MIN: usize = 24;

/// How long one node may change the setup before another does, and how often a change is planned anew.
pub(crate) const TURN_HOLD: Duration = Duration::from_secs(30);
const TRIES_MAX: u32 = 5;

/// `setup.toml`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupFile {
    /// Businesses.
    #[serde(default)]
    pub merchant: Vec<MerchantPart>,
    /// Points of sale.
    #[serde(default)]
    pub outlet: Vec<OutletPart>,
    /// Connections to providers.
    #[serde(default)]
    pub connection: Vec<ConnectionPart>,
    /// Flows.
    #[serde(default)]
    pub flow: Vec<FlowPart>,
    /// URLs of merchants' own software.
    #[serde(default)]
    pub endpoint: Vec<EndpointPart>,
    /// The merchants' people who get notices.
    #[serde(default)]
    pub recipient: Vec<RecipientPart>,
    /// Loyalty programmes.
    #[serde(default)]
    pub programme: Vec<ProgrammePart>,
}

/// A business.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "slug": "cafe", "name": "Café on the corner", "language": "ru", "country": "RU" }))]
pub struct MerchantPart {
    /// Unique name of `[a-z0-9-]`.
    pub slug: String,
    /// As people call it.
    #[serde(default)]
    pub name: Option<String>,
    /// `ru`, `uz` or `en`.
    #[serde(default)]
    pub language: Option<String>,
    /// Country of phones without a code: `RU`, `UZ`, `KZ`…
    #[serde(default)]
    pub country: Option<String>,
    /// Days after which its entries, and what followed from them, are forgotten, where that is sooner than the hub forgets.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub keep_days: Option<u32>,
}

/// A point of sale.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutletPart {
    /// Slug of the merchant.
    pub merchant: String,
    /// Unique name of `[a-z0-9-]`.
    pub slug: String,
    /// As people call it; texts may name it.
    #[serde(default)]
    pub name: Option<String>,
    /// Time zone by name, for instance `Europe/Moscow`.
    pub zone: String,
    /// Country of phones without a code; by default the merchant's.
    #[serde(default)]
    pub country: Option<String>,
    /// `PC_POS`, `SMART` or `VIRTUAL`.
    #[serde(default)]
    pub pos_type: Option<String>,
    /// Where it stands, as people write it.
    #[serde(default)]
    pub address: Option<String>,
    /// Not shown to customers.
    #[serde(default)]
    pub hidden: bool,
    /// A mark for people; its till works on.
    #[serde(default)]
    pub inactive: bool,
    /// Its pages on maps, which guests who leave a review are sent on to.
    #[serde(default)]
    pub maps: Maps,
}

/// A connection to a provider.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "merchant": "cafe", "outlet": "arbat", "slug": "till", "provider": "rkeeper", "settings": {} }))]
pub struct ConnectionPart {
    /// The merchant, by its slug; the API takes an id as well.
    pub merchant: String,
    /// Slug of the outlet that it belongs to, if to one.
    #[serde(default)]
    pub outlet: Option<String>,
    /// Unique name of `[a-z0-9-]`.
    pub slug: String,
    /// Id of the provider: `uzel providers list` names them.
    pub provider: String,
    /// As the provider's schema says: `uzel providers schema iiko`.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// Webhook keys to be accepted, at least 24 characters each; without one the hub makes a key.
    #[serde(default)]
    pub webhook_keys: Vec<String>,
    /// Makes no calls for now.
    #[serde(default)]
    pub paused: bool,
    /// Reads what was missed, on a schedule.
    #[serde(default)]
    pub poll: bool,
    /// From when on polls read. Default: from the first poll on. What happened before the connection was set up makes no
    /// messages, unless a flow asks for `history`.
    #[serde(default)]
    pub since: Option<String>,
    /// A notice is made when less money than that is left at the provider, in the account's currency: `500` or `12.50`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_balance: Option<String>,
}

/// A flow.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[schemars(example = json!({
    "merchant": "cafe", "slug": "thanks", "on": ["order.completed"], "ground": "service", "ground_by": "Anna Petrova, owner",
    "delay": "2h", "quiet_from": "21:00", "quiet_to": "10:00", "once_in_days": 14, "via": "sms", "text": "Thank you for your visit!"
}))]
pub struct FlowPart {
    /// The merchant, by its slug; the API takes an id as well.
    pub merchant: String,
    /// Unique name of `[a-z0-9-]`.
    pub slug: String,
    #[serde(flatten)]
    pub rule: FlowDoc,
}

/// One difference.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// `new`, `changed` or `same`.
    pub what: &'static str,
    pub kind: &'static str,
    pub name: String,
    /// Names of what changes.
    pub fields: Vec<String>,
    /// What the hub keeps of a connection that is void with this: its `login`, its `cursor`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<String>,
}

/// What applying a file does.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    pub differences: Vec<Difference>,
    /// Webhook keys that were made, by connection: shown once.
    pub keys: Vec<(String, String)>,
    /// Signing secrets that were made, by endpoint: shown once.
    #[serde(serialize_with = "shown")]
    pub secrets: Vec<(String, Secret)>,
    #[serde(skip)]
    setup: Setup,
    /// Keys that seal what is to be stored, and must be there before it.
    #[serde(skip)]
    made: Option<Rekeying>,
    /// What stood when it was worked out.
    #[serde(skip)]
    before: Setup,
}

/// Told to whoever had them made.
fn shown<S: serde::Serializer>(secrets: &[(String, Secret)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.iter().map(|(name, secret)| (name, secret.expose())))
}

/// How strict a plan is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leniency {
    /// The demo's keys are short.
    pub short_keys: bool,
}

impl Plan {
    /// What changes, with its row. Both lists are in the order of the file.
    fn changes(&self) -> impl Iterator<Item = (&Difference, &SetupRow)> {
        self.differences.iter().zip(&self.setup.rows).filter(|(difference, _)| difference.what != "same")
    }

    /// Of what is to be stored, worked out from what stood before.
    pub(crate) fn of(setup: Setup, before: Setup) -> Self {
        Self { setup, before, ..Self::default() }
    }
}

impl Engine {
    /// Works out what a file would change, or lists everything that is wrong with it.
    pub async fn plan(&self, file: &Value, leniency: Leniency) -> Result<Result<Plan, Vec<Fault>>, StoreError> {
        self.plan_as("hub", file, leniency).await
    }

    /// The same, with the name of whoever changes it.
    pub(crate) async fn plan_as(
        &self,
        by: &str,
        file: &Value,
        leniency: Leniency,
    ) -> Result<Result<Plan, Vec<Fault>>, StoreError> {
        let mut faults = shape_faults(file);
        // `[merchant]` for `[[merchant]]` is a fault too, and one row all the same.
        let file = &listed(file);
        let more: Vec<Fault> = shape_faults(file).into_iter().filter(|fault| !faults.contains(fault)).collect();
        faults.extend(more);
        let shape = places(&faults);
        // What has the wrong shape is set aside, so that the faults of all the rest are told in the same run, and rows
        // that are only misspelt are found by those that name them.
        let parts = Parts::of(file, &shape);
        let all = |name: &str, count: usize| file[name].as_array().map_or(0, Vec::len) == count;
        let whole = all("merchant", parts.merchant.len())
            && all("outlet", parts.outlet.len())
            && all("connection", parts.connection.len())
            && all("flow", parts.flow.len())
            && all("endpoint", parts.endpoint.len())
            && all("recipient", parts.recipient.len())
            && all("programme", parts.programme.len());
        if !whole && faults.is_empty() {
            let detail =
                serde_json::from_value::<SetupFile>(file.clone()).err().map_or_else(String::new, |error| error.to_string());
            return Ok(Err(vec![Fault::new("", detail)]));
        }
        let old = self.store.setup().await?;
        let mut planner = Planner {
            engine: self,
            old: &old,
            sealer: self.vault.sealer(),
            plan: Plan::default(),
            faults: doubles(file),
            leniency,
            strangers: HashSet::new(),
            senders: HashMap::new(),
            listed: HashMap::new(),
        };
        planner.plan(&parts);
        let Planner { mut plan, faults: found, sealer, .. } = planner;
        plan.setup.audit = plan.changes().map(|(difference, row)| self.audit_of(by, difference, row)).collect();
        // What somebody changes between the plan and its end is not overwritten: it is planned anew.
        plan.setup.expects = plan.changes().map(|(_, row)| (row.id, row.version)).collect();
        plan.made = sealer.made(&old.envelopes);
        plan.before = old;
        // Of a field that was set aside nothing else is told: what stood in for it is not the user's.
        let found = found.into_iter().filter(|fault| field(&fault.pointer).is_none_or(|field| !shape.contains(&field)));
        let faults: Vec<Fault> = faults.into_iter().chain(found).collect();
        Ok(if faults.is_empty() { Ok(plan) } else { Err(faults) })
    }

    /// Plans and carries out. Where another node changes the setup between the two, it is planned anew.
    pub async fn apply(self: &Arc<Self>, file: &Value, leniency: Leniency) -> Result<Result<Plan, Vec<Fault>>, StoreError> {
        self.apply_as("hub", file, leniency).await
    }

    /// The same, with the name of whoever changes it.
    pub async fn apply_as(
        self: &Arc<Self>,
        by: &str,
        file: &Value,
        leniency: Leniency,
    ) -> Result<Result<Plan, Vec<Fault>>, StoreError> {
        let mut tries = 0;
        loop {
            let plan = match self.plan_as(by, file, leniency).await? {
                Ok(plan) => plan,
                Err(faults) => return Ok(Err(faults)),
            };
            tries += 1;
            match self.carry_out(plan.clone()).await {
                Ok(()) => return Ok(Ok(plan)),
                // What another node has changed may be the keys: they are taken up with all else.
                Err(StoreError::Conflict) if tries < TRIES_MAX => self.reload().await?,
                Err(error) => return Err(error),
            }
        }
    }

    fn audit_of(&self, by: &str, difference: &Difference, row: &SetupRow) -> Audit {
        let act = if difference.what == "new" { "create" } else { "change" };
        let detail = json!({ "slug": row.slug, "fields": difference.fields });
        self.audit_row(by, &format!("{}.{act}", difference.kind), row.merchant.or(Some(row.id)), row.id, detail)
    }

    /// Carries a plan out; a conflict where another node has changed the setup since it was worked out.
    pub async fn carry_out(self: &Arc<Self>, plan: Plan) -> Result<(), StoreError> {
        let engine = self.clone();
        let work = async move {
            let _alone = engine.changing.lock().await;
            let taken = engine.take_soon("setup", TURN_HOLD, TURN_HOLD).await?.ok_or(StoreError::Busy)?;
            let done = engine.put_in_time(plan, taken.until).await;
            engine.give_back(taken).await;
            done
        };
        self.to_the_end(work).await.map_err(StoreError::Failed)?
    }

    async fn put_in_time(&self, plan: Plan, until: Instant) -> Result<(), StoreError> {
        let ends = plan.setup.ends_logins.clone();
        let change = async {
            if self.store.shared() && !same(plan.before, self.store.setup().await?) || Instant::now() >= until {
                return Err(StoreError::Conflict);
            }
            if let Some(made) = plan.made {
                self.store.rekey(made).await?;
            }
            self.store.put_setup(plan.setup).await?;
            self.use_stored(&ends).await
        };
        self.voiding_stored_logins(&ends, change).await
    }
}

/// Whether two times the same is set up, in whatever order it was read, and whichever keys were used meanwhile.
fn same(mut one: Setup, mut other: Setup) -> bool {
    for setup in [&mut one, &mut other] {
        setup.rows.sort_by_key(|row| row.id);
        setup.keys.sort_by(|a, b| a.hash.cmp(&b.hash));
        setup.keys.iter_mut().for_each(|key| key.last_used_at = None);
    }
    one.rows == other.rows && one.keys == other.keys
}

struct Planner<'a> {
    engine: &'a Engine,
    old: &'a Setup,
    sealer: Sealer,
    plan: Plan,
    faults: Vec<Fault>,
    leniency: Leniency,
    /// Merchants that are named and not there, and connections that cannot be told from others: they are checked all the
    /// same, but nothing is said of what they would find.
    strangers: HashSet<Id>,
    /// By which channel the connections of the file send messages, if they do, where their settings tell it.
    senders: HashMap<Id, Option<Channel>>,
    /// The templates that those list which can be opened.
    listed: HashMap<Id, Option<Vec<String>>>,
}

impl Planner<'_> {
    fn plan(&mut self, file: &Parts) {
        for Placed(place, part) in &file.merchant {
            self.slug(&format!("/merchant/{place}/slug"), &part.slug);
            let merchant = Merchant {
                name: part.name.clone().unwrap_or_else(|| part.slug.clone()),
                language: part.language.clone().unwrap_or_else(|| "ru".to_owned()),
                country: part.country.clone().unwrap_or_else(|| "RU".to_owned()),
                keep_days: part.keep_days,
            };
            if part.keep_days == Some(0) {
                self.fault(&format!("/merchant/{place}/keep_days"), "must be at least 1");
            }
            if !["ru", "uz", "en"].contains(&merchant.language.as_str()) {
                self.fault(&format!("/merchant/{place}/language"), "must be `ru`, `uz` or `en`");
            }
            self.country(&format!("/merchant/{place}/country"), &merchant.country);
            self.put(Kind::Merchant, "merchant", None, &part.slug, json!(merchant), None);
        }
        for Placed(place, part) in &file.outlet {
            let merchant = self.merchant(&format!("/outlet/{place}/merchant"), &part.merchant);
            self.slug(&format!("/outlet/{place}/slug"), &part.slug);
            if jiff::tz::TimeZone::get(&part.zone).is_err() {
                self.fault(
                    &format!("/outlet/{place}/zone"),
                    "is no time zone: write a name such as `Europe/Moscow` or `Asia/Tashkent`",
                );
            }
            let before = self.find(Kind::Outlet, Some(merchant), &part.slug);
            let before = before.and_then(|row| serde_json::from_value::<Outlet>(row.doc.clone()).ok());
            let outlet = Outlet {
                name: part.name.clone().unwrap_or_else(|| part.slug.clone()),
                zone: part.zone.clone(),
                country: part.country.clone().unwrap_or_else(|| self.country_of(merchant)),
                pos_type: part.pos_type.clone().unwrap_or_else(|| "VIRTUAL".to_owned()),
                // No file says anything of these.
                pos_seen_at: before.as_ref().and_then(|outlet| outlet.pos_seen_at),
                bridge: before.map(|outlet| outlet.bridge).unwrap_or_default(),
                address: part.address.clone(),
                hidden: part.hidden,
                inactive: part.inactive,
                maps: part.maps.clone(),
            };
            for (map, fault) in outlet.maps.faults() {
                self.fault(&format!("/outlet/{place}/maps/{map}"), fault);
            }
            self.country(&format!("/outlet/{place}/country"), &outlet.country);
            if !["PC_POS", "SMART", "VIRTUAL"].contains(&outlet.pos_type.as_str()) {
                self.fault(&format!("/outlet/{place}/pos_type"), "must be `PC_POS`, `SMART` or `VIRTUAL`");
            }
            self.put(Kind::Outlet, "outlet", Some(merchant), &part.slug, json!(outlet), None);
        }
        for Placed(place, part) in &file.connection {
            self.connection(&format!("/connection/{place}"), part);
        }
        for Placed(place, part) in &file.flow {
            let at = format!("/flow/{place}");
            let merchant = self.merchant(&format!("{at}/merchant"), &part.merchant);
            self.slug(&format!("{at}/slug"), &part.slug);
            for (field, fault) in part.rule.faults() {
                self.fault(&format!("{at}/{field}"), fault);
            }
            for (field, slug) in part.rule.ways_out().into_iter().filter(|(field, slug)| field != "via" || !slug.is_empty()) {
                self.via(&format!("{at}/{field}"), slug, part, merchant);
            }
            self.templates(&at, part, merchant);
            self.places(&at, part, merchant);
            if part.rule.holds_links() && self.engine.options.public_url.is_none() {
                let why =
                    "holds `{{ link }}` or `{{ unsubscribe }}`, and the hub does not know its public address: set `public_url`";
                self.fault(&format!("{at}/text"), why);
            }
            let mut rule = part.rule.clone();
            if rule.ground_at.is_none() {
                // When the decision was made is part of its record: the first time it was applied.
                let before = self
                    .find(Kind::Flow, Some(merchant), &part.slug)
                    .and_then(|row| row.doc["ground_at"].as_str().map(str::to_owned));
                rule.ground_at = Some(before.unwrap_or_else(|| self.engine.clock.now().to_string()));
            }
            self.put(Kind::Flow, "flow", Some(merchant), &part.slug, json!(rule), None);
        }
        for Placed(place, part) in &file.endpoint {
            self.endpoint(&format!("/endpoint/{place}"), part);
        }
        for Placed(place, part) in &file.recipient {
            self.recipient(&format!("/recipient/{place}"), part);
        }
        for Placed(place, part) in &file.programme {
            self.programme(&format!("/programme/{place}"), part);
        }
    }

    /// A flow's way out must be there and send messages.
    fn via(&mut self, at: &str, via: &str, part: &FlowPart, merchant: Id) {
        let of = &part.merchant;
        match self.find(Kind::Connection, Some(merchant), via).map(|row| row.id) {
            Some(connection) if !self.sends(connection) => {
                self.fault(at, format!("`{}` sends no messages: name a connection whose provider does", via));
            }
            None if !self.strangers.contains(&merchant) => {
                self.fault(at, format!("no connection `{}` of merchant `{of}`", via));
            }
            _ => {}
        }
    }

    /// The outlets and sources that a flow is for must be there.
    fn places(&mut self, at: &str, part: &FlowPart, merchant: Id) {
        if self.strangers.contains(&merchant) {
            return;
        }
        let FlowPart { merchant: of, rule, .. } = part;
        for (field, word, kind, names) in
            [("outlets", "outlet", Kind::Outlet, &rule.outlets), ("sources", "connection", Kind::Connection, &rule.sources)]
        {
            for (place, name) in names.iter().enumerate() {
                if self.find(kind, Some(merchant), name).is_none() {
                    self.fault(&format!("{at}/{field}/{place}"), format!("no {word} `{name}` of merchant `{of}`"));
                }
            }
        }
    }

    /// Told by the file, or else by what runs; where neither knows, by no fault.
    fn sends(&self, connection: Id) -> bool {
        self.channel(connection).is_none_or(|channel| channel.is_some())
    }

    /// By which channel a connection sends, if it does; `None` where neither the file nor what runs tells it.
    fn channel(&self, connection: Id) -> Option<Option<Channel>> {
        let in_file = self.plan.setup.rows.iter().any(|row| row.id == connection);
        let runs = || {
            let world = self.engine.world();
            world.links.get(&connection).map(|link| link.connector.messages().map(Messages::channel))
        };
        self.senders.get(&connection).copied().or_else(|| if in_file { None } else { runs() })
    }

    fn connection(&mut self, at: &str, part: &ConnectionPart) {
        let merchant = self.merchant(&format!("{at}/merchant"), &part.merchant);
        self.slug(&format!("{at}/slug"), &part.slug);
        let outlet = part.outlet.as_ref().and_then(|slug| {
            let found = self.find(Kind::Outlet, Some(merchant), slug).map(|row| row.id);
            if found.is_none() && !self.strangers.contains(&merchant) {
                self.fault(&format!("{at}/outlet"), format!("no outlet `{slug}` of merchant `{}`", part.merchant));
            }
            found
        });
        let since = self.since(at, part);
        let Some(provider) = self.engine.providers.iter().find(|provider| provider.id == part.provider) else {
            let known: Vec<&str> = self.engine.providers.iter().map(|provider| provider.id).collect();
            self.fault(&format!("{at}/provider"), format!("`{}` is not known: {} are", part.provider, known.join(", ")));
            // It is there, so that flows find it.
            self.put(Kind::Connection, "connection", Some(merchant), &part.slug, Value::Null, None);
            return;
        };
        self.addresses(at, &part.settings);
        let (mut sends, mut listed) = (None, None);
        let keyed = match provider.open(Value::Object(part.settings.clone())) {
            Ok(connector) => {
                sends = Some(connector.messages().map(Messages::channel));
                listed = connector.messages().map(|messages| messages.templates().map(<[String]>::to_vec));
                if part.poll && connector.polls().is_none() {
                    self.fault(
                        &format!("{at}/poll"),
                        "cannot be: with these settings there is nothing to poll, or nothing to ask with",
                    );
                }
                if part.low_balance.is_some() && connector.balance().is_none() {
                    self.fault(&format!("{at}/low_balance"), "cannot be: this provider tells no balance");
                }
                connector.keyed()
            }
            Err(faults) => {
                for fault in faults {
                    self.fault(&format!("{at}/settings{}", fault.pointer), fault.detail);
                }
                false
            }
        };
        let before = self.find(Kind::Connection, Some(merchant), &part.slug).cloned();
        let made_at = before.as_ref().and_then(|row| row.doc["made_at"].as_str()?.parse().ok());
        let made_at = Some(made_at.unwrap_or_else(|| self.engine.clock.now()));
        let (open, hidden) = split(provider.shape().as_value(), &part.settings);
        if part.low_balance.as_deref().is_some_and(|limit| watch::amount(limit).is_none()) {
            self.fault(&format!("{at}/low_balance"), "is no amount: write `500` or `12.50`");
        }
        let low_balance = part.low_balance.clone();
        let (paused, poll) = (part.paused, part.poll);
        let doc = LinkDoc { provider: part.provider.clone(), outlet, settings: open, paused, poll, since, made_at, low_balance };
        let target = Target::new(provider, &doc.settings);
        let id = self.put(Kind::Connection, "connection", Some(merchant), &part.slug, json!(doc), Some(hidden));
        if let Some(before) = before {
            self.moved(&before, &target);
        }
        self.senders.extend(sends.map(|sends| (id, sends)));
        self.listed.extend(listed.map(|listed| (id, listed)));
        if self.strangers.contains(&merchant) || part.slug.is_empty() {
            self.strangers.insert(id);
        }
        self.keys(at, part, id, keyed);
    }

    /// Calls of a connection that is pointed elsewhere must not carry the login of where they went before.
    fn moved(&mut self, before: &SetupRow, target: &Target) {
        let of_provider = before.doc["provider"].as_str() == Some(target.provider);
        let provider = self.engine.providers.iter().find(|provider| provider.id == target.provider);
        let same = match (provider, before.doc["settings"].as_object()) {
            (Some(provider), Some(settings)) => of_provider && Target::new(provider, settings) == *target,
            _ => false,
        };
        if same {
            return;
        }
        self.plan.setup.ends_logins.push(before.id);
        let mut ended = vec!["login".to_owned()];
        if !of_provider {
            // What another provider calls its place in a list says nothing here.
            self.plan.setup.ends_cursors.push(before.id);
            ended.push("cursor".to_owned());
        }
        if let Some(difference) = self.plan.differences.last_mut() {
            difference.ends = ended;
        }
    }

    fn since(&mut self, at: &str, part: &ConnectionPart) -> Option<Timestamp> {
        let since = part.since.as_deref()?.parse();
        if since.is_err() {
            self.fault(&format!("{at}/since"), "is no time: write `2026-11-24T00:00:00Z`");
        }
        since.ok()
    }

    /// A setting whose name ends in `_url` is an address that calls go to, whatever the provider.
    fn addresses(&mut self, at: &str, settings: &Map<String, Value>) {
        for (name, value) in settings.iter().filter(|(name, _)| name.ends_with("_url")) {
            let Some(text) = value.as_str() else { continue };
            let place = format!("{at}/settings/{name}");
            match reqwest::Url::parse(text) {
                Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                    self.fault(&place, "holds a name or a password: an address is shown to whoever sees the connection");
                }
                Ok(url) if matches!(url.scheme(), "http" | "https") => {}
                _ => self.fault(&place, "is no URL: write one such as `https://example.org`"),
            }
        }
    }

    fn keys(&mut self, at: &str, part: &ConnectionPart, connection: Id, keyed: bool) {
        let mut keys = part.webhook_keys.clone();
        let has_key = self.old.keys.iter().any(|key| key.webhook && key.of == Some(connection) && key.about == part.provider);
        if keyed && keys.is_empty() && !has_key {
            let key = Vault::new_key("whk").expose().to_owned();
            self.plan.keys.push((part.slug.clone(), key.clone()));
            keys.push(key);
        }
        for (place, key) in keys.iter().enumerate() {
            if key.chars().count() < KEY_CHARS_MIN && !self.leniency.short_keys {
                self.fault(
                    &format!("{at}/webhook_keys/{place}"),
                    format!("is too short: at least {KEY_CHARS_MIN} characters, so that nobody guesses it"),
                );
            }
            let hash = self.engine.vault.key_hash(&part.provider, key);
            let taken = self
                .old
                .keys
                .iter()
                .chain(&self.plan.setup.keys)
                .any(|known| known.webhook && known.hash == hash && known.of != Some(connection));
            if taken && !self.strangers.contains(&connection) {
                self.fault(&format!("{at}/webhook_keys/{place}"), "belongs to another connection of this provider");
            }
            if !self.old.keys.iter().any(|known| known.hash == hash) {
                let id = Id::new(Kind::Key).to_string();
                self.plan.setup.keys.push(KeyRow {
                    hash,
                    id,
                    of: Some(connection),
                    about: part.provider.clone(),
                    webhook: true,
                    label: String::new(),
                    made_at: self.engine.clock.now(),
                    expires_at: None,
                    last_used_at: None,
                });
            }
        }
    }

    fn fault(&mut self, pointer: &str, detail: impl Into<String>) {
        self.faults.push(Fault::new(pointer, detail));
    }

    fn slug(&mut self, at: &str, slug: &str) {
        let right =
            !slug.is_empty() && slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !right {
            self.fault(at, "must be made of a–z, 0–9 and -");
        }
    }

    fn country(&mut self, at: &str, country: &str) {
        if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
            self.fault(at, "must be two capital letters such as `RU` or `UZ`");
        }
    }

    fn country_of(&self, merchant: Id) -> String {
        let rows = self.plan.setup.rows.iter().chain(&self.old.rows);
        rows.into_iter().find(|row| row.id == merchant).and_then(|row| row.doc["country"].as_str()).unwrap_or("RU").to_owned()
    }

    fn merchant(&mut self, at: &str, slug: &str) -> Id {
        if let Some(found) = self.find(Kind::Merchant, None, slug).map(|row| row.id) {
            return found;
        }
        self.fault(at, format!("no merchant `{slug}`: add [[merchant]] with this slug"));
        let stranger = Id::new(Kind::Merchant);
        self.strangers.insert(stranger);
        stranger
    }

    /// What the file or the store has under this name, the file first.
    fn find(&self, kind: Kind, merchant: Option<Id>, slug: &str) -> Option<&SetupRow> {
        let mut rows = self.plan.setup.rows.iter().chain(&self.old.rows);
        rows.find(|row| row.id.kind() == kind && row.merchant == merchant && row.slug == slug)
    }

    fn put(
        &mut self,
        kind: Kind,
        word: &'static str,
        merchant: Option<Id>,
        slug: &str,
        doc: Value,
        hidden: Option<Map<String, Value>>,
    ) -> Id {
        let old = self.old.rows.iter().find(|row| row.id.kind() == kind && row.merchant == merchant && row.slug == slug);
        let id = old.map_or_else(|| Id::new(kind), |row| row.id);
        let mut fields = old.map_or_else(Vec::new, |row| changed(&row.doc, &doc));
        let old_sealed = old.and_then(|row| row.sealed.clone());
        if kind == Kind::Merchant {
            self.sealer.merchant(id);
        }
        let sealed = match hidden.zip(merchant) {
            // Of what has no secrets in a file, those that were made stay.
            None => old_sealed,
            Some((hidden, merchant)) => {
                let before = old_sealed.as_ref().map(|sealed| self.engine.vault.unseal_settings(merchant, id, sealed));
                let same = before.is_some_and(|before| before.is_ok_and(|before| before == hidden));
                if !same && old.is_some() && (!hidden.is_empty() || old_sealed.is_some()) {
                    fields.push("secrets".to_owned());
                }
                match old_sealed.filter(|sealed| same && self.sealer.is_current(merchant, sealed)) {
                    Some(sealed) => Some(sealed),
                    None => (!hidden.is_empty()).then(|| self.sealer.settings(merchant, id, &hidden)),
                }
            }
        };
        let what = match old {
            None => "new",
            Some(_) if fields.is_empty() => "same",
            Some(_) => "changed",
        };
        self.plan.differences.push(Difference { what, kind: word, name: slug.to_owned(), fields, ends: Vec::new() });
        let version = old.map_or(0, |row| row.version);
        self.plan.setup.rows.push(SetupRow { id, merchant, slug: slug.to_owned(), doc, sealed, version });
        id
    }
}

fn changed(old: &Value, new: &Value) -> Vec<String> {
    let names: HashSet<&String> = old.as_object().into_iter().chain(new.as_object()).flat_map(Map::keys).collect();
    let mut fields: Vec<String> = names.into_iter().filter(|name| old.get(*name) != new.get(*name)).cloned().collect();
    fields.sort();
    fields
}

/// Takes the write-only settings apart from the others.
fn split(schema: &Value, settings: &Map<String, Value>) -> (Map<String, Value>, Map<String, Value>) {
    let secret = |name: &str| {
        let property = &schema["properties"][name];
        property["writeOnly"] == json!(true)
            || property["anyOf"].as_array().is_some_and(|choices| choices.iter().any(|choice| choice["writeOnly"] == json!(true)))
    };
    settings.clone().into_iter().partition(|(name, _)| !secret(name))
}
