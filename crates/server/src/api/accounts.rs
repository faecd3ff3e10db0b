//! The account at a provider: how it stands, whom the provider writes to no more, calls that prove a phone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_engine::{Imported, Link};
use uzel_model::{
    check::Fault,
    phone,
    port::{CallCheck, CallCheckState, Standing, Stopped},
    signature,
};

use super::{
    journal::Masking,
    mask::mask_text,
    page::Page,
    route::{Answered, Ask, ById, reply},
};
use crate::Problem;

const NOTE_CHARS_MAX: usize = 200;
const CHECK_CHARS_MAX: usize = 100;

/// How the account stands.
pub(super) async fn account(ask: Ask<ById>) -> Answered<Standing> {
    let link = ask.caller.connection(&ask.app, &ask.path.id)?;
    reply(ask.app.engine.account(&link).await.map_err(Problem::failed)?)
}

pub(super) async fn stop_list(ask: Ask<ById, Masking>) -> Answered<Page<Stopped>> {
    let Ask { app, caller, path, query, .. } = ask;
    let link = caller.connection(&app, &path.id)?;
    let mut stopped = app.engine.stop_list(&link).await.map_err(Problem::failed)?;
    if !(query.unmasked && caller.is_owner()) {
        for row in &mut stopped {
            row.phone = mask_text(&row.phone);
            row.note = row.note.as_deref().map(mask_text);
        }
    }
    reply(Page::whole(stopped))
}

/// Whom the provider is to write to no more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "phone": "+79991234567", "note": "asked us at the counter" }))]
pub(super) struct StopRequest {
    /// Whose phone.
    phone: String,
    /// Why; it stands in the provider's list.
    #[serde(default)]
    note: String,
}

/// The list was changed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StopView {
    /// Masked.
    phone: String,
    /// Whether it is on the list now.
    stopped: bool,
}

pub(super) async fn stop(ask: Ask<ById, (), StopRequest>) -> Answered<StopView> {
    let Ask { app, caller, path, body, .. } = ask;
    let link = caller.connection(&app, &path.id)?;
    let phone = read_phone(&link, &body.phone)?;
    if body.note.chars().count() > NOTE_CHARS_MAX {
        let why = format!("is longer than {NOTE_CHARS_MAX} characters");
        return Err(Problem::invalid(vec![Fault::new("/note", why)]));
    }
    app.engine.put_on_stop_list(&link, phone.e164.clone(), body.note).await.map_err(Problem::failed)?;
    let detail = json!({ "record": record(&phone.e164) });
    app.engine.audit(caller.holder.name(), "stop_list.add", Some(link.merchant), link.id, detail).await?;
    reply(StopView { phone: phone.masked(), stopped: true })
}

/// Whom the provider may write to again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "phone": "+79991234567" }))]
pub(super) struct PhoneRequest {
    /// Whose phone.
    phone: String,
}

pub(super) async fn unstop(ask: Ask<ById, (), PhoneRequest>) -> Answered<StopView> {
    let Ask { app, caller, path, body, .. } = ask;
    let link = caller.connection(&app, &path.id)?;
    let phone = read_phone(&link, &body.phone)?;
    app.engine.take_off_stop_list(&link, phone.e164.clone()).await.map_err(Problem::failed)?;
    let detail = json!({ "record": record(&phone.e164) });
    app.engine.audit(caller.holder.name(), "stop_list.remove", Some(link.merchant), link.id, detail).await?;
    reply(StopView { phone: phone.masked(), stopped: false })
}

pub(super) async fn import(ask: Ask<ById>) -> Answered<Imported> {
    let Ask { app, caller, path, .. } = ask;
    let link = caller.connection(&app, &path.id)?;
    let imported = app.engine.import_stop_list(&link).await.map_err(Problem::failed)?;
    app.engine.audit(caller.holder.name(), "stop_list.import", Some(link.merchant), link.id, json!(imported)).await?;
    reply(imported)
}

pub(super) async fn begin_check(ask: Ask<ById, (), PhoneRequest>) -> Answered<CallCheck> {
    let Ask { app, caller, path, body, .. } = ask;
    let link = caller.connection(&app, &path.id)?;
    let phone = read_phone(&link, &body.phone)?;
    reply(app.engine.begin_call_check(&link, phone.e164).await.map_err(Problem::failed)?)
}

/// One check of one connection.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct CheckPath {
    /// Of the connection; its slug does as well.
    id: String,
    /// Id of the check, as it was given when it began.
    check: String,
}

/// How a check stands.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CheckView {
    /// As the provider says now.
    state: CallCheckState,
}

pub(super) async fn check(ask: Ask<CheckPath>) -> Answered<CheckView> {
    let Ask { app, caller, path, .. } = ask;
    let link = caller.connection(&app, &path.id)?;
    if path.check.chars().count() > CHECK_CHARS_MAX {
        return Err(Problem::not_found("no such check"));
    }
    reply(CheckView { state: app.engine.call_check(&link, path.check).await.map_err(Problem::failed)? })
}

fn read_phone(link: &Link, text: &str) -> Result<phone::Phone, Problem> {
    phone::read_text(text, &link.country).map_err(|error| Problem::unreadable("body", Fault::new("/phone", error.to_string())))
}

/// Stands for a phone where it must not be written down.
fn record(phone: &str) -> String {
    signature::sha256_hex([phone.as_bytes()])[..16].to_owned()
}
