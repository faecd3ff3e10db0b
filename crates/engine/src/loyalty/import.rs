//! Customers and their points brought from elsewhere: all that is wrong with any line is told, and a line is taken once, however
//! often it comes.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uzel_model::{Id, signature::fingerprint};
use uzel_store::{KeptReply, LoyaltyChange, LoyaltyLook, StoreError, Who};

use super::{
    AdjustAsk, ImportFault, ImportReport, ImportRow, LoyaltyError, LoyaltyProgramme,
    answer::{ground, read_phone, whole_ms},
    customers::{checked, checked_name, malformed, own_ask},
    decide::{self, Decided},
};
use crate::{Engine, World};

/// Lines that are under way at once.
const LINES: usize = 32;
/// Lines of one import.
const LINES_MAX: usize = 100_000;
const POINTS_MAX: i64 = 1_000_000_000_000;
const TRIES_MAX: u32 = 20;
/// That a line was taken is remembered for so long: for as long as anybody could send it again.
const LINE_KEPT: SignedDuration = SignedDuration::from_hours(24 * 365 * 20);

/// A line as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Brought {
    customer: Option<String>,
    phone: Option<String>,
    name: Option<String>,
    balance: i64,
    level: Option<String>,
}

impl Brought {
    /// By whom lines that mean one customer are known.
    fn whose(&self) -> &str {
        self.customer.as_deref().or(self.phone.as_deref()).unwrap_or_default()
    }

    fn who(&self) -> Who {
        match (&self.customer, &self.phone) {
            (Some(customer), _) => Who::Customer(customer.clone()),
            (None, phone) => Who::Phone(phone.clone().unwrap_or_default()),
        }
    }
}

/// What became of a line.
enum Line {
    Made(i64),
    Changed(i64),
    Same,
    Faulty(Wrong),
}

/// What is wrong: in which column, where it is one.
type Wrong = (Option<&'static str>, String);

impl Engine {
    /// Takes customers and their points from elsewhere. Nothing is taken of lines of which one is wrong by itself or by another; with
    /// `dry` it is only said what would be done.
    pub async fn import_customers(
        self: &Arc<Self>,
        merchant: Id,
        rows: Vec<ImportRow>,
        dry: bool,
        by: &str,
    ) -> Result<ImportReport, LoyaltyError> {
        let world = self.world();
        let programme = world.programme_of(merchant).ok_or(LoyaltyError::NoProgramme)?;
        if rows.len() > LINES_MAX {
            return Err(malformed("", format!("may have {LINES_MAX} lines at the most: send it in parts")));
        }
        let (brought, wrong) = understood(&world, programme, &rows);
        let dry = dry || !wrong.is_empty();
        let (engine, by_whom) = (self.clone(), by.to_owned());
        let work = async move {
            let lines = futures::stream::iter(brought)
                .map(|(number, brought)| {
                    let (engine, by) = (&engine, by_whom.as_str());
                    async move { (number, engine.import_line(merchant, &brought, dry, by).await) }
                })
                .buffered(LINES);
            let mut report = ImportReport { faults: wrong, ..ImportReport::default() };
            let mut lines = std::pin::pin!(lines);
            while let Some((number, line)) = lines.next().await {
                match line? {
                    Line::Made(points) => (report.made, report.points) = (report.made + 1, report.points + points),
                    Line::Changed(points) => (report.changed, report.points) = (report.changed + 1, report.points + points),
                    Line::Same => report.same += 1,
                    Line::Faulty(wrong) => report.faults.push(fault(number, wrong)),
                }
            }
            report.faults.sort_by_key(|fault| fault.row);
            Ok::<_, LoyaltyError>(report)
        };
        let report = self.to_the_end(work).await.map_err(LoyaltyError::Again)??;
        if !dry && report.made + report.changed > 0 {
            let detail = json!({ "made": report.made, "changed": report.changed, "points": report.points });
            self.audit(by, "customers.import", Some(merchant), merchant, detail).await?;
        }
        Ok(report)
    }

    async fn import_line(&self, merchant: Id, brought: &Brought, dry: bool, by: &str) -> Result<Line, LoyaltyError> {
        let world = self.world();
        let programme = world.programme_of(merchant).ok_or(LoyaltyError::NoProgramme)?;
        let key = fingerprint([b"loyalty import".as_slice(), merchant.as_bytes(), brought.whose().as_bytes()]);
        let said = json!([brought.customer, brought.phone, brought.balance, brought.level]).to_string();
        let body = fingerprint([said.as_bytes()]);
        let taken =
            || Line::Faulty((Some("phone"), "another customer has this phone: leave it empty, or name that customer".to_owned()));
        for _ in 0..TRIES_MAX {
            let now = whole_ms(self.clock.now());
            let look = LoyaltyLook { who: Some(brought.who()), replies: vec![key], ..LoyaltyLook::new(merchant, now) };
            let seen = self.store.loyalty(look).await?;
            if let Some(reply) = seen.replies.first() {
                let other = "was imported before with other points, phone or level: change that by an adjustment";
                return Ok(if reply.body == body { Line::Same } else { Line::Faulty((None, other.to_owned())) });
            }
            let is_new = seen.wallet.is_none();
            let known_phone = seen.wallet.as_ref().and_then(|wallet| wallet.phone.clone());
            if known_phone.is_some() && brought.phone.is_some() && known_phone != brought.phone {
                let why = "this customer has another phone: change that first, or leave it empty";
                return Ok(Line::Faulty((Some("phone"), why.to_owned())));
            }
            let mut wallet = seen.wallet.unwrap_or_else(|| decide::new_wallet(merchant, brought.customer.as_deref(), now));
            wallet.phone = wallet.phone.or_else(|| brought.phone.clone());
            wallet.name = wallet.name.or_else(|| brought.name.clone());
            wallet.level = brought.level.clone().or(wallet.level);
            let line = if is_new { Line::Made(brought.balance) } else { Line::Changed(brought.balance) };
            let has_new_phone = known_phone.is_none() && wallet.phone.is_some();
            if (is_new || has_new_phone) && self.is_taken(&wallet).await? {
                return Ok(taken());
            }
            if dry {
                return Ok(line);
            }
            let ask =
                own_ask(merchant, by, "/loyalty/import", now, json!({ "customer": wallet.customer, "balance": brought.balance }));
            let ground = ground(self, &world, programme, &ask);
            let decided = match brought.balance {
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
        Ok(taken())
    }
}

fn fault(row: u64, (column, why): Wrong) -> ImportFault {
    ImportFault { row, column: column.map(str::to_owned), why }
}

/// The lines that are right by themselves, with their numbers from 1, and all that is wrong with the others.
fn understood(world: &World, programme: &LoyaltyProgramme, rows: &[ImportRow]) -> (Vec<(u64, Brought)>, Vec<ImportFault>) {
    let (mut right, mut wrong): (Vec<(u64, Brought)>, Vec<ImportFault>) = (Vec::new(), Vec::new());
    // By customer: a line that is there twice is one. By phone: whose it is.
    let (mut lines, mut phones) = (HashMap::<String, Brought>::new(), HashMap::<String, String>::new());
    for (row, number) in rows.iter().zip(1_u64..) {
        let brought = match understand(world, programme, row) {
            Ok(brought) => brought,
            Err(faults) => {
                wrong.extend(faults.into_iter().map(|wrong| fault(number, wrong)));
                continue;
            }
        };
        let mut faults = Vec::new();
        match lines.entry(brought.whose().to_owned()) {
            Entry::Occupied(before) if *before.get() != brought => {
                let why = "names a customer of an earlier line with other values: leave one of the two";
                faults.push((Some(if brought.customer.is_some() { "customer" } else { "phone" }), why.to_owned()));
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(free) => drop(free.insert(brought.clone())),
        }
        if let Some(phone) = &brought.phone {
            let first = phones.entry(phone.clone()).or_insert_with(|| brought.whose().to_owned());
            if first.as_str() != brought.whose() {
                faults.push((
                    Some("phone"),
                    "is the phone of an earlier line's customer: leave it empty in one of the two".to_owned(),
                ));
            }
        }
        match faults.is_empty() {
            true => right.push((number, brought)),
            false => wrong.extend(faults.into_iter().map(|wrong| fault(number, wrong))),
        }
    }
    (right, wrong)
}

/// Reads all columns of a line, whatever is wrong with the others.
fn understand(world: &World, programme: &LoyaltyProgramme, row: &ImportRow) -> Result<Brought, Vec<Wrong>> {
    let mut wrong: Vec<Wrong> = Vec::new();
    let mut read = |column: &'static str, result: Result<Option<String>, LoyaltyError>, right: &str| match result {
        Ok(value) => value,
        Err(error) => {
            wrong.push((Some(column), format!("{}{right}", detail(error))));
            None
        }
    };
    let given = |field: &Option<String>| field.as_deref().map(str::trim).filter(|field| !field.is_empty()).map(str::to_owned);
    let (customer, phone) = (given(&row.customer), given(&row.phone));
    let is_named = customer.is_some() || phone.is_some();
    let customer = read("customer", checked(customer.as_deref()).map(|customer| customer.map(str::to_owned)), "");
    let phone = phone.map(|phone| read_phone(world, programme.merchant, &phone)).transpose();
    let phone = read("phone", phone, ": write it with its country, such as +998901234567");
    let name = read("name", checked_name(row.name.as_deref()), "");
    let level = given(&row.level);
    let levels = programme.rule.points.levels.iter().flat_map(|levels| &levels.levels);
    let levels: Vec<&str> = levels.map(|level| level.name.as_str()).collect();
    if let Some(level) = level.as_ref().filter(|level| !levels.contains(&level.as_str())) {
        let there = if levels.is_empty() { "it has none".to_owned() } else { format!("it has {}", levels.join(", ")) };
        wrong.push((Some("level"), format!("`{level}` is no level of the programme: {there}")));
    }
    let balance = match points(row.balance.as_deref().unwrap_or_default()) {
        Ok(points) => points,
        Err(why) => {
            wrong.push((Some("balance"), why));
            0
        }
    };
    if !is_named {
        wrong.push((None, "names no customer: fill in customer or phone".to_owned()));
    }
    if wrong.is_empty() { Ok(Brought { customer, phone, name, balance, level }) } else { Err(wrong) }
}

fn detail(error: LoyaltyError) -> String {
    match error {
        LoyaltyError::Malformed(faults) => faults.into_iter().map(|fault| fault.detail).collect::<Vec<_>>().join("; "),
        other => other.says(uzel_model::words::Language::En),
    }
}

/// Points as people write them: whole, with blanks between thousands or without.
fn points(field: &str) -> Result<i64, String> {
    let digits: String = field.chars().filter(|sign| !sign.is_whitespace()).collect();
    match digits.as_str() {
        "" => Ok(0),
        digits => match digits.parse::<i64>() {
            Ok(points) if points < 0 => Err("must be none or more: a debt is not brought over".to_owned()),
            Ok(points) if points > POINTS_MAX => Err(format!("must be {POINTS_MAX} at the most")),
            Ok(points) => Ok(points),
            Err(_) => Err("must be a whole number of points, such as 1200".to_owned()),
        },
    }
}
