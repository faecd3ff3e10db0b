//! Customers of a loyalty programme and their points: looked up, made, changed, adjusted by a person, brought from elsewhere.

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_engine::loyalty::{
    AdjustAsk, CustomerPatch, CustomerView, ImportFault, ImportReport, LoyaltyAsk, LoyaltyError, NewCustomer,
};
use uzel_model::{
    Address, Id, Request,
    check::Fault,
    loyalty::{Book, Entry, MoveKind},
    words::Language,
};
use uzel_store::{LedgerFilter, WalletFilter};

use super::{
    caller::Caller,
    customers_csv,
    page::{LIMIT, Page},
    route::{Answered, Ask, ById, Reply, reply},
};
use crate::{App, Problem};

/// A customer and their points.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CustomerRow {
    /// Its id.
    id: Id,
    /// Whose customer.
    merchant: Id,
    /// The merchant's own id of the customer.
    customer: String,
    /// Masked, unless an owner asks for it whole.
    phone: Option<String>,
    /// As it was given.
    name: Option<String>,
    /// The level that a person or a promo code gave.
    level: Option<String>,
    /// Points that can be spent.
    balance: i64,
    /// Points that were earned and cannot be spent yet.
    promised: i64,
    /// Receipts so far.
    receipts: u32,
    /// Who brought them.
    referred_by: Option<Id>,
    /// When they became one.
    made_at: Timestamp,
}

impl CustomerRow {
    fn new(view: CustomerView, unmasked: bool) -> Self {
        let masked = |phone: String| if unmasked { phone } else { Address::Phone(phone).masked() };
        Self {
            id: view.id,
            merchant: view.merchant,
            customer: view.customer,
            phone: view.phone.map(masked),
            name: view.name,
            level: view.level,
            balance: view.balance,
            promised: view.promised,
            receipts: view.receipts,
            referred_by: view.referred_by,
            made_at: view.made_at,
        }
    }
}

/// Which customers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CustomersQuery {
    /// Of this phone, in E.164.
    phone: Option<String>,
    /// By the merchant's own id.
    customer: Option<String>,
    /// `next` of the page before.
    after: Option<Id>,
    /// Rows of a page.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// Shows phones whole; owners only.
    #[serde(default)]
    unmasked: bool,
}

/// A customer of a merchant.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct CustomerPath {
    /// The merchant, by id or slug.
    id: String,
    /// The customer: the merchant's own id, a phone with `+`, or the hub's id.
    customer: String,
}

/// Whether phones are shown whole.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Unmasked {
    /// Shows the phone whole; owners only.
    #[serde(default)]
    unmasked: bool,
}

fn shows(caller: &Caller, unmasked: bool) -> bool {
    unmasked && caller.is_owner()
}

pub(super) async fn list(ask: Ask<ById, CustomersQuery>) -> Answered<Page<CustomerRow>> {
    let Ask { app, caller, path, query, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let limit = LIMIT.read(query.limit)?;
    let filter = WalletFilter {
        merchant: Some(merchant),
        phone: query.phone,
        customer: query.customer,
        after: query.after,
        limit: limit + 1,
    };
    let found = app.engine.customers(filter).await.map_err(|error| match error {
        LoyaltyError::Malformed(mut faults) if faults.len() == 1 => {
            Problem::unreadable("query", Fault { pointer: "phone".to_owned(), ..faults.remove(0) })
        }
        error => error.into(),
    })?;
    let unmasked = shows(&caller, query.unmasked);
    let rows = found.into_iter().map(|view| CustomerRow::new(view, unmasked)).collect();
    reply(Page::new(rows, limit, |row: &CustomerRow| row.id.to_string()))
}

pub(super) async fn show(ask: Ask<CustomerPath, Unmasked>) -> Answered<CustomerRow> {
    let merchant = ask.caller.merchant(&ask.app, &ask.path.id)?;
    let found = ask.app.engine.customer(merchant, &ask.path.customer).await?;
    reply(CustomerRow::new(found, shows(&ask.caller, ask.query.unmasked)))
}

/// A customer to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "customer": "C-42", "phone": "+79991234567", "name": "Anna" }))]
pub(super) struct CustomerRequest {
    /// The merchant's own id of the customer; by default the hub's.
    customer: Option<String>,
    /// As people of the merchant's country write it.
    phone: Option<String>,
    /// As the customer is called.
    name: Option<String>,
    /// Who brought them: a customer's id, a phone, or the hub's id.
    referred_by: Option<String>,
}

pub(super) async fn create(ask: Ask<ById, (), CustomerRequest>) -> Answered<CustomerRow> {
    let Ask { app, caller, path, body, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let new = NewCustomer { customer: body.customer, phone: body.phone, name: body.name, referred_by: body.referred_by };
    let made = app.engine.create_customer(merchant, new, caller.holder.name()).await?;
    let place = format!("/api/v1/merchants/{merchant}/customers/{}", made.id);
    Ok(Reply::new(CustomerRow::new(made, false)).at(&place))
}

/// What changes of a customer; what is not named stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "name": "Anna Petrova" }))]
pub(super) struct CustomerChange {
    /// As people of the merchant's country write it.
    phone: Option<String>,
    /// As the customer is called.
    name: Option<String>,
    /// A level that they have whatever they buy; an empty text takes it away.
    level: Option<String>,
    /// Who brought them; only while they have no receipt.
    referred_by: Option<String>,
}

pub(super) async fn change(ask: Ask<CustomerPath, (), CustomerChange>) -> Answered<CustomerRow> {
    let Ask { app, caller, path, body, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let patch = CustomerPatch { phone: body.phone, name: body.name, level: body.level, referred_by: body.referred_by };
    let changed = app.engine.change_customer(merchant, &path.customer, patch, caller.holder.name()).await?;
    reply(CustomerRow::new(changed, false))
}

/// Points given or taken by a person.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "points": 100, "reason": "the coffee was cold" }))]
pub(super) struct AdjustRequest {
    /// Below none: taken, but no more than are there.
    points: i64,
    /// It stands in the ledger for ever.
    reason: String,
    /// Until when given points can be spent, where that is not what the programme says.
    expires_at: Option<Timestamp>,
}

/// What was done.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct AdjustedView {
    /// The merchant's own id of the customer.
    #[serde(alias = "customerId")]
    customer_id: String,
    /// What was given, or taken.
    points: i64,
    /// What can be spent after it.
    balance: i64,
}

pub(super) async fn adjust(ask: Ask<CustomerPath, (), AdjustRequest>) -> Answered<AdjustedView> {
    let Ask { app, caller, path, body, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let adjust = AdjustAsk { customer: path.customer, points: body.points, reason: body.reason, expires_at: body.expires_at };
    let journalled = json!({
        "customerId": adjust.customer, "points": adjust.points, "reason": adjust.reason, "expiresAt": adjust.expires_at,
    });
    let done = app.engine.loyalty_adjust(asked(&app, &caller, merchant, &journalled), adjust).await?;
    let done: AdjustedView = serde_json::from_str(&done.body).map_err(|_| Problem::internal())?;
    reply(done)
}

/// A question of a person, as the desk takes it.
fn asked(app: &App, caller: &Caller, merchant: Id, journalled: &serde_json::Value) -> LoyaltyAsk {
    LoyaltyAsk {
        merchant,
        outlet: None,
        staff: None,
        language: Language::En,
        key: None,
        signature: None,
        request_id: None,
        authenticated: true,
        by: caller.holder.name().to_owned(),
        request: Request {
            method: "POST".to_owned(),
            path: "/loyalty/adjust".to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::from(journalled.to_string()),
            received_at: app.engine.clock.now(),
            peer: None,
            key: None,
        },
        trace: crate::intake::trace_of(None),
    }
}

/// A movement of points.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct MovementView {
    /// Its id.
    id: Id,
    /// The customer, by the hub's id.
    customer: Id,
    /// Why points moved.
    kind: MoveKind,
    /// Where they lay.
    from: Book,
    /// Where they lie.
    to: Book,
    /// How many.
    points: i64,
    /// What the customer can spend after it.
    balance: i64,
    /// What it follows from: `receipt/rct_…`, `person/key_…`, `promo/CODE`, `import`, `time`.
    cause: String,
    /// The order.
    order: Option<String>,
    /// Where it was.
    outlet: Option<Id>,
    /// The cashier, as the till names them.
    staff: Option<String>,
    /// What a person gave as the reason.
    reason: Option<String>,
    /// When.
    at: Timestamp,
}

impl From<Entry> for MovementView {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            customer: entry.wallet,
            kind: entry.kind,
            from: entry.from,
            to: entry.to,
            points: entry.points,
            balance: entry.balance,
            cause: entry.cause,
            order: entry.order,
            outlet: entry.outlet,
            staff: entry.staff,
            reason: entry.reason,
            at: entry.at,
        }
    }
}

/// Which movements.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LedgerQuery {
    /// Of this customer: the merchant's own id, or the hub's.
    customer: Option<String>,
    /// `next` of the page before.
    before: Option<Id>,
    /// Rows of a page.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

pub(super) async fn ledger(ask: Ask<ById, LedgerQuery>) -> Answered<Page<MovementView>> {
    let Ask { app, caller, path, query, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let limit = LIMIT.read(query.limit)?;
    let wallet = match query.customer {
        Some(customer) => Some(app.engine.customer(merchant, &customer).await?.id),
        None => None,
    };
    let filter = LedgerFilter { merchant: Some(merchant), wallet, before: query.before, limit: limit + 1, ..Default::default() };
    let rows = app.engine.store.ledger(filter).await?.into_iter().map(MovementView::from).collect();
    reply(Page::new(rows, limit, |row: &MovementView| row.id.to_string()))
}

/// Of whom points are proved.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "merchant": "cafe" }))]
pub(super) struct ProofRequest {
    /// By id or slug; without it all that the key may see.
    merchant: Option<String>,
}

/// Whether points are as they must be.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProofView {
    /// Customers that were looked at.
    customers: u64,
    /// Movements that were looked at.
    movements: u64,
    /// What is not as it must be.
    findings: Vec<FindingView>,
}

/// Where the ledger and a balance differ.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FindingView {
    /// Whose.
    customer: Id,
    /// What.
    why: String,
}

/// Holds every balance against the ledger.
pub(super) async fn prove(ask: Ask<(), (), ProofRequest>) -> Answered<ProofView> {
    let Ask { app, caller, body, .. } = ask;
    let merchant = caller.scope(&app, body.merchant.as_deref())?;
    let found = app.engine.audit_loyalty(merchant).await?;
    let findings = found.findings.into_iter().map(|(customer, why)| FindingView { customer, why }).collect();
    reply(ProofView { customers: found.wallets, movements: found.entries, findings })
}

/// Customers as CSV.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(example = "customer;phone;name;balance\nC-42;+79991234567;Anna;150\n")]
pub(super) struct CustomersFile(String);

/// Whose they are, and whether it is only looked at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportQuery {
    /// By id or slug; a key of one merchant needs none.
    merchant: Option<String>,
    /// Only tells what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// What became of a file of customers.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CustomersImportView {
    /// Whether anything was done: nothing is where a line is wrong, or where it was only looked at.
    taken: bool,
    /// Customers that were not there.
    made: u64,
    /// Customers that got something new.
    changed: u64,
    /// Lines that change nothing: they were taken before.
    same: u64,
    /// Points given.
    points: i64,
    /// What is wrong, by line and column: the first thousand.
    faults: Vec<LineFault>,
    /// How much more is wrong.
    more_faults: usize,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct LineFault {
    /// Counted from 1.
    pub(super) line: usize,
    /// The column, where it is one.
    pub(super) column: Option<String>,
    /// What is wrong, and what would be right.
    pub(super) why: String,
}

/// So much of what is wrong is told.
const FAULTS_MAX: usize = 1_000;

/// Nothing is taken of a file with a fault: whoever mends it sends all of it again.
pub(super) async fn import(ask: Ask<(), ImportQuery, CustomersFile>) -> Answered<CustomersImportView> {
    let Ask { app, caller, query, body, .. } = ask;
    let missing = || Problem::unreadable("query", Fault::new("merchant", "is missing: this key is of the whole hub"));
    let merchant = caller.scope(&app, query.merchant.as_deref())?.ok_or_else(missing)?;
    let (lines, rows, mut faults) = customers_csv::read(&body.0);
    let by = caller.holder.name();
    let at = |row: u64| usize::try_from(row).ok().and_then(|row| lines.get(row.saturating_sub(1)).copied()).unwrap_or_default();
    let told = |fault: ImportFault| LineFault { line: at(fault.row), column: fault.column, why: fault.why };
    let mut report = app.engine.import_customers(merchant, rows.clone(), true, by).await?;
    faults.extend(std::mem::take(&mut report.faults).into_iter().map(told));
    let taken = faults.is_empty() && !query.dry_run;
    if taken {
        report = app.engine.import_customers(merchant, rows, false, by).await?;
        // What somebody else has changed since the first look.
        faults.extend(std::mem::take(&mut report.faults).into_iter().map(told));
    }
    faults.sort_by_key(|fault| fault.line);
    let ImportReport { made, changed, same, points, .. } = report;
    let more_faults = faults.len().saturating_sub(FAULTS_MAX);
    faults.truncate(FAULTS_MAX);
    reply(CustomersImportView { taken, made, changed, same, points, faults, more_faults })
}
