//! Single things set up, changed and taken away, by the same checks as a whole file.
//!
//! A change is a JSON merge patch (RFC 7396) of what stands. Secrets that it does not name stay, unless the connection is pointed
//! elsewhere with it: then they must be given again.

use std::sync::Arc;

use serde_json::{Value, json};
use uzel_model::{Id, check::Fault, id::Kind};
use uzel_store::{Audit, Setup, SetupRow, StoreError};

use super::{Leniency, Plan, TRIES_MAX};
use crate::{Engine, loyalty::programme::ProgrammeDoc, recipient::RecipientDoc, target::Target};

/// What can be set up by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    Merchant,
    Outlet,
    Connection,
    Flow,
    Recipient,
    /// One for each merchant.
    Programme,
}

impl Thing {
    /// The word for it in a setup file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Merchant => "merchant",
            Self::Outlet => "outlet",
            Self::Connection => "connection",
            Self::Flow => "flow",
            Self::Recipient => "recipient",
            Self::Programme => "programme",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Merchant => Kind::Merchant,
            Self::Outlet => Kind::Outlet,
            Self::Connection => Kind::Connection,
            Self::Flow => Kind::Flow,
            Self::Recipient => Kind::Recipient,
            Self::Programme => Kind::Programme,
        }
    }

    fn of(id: Id) -> Option<Self> {
        let all = [Self::Merchant, Self::Outlet, Self::Connection, Self::Flow, Self::Recipient, Self::Programme];
        all.into_iter().find(|thing| thing.kind() == id.kind())
    }
}

/// What was set up.
#[derive(Debug, Clone)]
pub struct Made {
    pub id: Id,
    /// A webhook key that was made with it: shown once.
    pub key: Option<String>,
}

/// Why nothing was changed.
#[derive(Debug, Clone)]
pub enum Unchanged {
    Faults(Vec<Fault>),
    Missing,
    /// It has another version than the one that was named.
    Changed,
    /// Something else still needs it.
    InUse(String),
    Store(StoreError),
}

impl From<StoreError> for Unchanged {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Engine {
    /// Sets up what is not there yet. Places of faults are those within it.
    pub async fn create(self: &Arc<Self>, thing: Thing, part: Value, by: &str) -> Result<Made, Unchanged> {
        self.put_one(thing, by, |_| Ok((part.clone(), 0))).await
    }

    /// Changes what is there, where it still has this version, if one is named.
    pub async fn change(self: &Arc<Self>, id: Id, patch: &Value, version: Option<i64>, by: &str) -> Result<Made, Unchanged> {
        let thing = Thing::of(id).ok_or(Unchanged::Missing)?;
        self.put_one(thing, by, |old| {
            let row = old.rows.iter().find(|row| row.id == id).ok_or(Unchanged::Missing)?;
            if version.is_some_and(|version| version != row.version) {
                return Err(Unchanged::Changed);
            }
            self.patched(thing, old, row, patch).map(|part| (part, row.version)).map_err(Unchanged::Faults)
        })
        .await
    }

    /// Takes away what nothing else needs.
    pub async fn remove(self: &Arc<Self>, id: Id, version: Option<i64>, by: &str) -> Result<(), Unchanged> {
        for _ in 0..TRIES_MAX {
            let old = self.store.setup().await?;
            let row = old.rows.iter().find(|row| row.id == id).ok_or(Unchanged::Missing)?;
            if version.is_some_and(|version| version != row.version) {
                return Err(Unchanged::Changed);
            }
            if let Some(why) = needed(&old, row) {
                return Err(Unchanged::InUse(why));
            }
            let word = Thing::of(id).map_or("endpoint", Thing::word);
            let audit = self.audit_row(by, &format!("{word}.remove"), row.merchant, id, json!({ "slug": row.slug }));
            let setup = Setup { removes: vec![id], expects: vec![(id, row.version)], audit: vec![audit], ..Setup::default() };
            match self.carry_out(Plan { setup, before: old, ..Plan::default() }).await {
                Err(StoreError::Conflict) if version.is_none() => {}
                Err(StoreError::Conflict) => return Err(Unchanged::Changed),
                done => return Ok(done?),
            }
        }
        Err(Unchanged::Store(StoreError::Busy))
    }

    async fn put_one(
        self: &Arc<Self>,
        thing: Thing,
        by: &str,
        part: impl Fn(&Setup) -> Result<(Value, i64), Unchanged>,
    ) -> Result<Made, Unchanged> {
        for _ in 0..TRIES_MAX {
            let (part, version) = part(&self.store.setup().await?)?;
            let file = json!({ thing.word(): [part] });
            let within = format!("/{}/0", thing.word());
            let inner = |fault: Fault| Fault { pointer: fault.pointer.replacen(&within, "", 1), ..fault };
            let mut plan = match self.plan_as(by, &file, Leniency::default()).await? {
                Ok(plan) => plan,
                Err(faults) => return Err(Unchanged::Faults(faults.into_iter().map(inner).collect())),
            };
            let Some(id) = plan.setup.rows.first().map(|row| row.id) else { return Err(Unchanged::Missing) };
            if version == 0 && plan.before.rows.iter().any(|row| row.id == id) {
                let fault = match thing {
                    Thing::Programme => Fault::new("/merchant", "has a programme already: change that"),
                    _ => Fault::new("/slug", "is taken: change what is there, or take another"),
                };
                return Err(Unchanged::Faults(vec![fault]));
            }
            plan.setup.expects = vec![(id, version)];
            let key = plan.keys.first().map(|(_, key)| key.clone());
            match self.carry_out(plan).await {
                // Somebody else was faster: it is looked at again.
                Err(StoreError::Conflict) => {}
                done => return Ok(done.map(|()| Made { id, key })?),
            }
        }
        Err(Unchanged::Store(StoreError::Busy))
    }

    /// What stands, as a file would say it, with the patch.
    fn patched(&self, thing: Thing, old: &Setup, row: &SetupRow, patch: &Value) -> Result<Value, Vec<Fault>> {
        let Some(fields) = patch.as_object() else { return Err(vec![Fault::new("", "must be a table of what changes")]) };
        let fixed = ["slug", "merchant", "provider"].into_iter().filter(|name| fields.contains_key(*name));
        let fixed: Vec<Fault> = fixed
            .filter(|name| !matches!(thing, Thing::Flow | Thing::Recipient | Thing::Programme) || *name != "provider")
            .map(|name| Fault::new(format!("/{name}"), "stays as it is: make a new one instead"))
            .collect();
        if !fixed.is_empty() {
            return Err(fixed);
        }
        let slug = |id: Option<Id>| old.rows.iter().find(|other| Some(other.id) == id).map(|other| other.slug.clone());
        let mut part = row.doc.clone();
        if thing != Thing::Programme {
            part["slug"] = json!(row.slug);
        }
        if let Some(merchant) = slug(row.merchant) {
            part["merchant"] = json!(merchant);
        }
        match thing {
            Thing::Connection => {
                let outlet = row.doc["outlet"].as_str().and_then(|id| id.parse().ok());
                part["outlet"] = json!(slug(outlet));
                part["settings"] = self.settings_of(row, patch)?;
                without(&mut part, &["made_at"]);
            }
            Thing::Outlet => without(&mut part, &["bridge", "pos_seen_at"]),
            Thing::Recipient => without(&mut part, RecipientDoc::OWN),
            Thing::Programme => without(&mut part, ProgrammeDoc::OWN),
            Thing::Merchant | Thing::Flow => {}
        }
        merge(&mut part, patch);
        Ok(part)
    }

    /// The settings of a connection, with its secrets where its calls go on to the same place.
    fn settings_of(&self, row: &SetupRow, patch: &Value) -> Result<Value, Vec<Fault>> {
        let open = row.doc["settings"].clone();
        let mut next = open.clone();
        merge(&mut next, patch.get("settings").unwrap_or(&json!({})));
        let provider = self.providers.iter().find(|provider| Some(provider.id) == row.doc["provider"].as_str());
        let target = |settings: &Value| Some(Target::new(provider?, settings.as_object()?));
        if target(&open) != target(&next) {
            return Ok(open);
        }
        let mut settings = open;
        if let (Some(settings), Some(sealed), Some(merchant)) = (settings.as_object_mut(), &row.sealed, row.merchant) {
            let hidden = self.vault.unseal_settings(merchant, row.id, sealed);
            settings.extend(hidden.map_err(|error| vec![Fault::new("", error.to_string())])?);
        }
        Ok(settings)
    }

    /// Writes down that somebody did something that no setup row shows.
    pub async fn audit(
        &self,
        by: &str,
        action: &str,
        merchant: Option<Id>,
        object: impl ToString,
        detail: Value,
    ) -> Result<(), StoreError> {
        self.store.put_audit(vec![self.audit_row(by, action, merchant, object, detail)]).await
    }

    /// What a row of a merchant hides, sealed; a key that is made for it is stored first.
    pub(crate) async fn seal_row(&self, setup: &Setup, row: &SetupRow, hidden: Value) -> Result<Option<Vec<u8>>, StoreError> {
        let (Some(merchant), Value::Object(hidden)) = (row.merchant, hidden) else { return Ok(None) };
        let mut sealer = self.vault.sealer();
        let sealed = sealer.settings(merchant, row.id, &hidden);
        if let Some(made) = sealer.made(&setup.envelopes) {
            self.store.rekey(made).await?;
        }
        Ok(Some(sealed))
    }

    pub(crate) fn audit_row(&self, by: &str, action: &str, merchant: Option<Id>, object: impl ToString, detail: Value) -> Audit {
        Audit {
            id: Id::new(Kind::Audit),
            at: self.clock.now(),
            merchant,
            by: by.to_owned(),
            action: action.to_owned(),
            object: object.to_string(),
            detail,
        }
    }
}

fn without(part: &mut Value, names: &[&str]) {
    if let Some(fields) = part.as_object_mut() {
        fields.retain(|name, _| !names.contains(&name.as_str()));
    }
}

/// A JSON merge patch, by RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, change) in changes {
        if change.is_null() {
            without(target, &[name]);
        } else {
            merge(&mut target[name], change);
        }
    }
}

/// What still needs a row.
fn needed(setup: &Setup, row: &SetupRow) -> Option<String> {
    let named = |row: &SetupRow| {
        Thing::of(row.id).map_or_else(|| "an endpoint".to_owned(), |thing| format!("{} `{}`", thing.word(), row.slug))
    };
    let id = json!(row.id);
    let needs = |other: &&SetupRow| match row.id.kind() {
        Kind::Merchant => other.merchant == Some(row.id),
        Kind::Outlet => {
            other.id.kind() == Kind::Connection && other.doc["outlet"] == id
                || other.merchant == row.merchant && RecipientDoc::names_outlet(other, &row.slug)
        }
        Kind::Connection => {
            other.merchant == row.merchant
                && (other.id.kind() == Kind::Flow && goes_by(&other.doc, &row.slug)
                    || ProgrammeDoc::names_connection(other, &row.slug)
                    || RecipientDoc::names_connection(other, &row.slug))
        }
        _ => false,
    };
    setup.rows.iter().find(needs).map(|other| format!("{} still needs it: take that away first", named(other)))
}

/// Whether a flow sends by this connection, at whatever step.
fn goes_by(flow: &Value, slug: &str) -> bool {
    let named = |value: &Value| value.as_str() == Some(slug);
    let list = |name: &str| flow[name].as_array().into_iter().flatten();
    named(&flow["via"]) || list("via").any(named) || list("step").any(|step| named(&step["via"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_changes_what_it_names_and_takes_away_what_is_null() {
        let mut target = json!({ "a": 1, "b": { "c": 2, "d": 3 }, "e": [1] });
        merge(&mut target, &json!({ "a": null, "b": { "c": 4, "f": { "g": null } }, "e": [2] }));
        assert_eq!(target, json!({ "b": { "c": 4, "d": 3, "f": {} }, "e": [2] }));
    }
}
