//! Devices of recipients: browsers and applications that get notices.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_engine::devices::{DeviceView, NoDevice};
use uzel_model::{check::Fault, id::Kind};

use super::{
    page::Page,
    route::{Answered, Ask, ById, reply},
    setup::row,
};
use crate::Problem;

/// A device as its browser or application tells it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "via": "push", "device": { "endpoint": "https://push.example.net/…", "keys": { "p256dh": "…", "auth": "…" } } }))]
pub(super) struct DeviceRequest {
    /// The connection that sends, by its slug.
    via: String,
    /// A browser's subscription (`PushSubscription.toJSON()`), or a registration token of FCM as a text.
    device: Value,
}

pub(super) async fn list(ask: Ask<ById>) -> Answered<Page<DeviceView>> {
    let (id, _) = row(&ask.app, &ask.caller, Kind::Recipient, &ask.path.id)?;
    reply(Page::whole(ask.app.engine.devices(id)))
}

/// Once more for a device that is there changes nothing but its keys.
pub(super) async fn register(ask: Ask<ById, (), DeviceRequest>) -> Answered<DeviceView> {
    let Ask { app, caller, path, body, .. } = ask;
    let (id, _) = row(&app, &caller, Kind::Recipient, &path.id)?;
    let given = match &body.device {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let registered = app.engine.register_device(id, &body.via, &given, caller.holder.name()).await;
    reply(registered.map_err(|why| match why {
        NoDevice::Invalid(field, why) => Problem::invalid(vec![Fault::new(format!("/{field}"), why)]),
        NoDevice::Store(error) => Problem::from(error),
    })?)
}

/// A recipient, and one of their devices.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ByDevice {
    /// The recipient.
    id: String,
    /// The device, by its id.
    device: String,
}

pub(super) async fn remove(ask: Ask<ByDevice>) -> Answered<()> {
    let Ask { app, caller, path, .. } = ask;
    let (id, _) = row(&app, &caller, Kind::Recipient, &path.id)?;
    match app.engine.remove_device(id, &path.device, caller.holder.name()).await? {
        true => reply(()),
        false => Err(Problem::not_found("no such device")),
    }
}
