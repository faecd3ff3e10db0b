//! Who calls: told by a key, a staff key, or the signature of an outlet's bridge. Whatever is shown must be right, whether it was
//! needed or not.

use serde_json::{Map, Value};
use uzel_engine::{Role, loyalty::LoyaltyProgramme};
use uzel_model::{Id, Secret};

use super::{
    bridge::{self, Signature},
    call::Call,
    limits::Counted,
    refusal::Refusal,
};
use crate::{App, api::Holder, door::Guessed};

/// What a call must show, and how its body is signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    pub(super) roles: &'static [Role],
    /// Fields that a bridge signs, beside the bytes themselves. Nothing: no signature is heeded.
    pub(super) signed: Option<&'static [&'static str]>,
    /// The programme may ask for a signature, and for a staff key.
    pub(super) strict: bool,
    /// The programme may open it to anybody.
    pub(super) may_be_open: bool,
    /// How often it may be asked.
    pub(super) counted: Counted,
}

impl Needs {
    /// Whether the programme may ask for a staff key: whatever a till does, but for what it looks up.
    fn is_by_staff(self) -> bool {
        self.strict || matches!(self.counted, Counted::Cancel | Counted::Consent)
    }
}

const WRONG_SIGNATURE: &str = "Invalid bridge signature";

/// What a till may do.
pub(super) const TILL: &[Role] = &[Role::Admin, Role::Owner, Role::Operator, Role::Till];
/// What whoever may look may see.
pub(super) const LOOK: &[Role] = &[Role::Admin, Role::Owner, Role::Operator, Role::Reader, Role::Till];
pub(super) const OWNER: &[Role] = &[Role::Admin, Role::Owner];

/// Who calls.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    /// Whose points it is about.
    pub(super) merchant: Id,
    /// The outlet that is named, or whose bridge signed.
    pub(super) outlet: Option<Id>,
    /// For the journal and the audit: a key's id, `bridge/out_…`, `open`.
    pub(super) by: String,
    /// Nobody is let in by nothing but the programme's openness.
    pub(super) authenticated: bool,
    /// Outlet, time and sum of a signature: spent by its first use.
    pub(super) signature: Option<String>,
    /// Who shares a budget of calls.
    pub(super) holder: Option<Holder>,
    /// The outlet whose bridge signed, or the merchant whose own secret did; and that secret.
    pub(super) shared: Option<(Id, Secret)>,
    /// The id of the staff key that was shown.
    pub(super) staff: Option<String>,
}

/// A key that was shown and is good.
struct Shown {
    merchant: Option<Id>,
    role: Role,
    holder: Holder,
}

/// A signature that is good, whose it is, and the secret that made it.
struct Signed {
    of: Id,
    signature: Signature,
    secret: Secret,
}

/// Whom a call names, by id or slug.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Named<'a> {
    pub(super) merchant: Option<&'a str>,
    pub(super) outlet: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// In the fields of a body.
    pub(super) fn within(body: &'a Map<String, Value>) -> Self {
        let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        Self { merchant: text("merchantId"), outlet: text("outletId") }
    }
}

/// Proves a call about the merchant and outlet that it names.
pub(super) fn prove(
    app: &App,
    call: &Call,
    needs: Needs,
    named: Named<'_>,
    body: (&[u8], &Map<String, Value>),
) -> Result<Proof, Refusal> {
    let world = app.engine.world();
    let staff = shown(app, call, call.header("x-staff-key"), "Invalid staff key")?;
    let staff_key = staff.as_ref().map(|staff| staff.holder.name().to_owned());
    let key = shown(app, call, bearer(call), "Invalid API key")?;
    let local = call.local.then_some(Shown { merchant: None, role: Role::Admin, holder: Holder::Socket });
    let mut keys: Vec<Shown> = [key, staff, local].into_iter().flatten().collect();
    let own = keys.iter().find_map(|key| key.merchant);
    if let Some(key) = keys.iter().find(|key| !needs.roles.contains(&key.role)) {
        return Err(Refusal::forbidden(format!("a key with the role `{}` may not do this", key.role.word())));
    }
    // Whether there is such a merchant is nobody else's matter.
    let about = named.merchant.map_or(own, |name| world.merchant(name));
    if own.is_some() && (about != own || keys.iter().any(|key| key.merchant.is_some_and(|of| Some(of) != own))) {
        return Err(Refusal::forbidden("this key is of another merchant"));
    }
    // An outlet that is not known means nothing.
    let outlet = about.zip(named.outlet).and_then(|(merchant, name)| world.outlet(merchant, name));
    let signed = signature(app, call, needs, about, (named.outlet.is_some(), outlet), body)?;
    let programme = about.and_then(|merchant| world.programme_of(merchant));
    let asks = |of: fn(&LoyaltyProgramme) -> bool| programme.is_some_and(|programme| of(programme));
    if needs.strict && signed.is_none() && asks(|programme| programme.rule.require_bridge_sig) {
        return Err(Refusal::unauthorized(WRONG_SIGNATURE));
    }
    if needs.is_by_staff() && signed.is_none() && staff_key.is_none() && asks(|programme| programme.rule.require_staff_key) {
        return Err(Refusal::unauthorized("X-Staff-Key or X-Bridge-Signature required"));
    }
    let is_open = needs.may_be_open && asks(|programme| programme.rule.open_loyalty);
    if keys.is_empty() && signed.is_none() && !is_open {
        return Err(Refusal::unauthorized("an API key, X-Staff-Key or X-Bridge-Signature is required"));
    }
    let merchant = about.ok_or_else(|| match named.merchant {
        Some(_) => Refusal::not_found("Merchant not found"),
        None => Refusal::bad("merchantId must be a string"),
    })?;
    let holder = (!keys.is_empty()).then(|| keys.swap_remove(0).holder);
    let by = match (&holder, &signed) {
        (Some(holder), _) => holder.name().to_owned(),
        (None, Some(signed)) => format!("bridge/{}", signed.of),
        (None, None) => "open".to_owned(),
    };
    let of_bridge = signed.as_ref().map(|signed| signed.of).filter(|of| *of != merchant);
    Ok(Proof {
        merchant,
        outlet: outlet.or(of_bridge),
        authenticated: holder.is_some() || signed.is_some(),
        staff: staff_key,
        signature: signed.as_ref().map(|signed| format!("{}/{}/{}", signed.of, signed.signature.time, signed.signature.sum)),
        shared: signed.map(|signed| (signed.of, signed.secret)),
        by,
        holder,
    })
}

/// `Authorization: Bearer`, or `X-Api-Key`.
fn bearer(call: &Call) -> Option<&str> {
    let bearer = call.header("authorization").and_then(|value| value.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim());
    bearer.or_else(|| call.header("x-api-key"))
}

/// A key that is shown must be good.
fn shown(app: &App, call: &Call, key: Option<&str>, wrong: &str) -> Result<Option<Shown>, Refusal> {
    let Some(key) = key.filter(|key| !key.is_empty()) else { return Ok(None) };
    let hash = app.engine.vault.key_hash("api", key);
    match app.engine.world().by_api_hash(&hash) {
        Some(known) if known.is_good(call.at) => {
            app.used.note(&known.id, call.at);
            let holder = Holder::Key { hash, id: known.id.clone() };
            Ok(Some(Shown { merchant: known.of, role: known.role, holder }))
        }
        Some(_) => Err(Refusal::unauthorized("this key has expired: ask its owner for a new one")),
        None => {
            app.door.failed(call.peer, Guessed::Api { key })?;
            Err(Refusal::unauthorized(wrong))
        }
    }
}

/// The signature that came, and the outlet (or merchant) whose secret made it. A wrong one is refused, whether one is needed or not.
fn signature(
    app: &App,
    call: &Call,
    needs: Needs,
    merchant: Option<Id>,
    (is_named, outlet): (bool, Option<Id>),
    (raw, fields): (&[u8], &Map<String, Value>),
) -> Result<Option<Signed>, Refusal> {
    let (Some(header), Some(signed)) = (call.header(bridge::HEADER), needs.signed) else { return Ok(None) };
    let world = app.engine.world();
    let found = Signature::read(header, call.at).zip(merchant).and_then(|(signature, merchant)| {
        let canonical = (!signed.is_empty()).then(|| bridge::canonical(fields, signed));
        let bodies: Vec<&[u8]> = [Some(raw), canonical.as_deref().map(str::as_bytes)].into_iter().flatten().collect();
        let by = |outlet: Option<Id>| signature.made_by(world.bridge_secrets(merchant, outlet), &bodies).cloned();
        let found = by(outlet).map(|secret| (outlet, secret)).or_else(|| {
            // Where no outlet is named it is any of the merchant's.
            let mut outlets = world.outlets.iter().filter(|(_, (of, ..))| *of == merchant && !is_named);
            outlets.find_map(|(outlet, _)| Some((Some(*outlet), by(Some(*outlet))?)))
        });
        found.map(|(outlet, secret)| Signed { of: outlet.unwrap_or(merchant), signature, secret })
    });
    if found.is_none() {
        let guessed = outlet.or(merchant).map_or(Guessed::Api { key: "bridge" }, Guessed::Connection);
        app.door.failed(call.peer, guessed)?;
        return Err(Refusal::unauthorized(WRONG_SIGNATURE));
    }
    Ok(found)
}
