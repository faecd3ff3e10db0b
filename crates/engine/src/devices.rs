//! Devices that get notices: each is of one person, registered by their browser or application, and forgotten when its push service
//! says that it is gone.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use uzel_model::{Address, Id, Secret, port::Device, signature};
use uzel_store::StoreError;

use crate::{
    Engine, Link, World,
    recipient::{Bound, Recipient, device},
};

/// A device, without what would let anybody write to it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DeviceView {
    /// Made of what tells the device from others.
    pub id: String,
    /// The connection that sends, by its slug.
    pub via: String,
    /// The push service's host, or the provider's name.
    pub service: String,
    /// When it was registered last.
    pub at: Timestamp,
}

/// Why a device was not registered.
#[derive(Debug, Clone)]
pub enum NoDevice {
    /// What is wrong, and in which field.
    Invalid(&'static str, String),
    Store(StoreError),
}

impl From<StoreError> for NoDevice {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Engine {
    /// The devices of a recipient, the newest first.
    pub fn devices(&self, recipient: Id) -> Vec<DeviceView> {
        let world = self.world();
        let Some(recipient) = world.recipients().find(|known| known.id == recipient) else { return Vec::new() };
        let own = recipient.doc.bound.iter();
        own.filter_map(|bound| Some(view(bound, &device_of(&world, recipient, bound)?.1))).collect()
    }

    /// Registers a device of a recipient. One that was another person's, or had other keys, is this one's as it is now.
    pub async fn register_device(
        self: &Arc<Self>,
        recipient: Id,
        via: &str,
        given: &str,
        by: &str,
    ) -> Result<DeviceView, NoDevice> {
        let world = self.world();
        let known = world.recipients().find(|known| known.id == recipient).cloned();
        let known = known.ok_or_else(|| NoDevice::Invalid("", "no such recipient".to_owned()))?;
        if !known.doc.rule.addresses.iter().any(|way| way.via == via) {
            return Err(NoDevice::Invalid("via", format!("`{via}` is not among the addresses of this recipient")));
        }
        let link = world.link_of(known.merchant, via);
        let messages = link.and_then(|link| link.connector.messages());
        let messages = messages.ok_or_else(|| NoDevice::Invalid("via", format!("no connection `{via}` that can be used")))?;
        let device = messages.device(given).map_err(|why| NoDevice::Invalid("device", why))?;
        let kept = device::kept(&device.address);
        // Other rows of the same device go first: what is bound twice would be told twice.
        for (link, to) in same(&world, known.merchant, &device).into_iter().filter(|(_, to)| *to != kept) {
            self.unbind(link.id, &to, by).await?;
        }
        for other in world.recipients_of(known.merchant).filter(|other| other.id != recipient) {
            if let Some(bound) = other.doc.bound.iter().find(|bound| bound.to == kept)
                && let Some(link) = world.link_of(known.merchant, &bound.via)
            {
                self.unbind(link.id, &bound.to, by).await?;
            }
        }
        self.bind(recipient, via, device.address.clone(), by).await?;
        let at = self.clock.now();
        Ok(view(&Bound { via: via.to_owned(), to: device.address.clone(), at }, &device))
    }

    /// Takes a device away from a recipient; `false` where they have none of this id.
    pub async fn remove_device(self: &Arc<Self>, recipient: Id, id: &str, by: &str) -> Result<bool, StoreError> {
        let world = self.world();
        let Some(known) = world.recipients().find(|known| known.id == recipient) else { return Ok(false) };
        let found = known.doc.bound.iter().find_map(|bound| {
            let (link, device) = device_of(&world, known, bound)?;
            (device_id(&device) == id).then(|| (link.id, bound.to.clone()))
        });
        let Some((link, to)) = found else { return Ok(false) };
        Ok(self.unbind(link, &to, by).await? > 0)
    }
}

fn device_id(device: &Device) -> String {
    signature::sha256_hex([device.name.as_bytes()])[..32].to_owned()
}

fn view(bound: &Bound, device: &Device) -> DeviceView {
    DeviceView { id: device_id(device), via: bound.via.clone(), service: device.shown.clone(), at: bound.at }
}

fn device_of(world: &World, recipient: &Recipient, bound: &Bound) -> Option<(Arc<Link>, Device)> {
    let Address::Device(name) = &bound.to else { return None };
    let link = world.link_of(recipient.merchant, &bound.via)?;
    // What an earlier version of the hub left open is its own name, until it is sealed.
    let address = recipient.devices.get(name).map_or(name.as_str(), Secret::expose);
    let device = link.connector.messages()?.device(address).ok()?;
    Some((link.clone(), device))
}

/// Everywhere where this device is bound.
fn same(world: &World, merchant: Id, device: &Device) -> Vec<(Arc<Link>, Address)> {
    let bound =
        world.recipients_of(merchant).flat_map(|recipient| recipient.doc.bound.iter().map(move |bound| (recipient, bound)));
    let found = bound.filter_map(|(recipient, bound)| Some((device_of(world, recipient, bound)?, bound.to.clone())));
    found.filter(|((_, known), _)| known.name == device.name).map(|((link, _), to)| (link, to)).collect()
}
