//! Single things that are set up: merchants, outlets, connections, flows. What is written is what a setup file says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uzel_engine::{
    Stored,
    flow::FlowDoc,
    setup::{ConnectionPart, FlowPart, MerchantPart, Thing, Unchanged},
};
use uzel_model::{Id, id::Kind};
use uzel_store::SetupVersion;

use super::{
    caller::Caller,
    page::Page,
    part::{New, Patch},
    route::{Answered, Ask, ById, Reply, reply},
};
use crate::{App, Problem};

impl From<Unchanged> for Problem {
    fn from(unchanged: Unchanged) -> Self {
        match unchanged {
            Unchanged::Faults(faults) => Self::invalid(faults),
            Unchanged::Missing => Self::not_found("no such thing"),
            Unchanged::Changed => Self::changed_meanwhile(),
            Unchanged::InUse(why) => Self::conflict(why),
            Unchanged::Store(error) => Self::from(error),
        }
    }
}

/// Which merchant's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OfMerchant {
    /// Only of this merchant, by id or slug.
    merchant: Option<String>,
}

impl OfMerchant {
    pub(super) fn merchant(&self) -> Option<&str> {
        self.merchant.as_deref()
    }
}

/// A business.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct MerchantView {
    /// Its id.
    id: Id,
    /// Its unique name.
    slug: String,
    /// As people call it.
    name: String,
    /// `ru`, `uz` or `en`.
    language: String,
    /// Country of phones without a code.
    country: String,
    /// How many days entries are kept, where that is less than the hub keeps.
    keep_days: Option<u32>,
    /// Counts up with every change.
    version: i64,
}

/// A connection to a provider.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConnectionView {
    /// Its id.
    id: Id,
    /// Its unique name.
    slug: String,
    /// Whose it is.
    merchant: Id,
    /// The same, by its slug.
    merchant_slug: String,
    /// Id of the provider.
    provider: String,
    /// Where it belongs, if to one outlet.
    outlet: Option<Id>,
    /// Without its secrets.
    settings: Value,
    /// Names of the secrets that are set.
    secrets: Vec<String>,
    /// Whether no calls are made for now.
    paused: bool,
    /// Whether it reads what was missed, on a schedule.
    polls: bool,
    /// A notice is made when less money than that is left.
    low_balance: Option<String>,
    /// Path of its webhook.
    hook: String,
    /// Why its calls are held back for now, and since when.
    breaker: Option<Value>,
    /// Why it cannot be used as it is set up.
    broken: Option<String>,
    /// Counts up with every change.
    version: i64,
    /// A webhook key that was made with it: shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_key: Option<String>,
}

/// A rule from events to messages.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FlowView {
    /// Its id.
    id: Id,
    /// Its unique name.
    slug: String,
    /// Whose it is.
    merchant: Id,
    /// Counts up with every change.
    version: i64,
    /// Why it cannot be used as it is set up.
    broken: Option<String>,
    /// What it says.
    rule: FlowDoc,
}

/// Rows of one kind that a caller sees, in the order of their names.
pub(super) fn rows(app: &App, caller: &Caller, kind: Kind, named: Option<&str>) -> Result<Vec<(Id, Stored)>, Problem> {
    let scope = caller.scope(app, named)?;
    let world = app.engine.world();
    let own = |id: Id, row: &Stored| scope.is_none_or(|scope| row.merchant.unwrap_or(id) == scope);
    let mut rows: Vec<(Id, Stored)> =
        world.rows.iter().filter(|(id, row)| id.kind() == kind && own(**id, row)).map(|(id, row)| (*id, row.clone())).collect();
    rows.sort_by(|(a, row), (b, other)| (&row.slug, a).cmp(&(&other.slug, b)));
    Ok(rows)
}

/// One row, by its id, or by its slug where only one that the caller sees has it.
pub(super) fn row(app: &App, caller: &Caller, kind: Kind, name: &str) -> Result<(Id, Stored), Problem> {
    let mut found = rows(app, caller, kind, None)?.into_iter().filter(|(id, row)| row.slug == name || id.to_string() == name);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(Problem::not_found("no such thing")),
    }
}

/// What a body names must be the caller's own.
fn own_merchant(ask: &Caller, app: &App, body: &Value) -> Result<(), Problem> {
    let named = body["merchant"].as_str().unwrap_or_default();
    let known = ask.merchant(app, named).is_ok();
    let missing = || Problem::invalid(vec![uzel_model::check::Fault::new("/merchant", format!("no merchant `{named}`"))]);
    if known { Ok(()) } else { Err(missing()) }
}

/// The slug of what a body names by id or slug, as files name it.
fn by_slug(app: &App, body: &mut Value) {
    let merchant = body["merchant"].as_str().and_then(|name| app.engine.world().merchant(name));
    if let Some((slug, _)) = merchant.and_then(|merchant| app.engine.world().merchants.get(&merchant).cloned()) {
        body["merchant"] = json!(slug);
    }
}

pub(super) async fn create<T: Serialize>(
    ask: Ask<(), (), T>,
    thing: Thing,
) -> Result<(std::sync::Arc<App>, Id, Option<String>), Problem> {
    let Ask { app, caller, body, .. } = ask;
    let mut part = without_nulls(json!(body));
    if thing != Thing::Merchant {
        own_merchant(&caller, &app, &part)?;
        by_slug(&app, &mut part);
    }
    let made = app.engine.create(thing, part, caller.holder.name()).await?;
    Ok((app, made.id, made.key))
}

/// What was not given is not there: a file knows no `null`.
fn without_nulls(mut part: Value) -> Value {
    if let Some(fields) = part.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    part
}

pub(super) async fn change<P>(ask: Ask<ById, (), Patch<P>>, kind: Kind) -> Result<(std::sync::Arc<App>, Id), Problem> {
    let version = ask.if_match()?;
    let Ask { app, caller, path, body, .. } = ask;
    let (id, _) = row(&app, &caller, kind, &path.id)?;
    app.engine.change(id, &body.into_value(), version, caller.holder.name()).await?;
    Ok((app, id))
}

pub(super) async fn remove(ask: Ask<ById>, kind: Kind) -> Answered<()> {
    let version = ask.if_match()?;
    let Ask { app, caller, path, .. } = ask;
    let (id, _) = row(&app, &caller, kind, &path.id)?;
    app.engine.remove(id, version, caller.holder.name()).await?;
    reply(())
}

pub(super) fn stored(app: &App, id: Id) -> Result<Stored, Problem> {
    app.engine.world().rows.get(&id).cloned().ok_or_else(|| Problem::not_found("no such thing"))
}

fn merchant_view(id: Id, row: Stored) -> Reply<MerchantView> {
    let text = |name: &str| row.doc[name].as_str().unwrap_or_default().to_owned();
    let keep_days = row.doc["keep_days"].as_u64().and_then(|days| u32::try_from(days).ok());
    let (name, language, country) = (text("name"), text("language"), text("country"));
    let view = MerchantView { id, slug: row.slug, name, language, country, keep_days, version: row.version };
    Reply::new(view).version(row.version)
}

pub(super) mod merchants {
    use super::*;

    pub(in super::super) async fn list(ask: Ask) -> Answered<Page<MerchantView>> {
        let rows = rows(&ask.app, &ask.caller, Kind::Merchant, None)?;
        reply(Page::whole(rows.into_iter().map(|(id, row)| merchant_view(id, row).into_value()).collect()))
    }

    pub(in super::super) async fn show(ask: Ask<ById>) -> Answered<MerchantView> {
        let (id, row) = row(&ask.app, &ask.caller, Kind::Merchant, &ask.path.id)?;
        Ok(merchant_view(id, row))
    }

    pub(in super::super) async fn create(ask: Ask<(), (), New<MerchantPart>>) -> Answered<MerchantView> {
        let (app, id, _) = super::create(ask, Thing::Merchant).await?;
        Ok(merchant_view(id, stored(&app, id)?).at(&format!("/api/v1/merchants/{id}")))
    }

    pub(in super::super) async fn change(ask: Ask<ById, (), Patch<MerchantPart>>) -> Answered<MerchantView> {
        let (app, id) = super::change(ask, Kind::Merchant).await?;
        Ok(merchant_view(id, stored(&app, id)?))
    }

    pub(in super::super) async fn remove(ask: Ask<ById>) -> Answered<()> {
        super::remove(ask, Kind::Merchant).await
    }
}

fn connection_view(app: &App, id: Id, row: Stored, webhook_key: Option<String>) -> Reply<ConnectionView> {
    let world = app.engine.world();
    let merchant = row.merchant.unwrap_or(id);
    let view = ConnectionView {
        id,
        slug: row.slug,
        merchant,
        merchant_slug: world.merchants.get(&merchant).map(|(slug, _)| slug.clone()).unwrap_or_default(),
        provider: row.doc["provider"].as_str().unwrap_or_default().to_owned(),
        outlet: row.doc["outlet"].as_str().and_then(|outlet| outlet.parse().ok()),
        settings: row.doc["settings"].clone(),
        secrets: row.secrets,
        paused: row.doc["paused"] == true,
        polls: row.doc["poll"] == true,
        low_balance: row.doc["low_balance"].as_str().map(str::to_owned),
        hook: format!("/hooks/{id}"),
        breaker: app.engine.open_breaker(id).map(|open| json!(open)),
        broken: world.broken.iter().find(|(broken, _)| *broken == id).map(|(_, why)| why.clone()),
        version: row.version,
        webhook_key,
    };
    Reply::new(view).version(row.version)
}

pub(super) mod connections {
    use super::*;

    pub(in super::super) async fn list(ask: Ask<(), OfMerchant>) -> Answered<Page<ConnectionView>> {
        let rows = rows(&ask.app, &ask.caller, Kind::Connection, ask.query.merchant.as_deref())?;
        reply(Page::whole(rows.into_iter().map(|(id, row)| connection_view(&ask.app, id, row, None).into_value()).collect()))
    }

    pub(in super::super) async fn show(ask: Ask<ById>) -> Answered<ConnectionView> {
        let (id, row) = row(&ask.app, &ask.caller, Kind::Connection, &ask.path.id)?;
        Ok(connection_view(&ask.app, id, row, None))
    }

    pub(in super::super) async fn create(ask: Ask<(), (), New<ConnectionPart>>) -> Answered<ConnectionView> {
        let (app, id, key) = super::create(ask, Thing::Connection).await?;
        Ok(connection_view(&app, id, stored(&app, id)?, key).at(&format!("/api/v1/connections/{id}")))
    }

    pub(in super::super) async fn change(ask: Ask<ById, (), Patch<ConnectionPart>>) -> Answered<ConnectionView> {
        let (app, id) = super::change(ask, Kind::Connection).await?;
        Ok(connection_view(&app, id, stored(&app, id)?, None))
    }

    pub(in super::super) async fn remove(ask: Ask<ById>) -> Answered<()> {
        super::remove(ask, Kind::Connection).await
    }

    pub(in super::super) async fn pause(ask: Ask<ById>) -> Answered<ConnectionView> {
        set_paused(ask, true).await
    }

    pub(in super::super) async fn resume(ask: Ask<ById>) -> Answered<ConnectionView> {
        set_paused(ask, false).await
    }

    async fn set_paused(ask: Ask<ById>, paused: bool) -> Answered<ConnectionView> {
        let Ask { app, caller, path, .. } = ask;
        let (id, _) = row(&app, &caller, Kind::Connection, &path.id)?;
        app.engine.change(id, &json!({ "paused": paused }), None, caller.holder.name()).await?;
        Ok(connection_view(&app, id, stored(&app, id)?, None))
    }
}

fn flow_view(app: &App, id: Id, row: Stored) -> Answered<FlowView> {
    let world = app.engine.world();
    let rule =
        serde_json::from_value(row.doc).map_err(|_| Problem::conflict("this flow was stored by another version of the hub"))?;
    let view = FlowView {
        id,
        slug: row.slug,
        merchant: row.merchant.unwrap_or(id),
        version: row.version,
        broken: world.broken.iter().find(|(broken, _)| *broken == id).map(|(_, why)| why.clone()),
        rule,
    };
    Ok(Reply::new(view).version(row.version))
}

pub(super) mod flows {
    use super::*;

    pub(in super::super) async fn list(ask: Ask<(), OfMerchant>) -> Answered<Page<FlowView>> {
        let rows = rows(&ask.app, &ask.caller, Kind::Flow, ask.query.merchant.as_deref())?;
        let views = rows.into_iter().map(|(id, row)| Ok(flow_view(&ask.app, id, row)?.into_value()));
        reply(Page::whole(views.collect::<Result<_, Problem>>()?))
    }

    pub(in super::super) async fn show(ask: Ask<ById>) -> Answered<FlowView> {
        let (id, row) = row(&ask.app, &ask.caller, Kind::Flow, &ask.path.id)?;
        flow_view(&ask.app, id, row)
    }

    pub(in super::super) async fn create(ask: Ask<(), (), New<FlowPart>>) -> Answered<FlowView> {
        let (app, id, _) = super::create(ask, Thing::Flow).await?;
        Ok(flow_view(&app, id, stored(&app, id)?)?.at(&format!("/api/v1/flows/{id}")))
    }

    pub(in super::super) async fn change(ask: Ask<ById, (), Patch<FlowPart>>) -> Answered<FlowView> {
        let (app, id) = super::change(ask, Kind::Flow).await?;
        flow_view(&app, id, stored(&app, id)?)
    }

    pub(in super::super) async fn remove(ask: Ask<ById>) -> Answered<()> {
        super::remove(ask, Kind::Flow).await
    }

    /// What it was before, newest first.
    pub(in super::super) async fn versions(ask: Ask<ById>) -> Answered<Page<SetupVersion>> {
        let (id, _) = row(&ask.app, &ask.caller, Kind::Flow, &ask.path.id)?;
        reply(Page::whole(ask.app.engine.store.setup_versions(id, 100).await?))
    }

    /// Which version of which flow.
    #[derive(Debug, Deserialize, JsonSchema)]
    pub(in super::super) struct ByVersion {
        /// The flow, by id or slug.
        id: String,
        /// Which version.
        version: i64,
    }

    /// Makes it what it was; that is a new version.
    pub(in super::super) async fn restore(ask: Ask<ByVersion>) -> Answered<FlowView> {
        let Ask { app, caller, path, .. } = ask;
        let (id, now) = row(&app, &caller, Kind::Flow, &path.id)?;
        let versions = app.engine.store.setup_versions(id, 100).await?;
        let before = versions.into_iter().find(|version| version.version == path.version);
        let before = before.ok_or_else(|| Problem::not_found("no such version"))?;
        // What stands now and did not then is taken away.
        let names = now.doc.as_object().into_iter().flat_map(Map::keys);
        let mut patch: Map<String, Value> = names.map(|name| (name.clone(), Value::Null)).collect();
        patch.extend(before.doc.as_object().cloned().unwrap_or_default());
        app.engine.change(id, &Value::Object(patch), None, caller.holder.name()).await?;
        flow_view(&app, id, stored(&app, id)?)
    }
}

pub(super) mod outlets {
    use jiff::Timestamp;
    use uzel_engine::{bridge::Which, review::Maps};

    use super::*;

    /// A point of sale. It has the names of the requirement's platform.
    #[derive(Debug, Serialize, JsonSchema)]
    #[serde(rename_all = "camelCase")]
    pub(in super::super) struct OutletView {
        /// Its id.
        id: Id,
        /// Its unique name.
        slug: String,
        /// Whose it is.
        merchant_id: Id,
        /// As people call it.
        name: String,
        /// Time zone, for instance `Europe/Moscow`.
        zone: String,
        /// Country of phones without a code.
        country: String,
        /// `PC_POS`, `SMART` or `VIRTUAL`.
        pos_type: String,
        /// When its till was last heard of: as somebody said, or when it last moved points.
        pos_last_seen_at: Option<Timestamp>,
        /// Where it stands, as people write it.
        address: Option<String>,
        /// `ACTIVE` or `INACTIVE`: a mark for people, its till works on.
        status: &'static str,
        /// Not shown to customers.
        hidden: bool,
        /// When it was set up.
        created_at: Timestamp,
        /// When it was last changed.
        updated_at: Timestamp,
        /// Its pages on maps.
        maps: Maps,
        /// Whether there is a bridge secret.
        bridge_secret_issued: bool,
        /// Whether there is a next one, to be promoted.
        bridge_secret_next_issued: bool,
        /// When one of the two was last issued.
        bridge_secret_updated_at: Option<Timestamp>,
        /// Counts up with every change.
        version: i64,
    }

    /// An outlet of a merchant, each by id or slug.
    #[derive(Debug, Deserialize, JsonSchema)]
    pub(in super::super) struct OutletPath {
        /// The merchant, by id or slug.
        pub(in super::super) id: String,
        /// The outlet, by id or slug.
        outlet: String,
    }

    /// An outlet to be made.
    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[schemars(example = json!({ "slug": "arbat", "name": "Café on Arbat", "zone": "Europe/Moscow", "pos_type": "PC_POS" }))]
    pub(in super::super) struct NewOutlet {
        /// Unique name of `[a-z0-9-]`.
        slug: String,
        /// As people call it.
        name: Option<String>,
        /// Time zone by name, for instance `Europe/Moscow`.
        zone: String,
        /// Country of phones without a code; by default the merchant's.
        country: Option<String>,
        /// `PC_POS`, `SMART` or `VIRTUAL`.
        pos_type: Option<String>,
        /// Where it stands, as people write it.
        address: Option<String>,
        /// Not shown to customers.
        hidden: Option<bool>,
        /// A mark for people; its till works on.
        inactive: Option<bool>,
        /// Its pages on maps, which guests who leave a review are sent on to.
        maps: Option<Maps>,
    }

    /// What kind of till an outlet has.
    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase")]
    #[schemars(example = json!({ "posType": "PC_POS" }))]
    pub(in super::super) struct Pos {
        /// `PC_POS`, `SMART` or `VIRTUAL`, in any case; nothing means `VIRTUAL`.
        pos_type: Option<String>,
        /// When it was last heard of.
        pos_last_seen_at: Option<Timestamp>,
    }

    /// A secret, shown once.
    #[derive(Debug, Serialize, JsonSchema)]
    pub(in super::super) struct SecretView {
        /// The secret itself.
        secret: String,
    }

    /// It is as was asked.
    #[derive(Debug, Serialize, JsonSchema)]
    pub(in super::super) struct Done {
        /// `true`.
        pub(in super::super) ok: bool,
    }

    pub(in super::super) async fn view(app: &App, id: Id, row: Stored) -> Answered<OutletView> {
        let merchant = row.merchant.unwrap_or(id);
        let seen_at = app.engine.outlet_seen_at(merchant, id).await?;
        let created_at = Timestamp::from_millisecond(id.ordinal() >> 12).unwrap_or(Timestamp::UNIX_EPOCH);
        let changed = app.engine.store.setup_versions(id, 1).await?;
        let text = |name: &str| row.doc[name].as_str().unwrap_or_default().to_owned();
        let time = |value: &Value| value.as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let bridge = &row.doc["bridge"];
        let (current, next) = (time(&bridge["current_at"]), time(&bridge["next_at"]));
        let view = OutletView {
            id,
            merchant_id: merchant,
            name: text("name"),
            address: row.doc["address"].as_str().map(str::to_owned),
            status: if row.doc["inactive"] == true { "INACTIVE" } else { "ACTIVE" },
            hidden: row.doc["hidden"] == true,
            created_at,
            updated_at: changed.first().map_or(created_at, |version| version.at),
            zone: text("zone"),
            country: text("country"),
            pos_type: text("pos_type"),
            pos_last_seen_at: seen_at,
            maps: serde_json::from_value(row.doc["maps"].clone()).unwrap_or_default(),
            bridge_secret_issued: current.is_some(),
            bridge_secret_next_issued: next.is_some(),
            bridge_secret_updated_at: current.max(next),
            version: row.version,
            slug: row.slug,
        };
        Ok(Reply::new(view).version(row.version))
    }

    pub(in super::super) async fn views(app: &App, rows: Vec<(Id, Stored)>) -> Result<Vec<OutletView>, Problem> {
        let mut views = Vec::with_capacity(rows.len());
        for (id, row) in rows {
            views.push(view(app, id, row).await?.into_value());
        }
        Ok(views)
    }

    pub(in super::super) fn find(app: &App, caller: &Caller, path: &OutletPath) -> Result<(Id, Stored), Problem> {
        let merchant = caller.merchant(app, &path.id)?;
        let world = app.engine.world();
        let mut rows = world.rows.iter().filter(|(id, row)| id.kind() == Kind::Outlet && row.merchant == Some(merchant));
        let found = rows.find(|(id, row)| row.slug == path.outlet || id.to_string() == path.outlet);
        found.map(|(id, row)| (*id, row.clone())).ok_or_else(|| Problem::not_found("no such outlet"))
    }

    pub(in super::super) async fn list(ask: Ask<ById>) -> Answered<Page<OutletView>> {
        let rows = rows(&ask.app, &ask.caller, Kind::Outlet, Some(&ask.path.id))?;
        reply(Page::whole(views(&ask.app, rows).await?))
    }

    pub(in super::super) async fn show(ask: Ask<OutletPath>) -> Answered<OutletView> {
        let (id, row) = find(&ask.app, &ask.caller, &ask.path)?;
        view(&ask.app, id, row).await
    }

    pub(in super::super) async fn create(ask: Ask<ById, (), NewOutlet>) -> Answered<OutletView> {
        let Ask { app, caller, path, body, .. } = ask;
        let merchant = caller.merchant(&app, &path.id)?;
        let mut part = without_nulls(json!(body));
        part["merchant"] = json!(merchant);
        by_slug(&app, &mut part);
        let made = app.engine.create(Thing::Outlet, part, caller.holder.name()).await?;
        Ok(view(&app, made.id, stored(&app, made.id)?).await?.at(&format!("/api/v1/merchants/{merchant}/outlets/{}", made.id)))
    }

    pub(in super::super) async fn change(ask: Ask<OutletPath, (), Patch<NewOutlet>>) -> Answered<OutletView> {
        let version = ask.if_match()?;
        let Ask { app, caller, path, body, .. } = ask;
        let (id, _) = find(&app, &caller, &path)?;
        app.engine.change(id, &body.into_value(), version, caller.holder.name()).await?;
        view(&app, id, stored(&app, id)?).await
    }

    pub(in super::super) async fn remove(ask: Ask<OutletPath>) -> Answered<()> {
        let version = ask.if_match()?;
        let (id, _) = find(&ask.app, &ask.caller, &ask.path)?;
        ask.app.engine.remove(id, version, ask.caller.holder.name()).await?;
        reply(())
    }

    pub(in super::super) async fn pos(ask: Ask<OutletPath, (), Pos>) -> Answered<OutletView> {
        let Ask { app, caller, path, body, .. } = ask;
        let (id, _) = find(&app, &caller, &path)?;
        let kind = body.pos_type.unwrap_or_default().to_ascii_uppercase();
        let kind = if kind.is_empty() { "VIRTUAL".to_owned() } else { kind };
        if !["PC_POS", "SMART", "VIRTUAL"].contains(&kind.as_str()) {
            let fault = uzel_model::check::Fault::new("/posType", "Invalid posType: `PC_POS`, `SMART` and `VIRTUAL` are known");
            return Err(Problem::unreadable("body", fault));
        }
        app.engine.set_pos(id, &kind, body.pos_last_seen_at, caller.holder.name()).await?;
        view(&app, id, stored(&app, id)?).await
    }

    pub(in super::super) async fn issue(ask: Ask<OutletPath>) -> Answered<SecretView> {
        issue_one(ask, Which::Current).await
    }

    pub(in super::super) async fn issue_next(ask: Ask<OutletPath>) -> Answered<SecretView> {
        issue_one(ask, Which::Next).await
    }

    async fn issue_one(ask: Ask<OutletPath>, which: Which) -> Answered<SecretView> {
        let (id, _) = find(&ask.app, &ask.caller, &ask.path)?;
        let secret = ask.app.engine.issue_bridge_secret(id, which, ask.caller.holder.name()).await?;
        reply(SecretView { secret: secret.expose().to_owned() })
    }

    pub(in super::super) async fn withdraw(ask: Ask<OutletPath>) -> Answered<Done> {
        withdraw_one(ask, Which::Current).await
    }

    pub(in super::super) async fn withdraw_next(ask: Ask<OutletPath>) -> Answered<Done> {
        withdraw_one(ask, Which::Next).await
    }

    async fn withdraw_one(ask: Ask<OutletPath>, which: Which) -> Answered<Done> {
        let (id, _) = find(&ask.app, &ask.caller, &ask.path)?;
        ask.app.engine.remove_bridge_secret(id, which, ask.caller.holder.name()).await?;
        reply(Done { ok: true })
    }

    pub(in super::super) async fn promote(ask: Ask<OutletPath>) -> Answered<OutletView> {
        let (id, _) = find(&ask.app, &ask.caller, &ask.path)?;
        ask.app.engine.promote_bridge_secret(id, ask.caller.holder.name()).await?;
        view(&ask.app, id, stored(&ask.app, id)?).await
    }
}
