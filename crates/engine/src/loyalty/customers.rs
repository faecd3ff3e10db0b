//! Customers: made by authenticated callers and by imports, shown, changed.

use std::sync::Arc;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uzel_model::{
    Bytes, Id, Request, check::Fault, id::Kind as IdKind, loyalty::Wallet, signature::fingerprint, words::Language,
};
use uzel_store::{Change, KeptReply, LoyaltyChange, LoyaltyLook, StoreError, WalletFilter, Who};

use super::{
    AdjustAsk, CustomerPatch, CustomerView, ImportReport, ImportRow, LoyaltyAsk, LoyaltyError, NewCustomer,
    answer::{ground, read_phone, who, whole_ms},
    decide::{self, Decided},
};
use crate::{Engine, World, tick::new_trace};

/// Lines of an import that are under way at once.
const LINES: usize = 32;
/// Lines of one import.
const LINES_MAX: usize = 100_000;
const POINTS_MAX: i64 = 1_000_000_000_000;
const NAME_CHARS_MAX: usize = 200;
const TRIES_MAX: u32 = 20;
/// That a line was taken is remembered for so long: for as long as anybody could send it again.
const LINE_KEPT: SignedDuration = SignedDuration::from_hours(24 * 365 * 20);

/// What became of a line.
enum Line {
    Made(i64),
    Changed(i64),
    Same,
    Faulty(String),
}

fn malformed(place: &str, why: impl Into<String>) -> LoyaltyError {
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
    pub async fn customers(&self, filter: WalletFilter) -> Result<Vec<CustomerView>, LoyaltyError> {
        Ok(self.store.wallets(filter).await?.iter().map(CustomerView::from).collect())
    }

    /// Takes customers and their points from elsewhere. A line that was taken is taken once, however often it comes; with `dry` it is
    /// only said what would be done.
    pub async fn import_customers(
        self: &Arc<Self>,
        merchant: Id,
        rows: Vec<ImportRow>,
        dry: bool,
        by: &str,
    ) -> Result<ImportReport, LoyaltyError> {
        self.world().programme_of(merchant).ok_or(LoyaltyError::NoProgramme)?;
        if rows.len() > LINES_MAX {
            return Err(malformed("", format!("may have {LINES_MAX} lines at the most: send it in parts")));
        }
        let (engine, by_whom) = (self.clone(), by.to_owned());
        let work = async move {
            let lines = futures::stream::iter(rows.into_iter().zip(1_u64..))
                .map(|(row, number)| {
                    let (engine, by) = (&engine, by_whom.as_str());
                    async move { (number, engine.import_line(merchant, &row, dry, by).await) }
                })
                .buffered(LINES);
            let mut report = ImportReport::default();
            let mut lines = std::pin::pin!(lines);
            while let Some((number, line)) = lines.next().await {
                match line? {
                    Line::Made(points) => (report.made, report.points) = (report.made + 1, report.points + points),
                    Line::Changed(points) => (report.changed, report.points) = (report.changed + 1, report.points + points),
                    Line::Same => report.same += 1,
                    Line::Faulty(why) => report.faults.push((number, why)),
                }
            }
            Ok::<_, LoyaltyError>(report)
        };
        let report = self.to_the_end(work).await.map_err(LoyaltyError::Again)??;
        if !dry && report.made + report.changed > 0 {
            let detail = json!({ "made": report.made, "changed": report.changed, "points": report.points });
            self.audit(by, "customers.import", Some(merchant), merchant, detail).await?;
        }
        Ok(report)
    }

    async fn import_line(&self, merchant: Id, row: &ImportRow, dry: bool, by: &str) -> Result<Line, LoyaltyError> {
        let world = self.world();
        let programme = world.programme_of(merchant).ok_or(LoyaltyError::NoProgramme)?;
        let read = || {
            let phone = row.phone.as_deref().filter(|phone| !phone.trim().is_empty());
            let phone = phone.map(|phone| read_phone(&world, merchant, phone)).transpose()?;
            let customer = checked(row.customer.as_deref().filter(|customer| !customer.trim().is_empty()))?.map(str::to_owned);
            let name = checked_name(row.name.as_deref())?;
            if customer.is_none() && phone.is_none() {
                return Err(malformed("", "names no customer: neither customer nor phone"));
            }
            if !(0..=POINTS_MAX).contains(&row.balance) {
                return Err(malformed("/balance", format!("must be from 0 to {POINTS_MAX}")));
            }
            let levels = programme.rule.points.levels.iter().flat_map(|levels| &levels.levels);
            if let Some(level) = row.level.as_ref().filter(|level| !level.is_empty())
                && !levels.into_iter().any(|known| known.name == *level)
            {
                return Err(malformed("/level", format!("`{level}` is no level of the programme")));
            }
            Ok((customer, phone, name))
        };
        let (customer, phone, name) = match read() {
            Ok(read) => read,
            Err(error) => return Ok(Line::Faulty(error.says(Language::En))),
        };
        let whose = customer.clone().or_else(|| phone.clone()).unwrap_or_default();
        let key = fingerprint([b"loyalty import".as_slice(), merchant.as_bytes(), whose.as_bytes()]);
        let said = json!([customer, phone, row.balance, row.level]).to_string();
        let body = fingerprint([said.as_bytes()]);
        for _ in 0..TRIES_MAX {
            let now = whole_ms(self.clock.now());
            let who = match (&customer, &phone) {
                (Some(customer), _) => Who::Customer(customer.clone()),
                (None, phone) => Who::Phone(phone.clone().unwrap_or_default()),
            };
            let look = LoyaltyLook { who: Some(who), replies: vec![key], ..LoyaltyLook::new(merchant, now) };
            let seen = self.store.loyalty(look).await?;
            if let Some(reply) = seen.replies.first() {
                let other = "was imported before with other points, phone or level: change that by an adjustment";
                return Ok(if reply.body == body { Line::Same } else { Line::Faulty(other.to_owned()) });
            }
            let is_new = seen.wallet.is_none();
            let mut wallet = seen.wallet.unwrap_or_else(|| decide::new_wallet(merchant, customer.as_deref(), now));
            wallet.phone = wallet.phone.or_else(|| phone.clone());
            wallet.name = wallet.name.or_else(|| name.clone());
            wallet.level = row.level.clone().filter(|level| !level.is_empty()).or(wallet.level);
            let line = if is_new { Line::Made(row.balance) } else { Line::Changed(row.balance) };
            if is_new && self.is_taken(&wallet).await? {
                return Ok(Line::Faulty("another customer has this phone".to_owned()));
            }
            if dry {
                return Ok(line);
            }
            let ask =
                own_ask(merchant, by, "/loyalty/import", now, json!({ "customer": wallet.customer, "balance": row.balance }));
            let ground = ground(self, &world, programme, &ask);
            let decided = match row.balance {
                0 => Decided {
                    change: LoyaltyChange { wallets: vec![wallet], ..LoyaltyChange::default() },
                    answer: json!({ "ok": true }),
                    ..Decided::default()
                },
                points => {
                    let reason = "import".to_owned();
                    let adjust = AdjustAsk { customer: wallet.customer.clone(), points, reason, expires_at: None };
                    decide::adjust(&ground, wallet, &adjust, "import")?
                }
            };
            let kept =
                KeptReply { key, body, answer: String::new(), until: now.saturating_add(LINE_KEPT).unwrap_or(Timestamp::MAX) };
            match self.put_decided(programme, &ask, decided, vec![kept]).await {
                Ok(_) => return Ok(line),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Line::Faulty("another customer has this phone".to_owned()))
    }

    /// Whether another customer has the id or the phone.
    async fn is_taken(&self, wallet: &Wallet) -> Result<bool, StoreError> {
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
        let found = self.store.loyalty(look).await?.wallet.map(|found| found.id);
        let found = found.filter(|id| *id != wallet.id);
        found.ok_or_else(|| malformed("/referred_by", "is no other customer of this merchant"))
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

fn checked(customer: Option<&str>) -> Result<Option<&str>, LoyaltyError> {
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

fn checked_name(name: Option<&str>) -> Result<Option<String>, LoyaltyError> {
    let name = name.map(str::trim).filter(|name| !name.is_empty());
    match name {
        Some(name) if name.chars().count() > NAME_CHARS_MAX => {
            Err(malformed("/name", format!("may have {NAME_CHARS_MAX} characters at the most")))
        }
        name => Ok(name.map(str::to_owned)),
    }
}
