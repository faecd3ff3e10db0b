//! Devices of recipients at rest. Whoever knows a device's address may write to it, so addresses lie sealed beside the recipient's row;
//! the row, and commands, have names that stand for them. What its browser or application has not registered for two months is forgotten.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use uzel_model::{Address, CallError, Id, Refusal, Secret, signature};
use uzel_store::StoreError;

use super::{Bound, RecipientDoc};
use crate::{Engine, Link, World};

/// How a name begins: no subscription and no token does.
const NAME: &str = "sealed/";
/// Browsers and applications register at each start.
const UNSEEN_MAX: SignedDuration = SignedDuration::from_hours(61 * 24);

/// Devices by their names.
pub(crate) type Devices = BTreeMap<String, Secret>;

/// As settings are unsealed.
pub(crate) fn read(hidden: Map<String, Value>) -> Devices {
    hidden.into_iter().filter_map(|(name, device)| Some((name, Secret::new(device.as_str()?)))).collect()
}

/// The address by which a device is kept: its name. Any other is kept as it is.
pub(crate) fn kept(to: &Address) -> Address {
    match to {
        Address::Device(device) if !device.starts_with(NAME) => {
            Address::Device(format!("{NAME}{}", &signature::sha256_hex([device.as_bytes()])[..40]))
        }
        other => other.clone(),
    }
}

impl RecipientDoc {
    /// Puts names in the place of devices that stand here as they are, and those devices among the sealed ones. What one of the two
    /// does not have goes from the other.
    pub(crate) fn seal(&mut self, devices: &mut Map<String, Value>) {
        let mut bound: Vec<Bound> = Vec::new();
        for mut next in std::mem::take(&mut self.bound) {
            let name = kept(&next.to);
            if let (Address::Device(device), Address::Device(name)) = (&next.to, &name)
                && device != name
            {
                devices.insert(name.clone(), Value::String(device.clone()));
            }
            next.to = name;
            if !bound.iter().any(|known| (&known.via, &known.to) == (&next.via, &next.to)) {
                bound.push(next);
            }
        }
        bound.retain(|bound| !matches!(&bound.to, Address::Device(name) if !devices.contains_key(name)));
        devices.retain(|name, _| bound.iter().any(|bound| matches!(&bound.to, Address::Device(known) if known == name)));
        self.bound = bound;
    }

    /// Takes out devices that nobody has registered for too long; whether there is anything to be changed.
    fn sweep(&mut self, now: Timestamp) -> bool {
        let before = self.bound.len();
        let is_open = self.bound.iter().any(|bound| kept(&bound.to) != bound.to);
        self.bound.retain(|bound| {
            let until = bound.at.saturating_add(UNSEEN_MAX).unwrap_or(Timestamp::MAX);
            !matches!(bound.to, Address::Device(_)) || until > now
        });
        is_open || self.bound.len() < before
    }
}

impl World {
    /// Where a message to this address really goes; nothing where nobody has the device any more.
    fn real(&self, merchant: Id, to: &Address) -> Option<Address> {
        let Address::Device(name) = to else { return Some(to.clone()) };
        if !name.starts_with(NAME) {
            return Some(to.clone());
        }
        let device = self.recipients_of(merchant).find_map(|recipient| recipient.devices.get(name))?;
        Some(Address::Device(device.expose().to_owned()))
    }
}

/// Where a message to this address really goes.
pub(crate) async fn open(engine: &Engine, link: &Link, to: &Address) -> Result<Address, CallError> {
    let mut found = engine.world().real(link.merchant, to);
    if found.is_none() && engine.store.shared() {
        // Another node may have bound it a moment ago.
        let reloaded = engine.reload().await;
        reloaded.map_err(|error| CallError::Later { reason: format!("the device cannot be read: {error}"), at: None })?;
        found = engine.world().real(link.merchant, to);
    }
    found.ok_or_else(|| CallError::refused(Refusal::NotHere, "gone", "this device was taken away"))
}

impl Engine {
    /// Forgets devices that nobody has registered for too long, and seals what an earlier version of the hub left open.
    pub(crate) async fn sweep_devices(self: &Arc<Self>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let world = self.world();
        for recipient in world.recipients() {
            // Their way was taken away.
            let is_unbound = |name: &String| !recipient.doc.bound.iter().any(|bound| bound.to == Address::Device(name.clone()));
            let has_more = recipient.devices.keys().any(is_unbound);
            if has_more || recipient.doc.clone().sweep(now) {
                let change = move |doc: &mut RecipientDoc| doc.sweep(now) || has_more;
                self.alter_recipient(recipient.id, "hub", "recipient.sweep", change).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn doc(bound: &[(&str, i64)]) -> RecipientDoc {
        let mut doc: RecipientDoc = serde_json::from_value(json!({ "addresses": [{ "via": "push" }] })).unwrap();
        let bound = bound.iter().map(|(device, at)| Bound {
            via: "push".to_owned(),
            to: Address::Device((*device).to_owned()),
            at: Timestamp::from_second(at * 86_400).unwrap(),
        });
        doc.bound = bound.collect();
        doc
    }

    #[test]
    fn a_row_has_a_name_for_each_device_and_the_device_lies_beside_it() {
        let mut devices = Map::new();
        let mut row = doc(&[("token-1", 2), ("token-2", 1)]);
        row.seal(&mut devices);
        let text = json!(row).to_string();
        assert!(!text.contains("token") && devices.len() == 2, "{text}");
        // The same device again is one; one without its address, and an address without its row, are gone.
        row.bound.insert(0, doc(&[("token-1", 9)]).bound.remove(0));
        row.bound.remove(2);
        row.bound.push(doc(&[("sealed/nothing", 9)]).bound.remove(0));
        row.seal(&mut devices);
        assert_eq!((row.bound.len(), devices.values().collect::<Vec<_>>()), (1, vec![&json!("token-1")]));
        assert_eq!(row.bound[0].at.as_second(), 9 * 86_400);
    }

    #[test]
    fn what_was_not_registered_for_two_months_is_taken_out_and_what_stands_open_is_changed() {
        let on = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let mut open = doc(&[("token-1", 10), ("token-2", 40)]);
        assert!(open.sweep(on(20)) && open.bound.len() == 2);
        open.seal(&mut Map::new());
        assert!(!open.sweep(on(70)) && open.bound.len() == 2);
        assert!(open.sweep(on(72)) && open.bound.len() == 1);
    }
}
