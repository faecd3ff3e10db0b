//! Customers: made by authenticated callers, shown, changed.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use uzel_model::{Bytes, Id, Request, check::Fault, id::Kind as IdKind, loyalty::Wallet, words::Language};
use uzel_store::{Change, LoyaltyChange, LoyaltyLook, StoreError, WalletFilter, Who};

use super::{
    CustomerPatch, CustomerView, LoyaltyAsk, LoyaltyError, NewCustomer,
    answer::{read_phone, who, whole_ms},
    decide,
};
use crate::{Engine, World, tick::new_trace};

const NAME_CHARS_MAX: usize = 200;
const TRIES_MAX: u32 = 20;
/// Who brought whom is followed so far.
const REFERRERS_MAX: usize = 32;

pub(super) fn malformed(place: &str, why: impl Into<String>) -> LoyaltyError {
    LoyaltyError::Malformed(vec![Fault::new(place, why)])
}

impl Engine {
    pub async fn create_customer(
        self: &Arc<Self>,
        merchant: Id,
        new: NewCustomer,
        by: &str,
    ) -> Result<CustomerView, LoyaltyError> {
        let world = self.world();
        world.programme_of(merchant).ok_or(LoyaltyError::NoProgramme)?;
        let mut wallet = decide::new_wallet(merchant, checked(new.customer.as_deref())?, whole_ms(self.clock.now()));
        wallet.phone = new.phone.as_deref().map(|phone| read_phone(&world, merchant, phone)).transpose()?;
        wallet.name = checked_name(new.name.as_deref())?;
        if let Some(referrer) = &new.referred_by {
            wallet.referred_by = Some(self.referrer_of(&world, &wallet, referrer).await?);
        }
        if self.is_taken(&wallet).await? {
            return Err(LoyaltyError::Taken("customer or phone"));
        }
        match self.put_wallet(&wallet).await {
            Err(StoreError::Conflict) => return Err(LoyaltyError::Taken("customer or phone")),
            done => done?,
        }
        self.audit(by, "customer.create", Some(merchant), wallet.id, json!({})).await?;
        Ok(CustomerView::from(&wallet))
    }

    pub async fn change_customer(
        self: &Arc<Self>,
        merchant: Id,
        customer: &str,
        patch: CustomerPatch,
        by: &str,
    ) -> Result<CustomerView, LoyaltyError> {
        let world = self.world();
        let programme = world.programme_of(merchant).ok_or(LoyaltyError::NoProgramme)?;
        for _ in 0..TRIES_MAX {
            let mut wallet = self.wallet(merchant, customer).await?;
            if let Some(phone) = &patch.phone {
                wallet.phone = Some(read_phone(&world, merchant, phone)?).filter(|_| !phone.is_empty());
            }
            if let Some(name) = &patch.name {
                wallet.name = checked_name(Some(name))?;
            }
            if let Some(level) = &patch.level {
                let levels = programme.rule.points.levels.iter().flat_map(|levels| &levels.levels);
                if !level.is_empty() && !levels.into_iter().any(|known| known.name == *level) {
                    return Err(malformed("/level", format!("`{level}` is no level of the programme")));
                }
                wallet.level = Some(level.clone()).filter(|level| !level.is_empty());
            }
            if let Some(referrer) = &patch.referred_by {
                if wallet.receipts > 0 {
                    return Err(malformed("/referred_by", "they have bought already: nobody has brought them"));
                }
                wallet.referred_by = Some(self.referrer_of(&world, &wallet, referrer).await?);
            }
            match self.put_wallet(&wallet).await {
                Err(StoreError::Conflict) if self.is_taken(&wallet).await? => return Err(LoyaltyError::Taken("phone")),
                Err(StoreError::Conflict) => {}
                done => {
                    done?;
                    let fields = serde_json::to_value(&patch).unwrap_or_default();
                    let fields: Vec<&String> = fields.as_object().into_iter().flat_map(|fields| fields.keys()).collect();
                    self.audit(by, "customer.change", Some(merchant), wallet.id, json!({ "fields": fields })).await?;
                    return Ok(CustomerView::from(&wallet));
                }
            }
        }
        Err(LoyaltyError::Again("somebody else changes this customer".to_owned()))
    }

    pub async fn customer(&self, merchant: Id, customer: &str) -> Result<CustomerView, LoyaltyError> {
        Ok(CustomerView::from(&self.wallet(merchant, customer).await?))
    }

    /// In the order of their ids.
    pub async fn customers(&self, mut filter: WalletFilter) -> Result<Vec<CustomerView>, LoyaltyError> {
        if let (Some(phone), Some(merchant)) = (&filter.phone, filter.merchant) {
            filter.phone = Some(read_phone(&self.world(), merchant, phone)?);
        }
        Ok(self.store.wallets(filter).await?.iter().map(CustomerView::from).collect())
    }

    /// Whether another customer has the id or the phone.
    pub(super) async fn is_taken(&self, wallet: &Wallet) -> Result<bool, StoreError> {
        let keys = [Some(Who::Customer(wallet.customer.clone())), wallet.phone.clone().map(Who::Phone)];
        for who in keys.into_iter().flatten() {
            let look = LoyaltyLook { who: Some(who), ..LoyaltyLook::new(wallet.merchant, self.clock.now()) };
            if self.store.loyalty(look).await?.wallet.is_some_and(|found| found.id != wallet.id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn referrer_of(&self, world: &World, wallet: &Wallet, referrer: &str) -> Result<Id, LoyaltyError> {
        let look = LoyaltyLook {
            who: Some(who(world, wallet.merchant, referrer)?),
            ..LoyaltyLook::new(wallet.merchant, self.clock.now())
        };
        let found = self.store.loyalty(look).await?.wallet.filter(|found| found.id != wallet.id);
        let found = found.ok_or_else(|| malformed("/referred_by", "is no other customer of this merchant"))?;
        let mut above = found.referred_by;
        for _ in 0..REFERRERS_MAX {
            let Some(id) = above else { break };
            if id == wallet.id {
                return Err(malformed("/referred_by", "was brought by this customer: two do not bring each other"));
            }
            let look = LoyaltyLook { who: Some(Who::Id(id)), ..LoyaltyLook::new(wallet.merchant, self.clock.now()) };
            above = self.store.loyalty(look).await?.wallet.and_then(|wallet| wallet.referred_by);
        }
        Ok(found.id)
    }

    async fn put_wallet(&self, wallet: &Wallet) -> Result<(), StoreError> {
        let points = LoyaltyChange { wallets: vec![wallet.clone()], ..LoyaltyChange::default() };
        let change = Change { loyalty: Some(Box::new(points)), now: Some(self.clock.now()), ..Change::default() };
        self.store.apply(change).await.map(drop)
    }
}

/// What the hub asks of itself.
pub(super) fn own_ask(merchant: Id, by: &str, path: &str, now: Timestamp, body: serde_json::Value) -> LoyaltyAsk {
    LoyaltyAsk {
        merchant,
        outlet: None,
        staff: None,
        language: Language::Ru,
        key: None,
        signature: None,
        request_id: None,
        authenticated: true,
        by: by.to_owned(),
        request: Request {
            method: "DESK".to_owned(),
            path: path.to_owned(),
            query: Vec::new(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: Bytes::from(body.to_string()),
            received_at: now,
            peer: None,
            key: None,
        },
        trace: new_trace(),
    }
}

pub(super) fn checked(customer: Option<&str>) -> Result<Option<&str>, LoyaltyError> {
    let Some(customer) = customer.map(str::trim) else { return Ok(None) };
    if customer.is_empty() || customer.chars().count() > NAME_CHARS_MAX {
        return Err(malformed("/customer", format!("must have 1 to {NAME_CHARS_MAX} characters")));
    }
    // What begins so is read as a phone, or as an id of the hub's.
    if customer.starts_with('+') || customer.parse::<Id>().is_ok_and(|id| id.kind() == IdKind::Customer) {
        return Err(malformed("/customer", "must not begin with `+` or `cus_`: a phone belongs into `phone`"));
    }
    Ok(Some(customer))
}

pub(super) fn checked_name(name: Option<&str>) -> Result<Option<String>, LoyaltyError> {
    let name = name.map(str::trim).filter(|name| !name.is_empty());
    match name {
        Some(name) if name.chars().count() > NAME_CHARS_MAX => {
            Err(malformed("/name", format!("may have {NAME_CHARS_MAX} characters at the most")))
        }
        name => Ok(name.map(str::to_owned)),
    }
}
