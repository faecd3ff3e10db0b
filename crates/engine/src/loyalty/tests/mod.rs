//! The desk over a store in memory.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod histories;
mod model;

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel_model::{Id, Secret, id::Kind as IdKind, loyalty::Kind, words::Language};
use uzel_store::{Memory, Setup, SetupRow, Store, WalletFilter};

use super::{programme::SLUG, *};
use crate::{Clock, Master, Options, Vault, read, status::Known};

const SOON: Duration = Duration::from_secs(30);

/// A hub with one merchant, whose programme is this.
async fn hub(rule: Value) -> (Arc<Engine>, Id) {
    let merchant = Id::new(IdKind::Merchant);
    let row = |id: Id, slug: &str, doc| {
        let of = (id != merchant).then_some(merchant);
        SetupRow { id, merchant: of, slug: slug.to_owned(), doc, sealed: None, version: 0 }
    };
    let rows = vec![
        row(merchant, "cafe", json!({ "name": "Café", "language": "ru", "country": "RU" })),
        row(Id::new(IdKind::Programme), SLUG, rule),
    ];
    let store = Arc::new(Memory::new(Timestamp::now));
    store.put_setup(Setup { rows, ..Setup::default() }).await.unwrap();
    let master = Master::new(&Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")).unwrap();
    let vault = Vault::of(store.as_ref(), &master).await.unwrap();
    // It calls nobody.
    let clock = Clock::simulated(Timestamp::now(), 1);
    let engine = Engine::open(store, &[], vault, clock, Options::default()).await.unwrap();
    (engine, merchant)
}

fn ask(engine: &Engine, merchant: Id, body: Value) -> LoyaltyAsk {
    customers::own_ask(merchant, "key_1", "/loyalty", engine.clock.now(), body)
}

fn quote_of(kind: Kind, customer: &str, order: &str, total: i64) -> QuoteAsk {
    let customer = CustomerAsk::Plain(customer.to_owned());
    QuoteAsk { kind, customer, order: order.to_owned(), total, eligible: total, category: None, promo_code: None }
}

fn commit_of(hold: &Value, order: &str) -> CommitAsk {
    let hold = hold.as_str().unwrap_or_default().to_owned();
    CommitAsk { hold, order: order.to_owned(), receipt_number: None, promo_code: None }
}

fn body(answer: &LoyaltyAnswer) -> Value {
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn a_known_key_gets_the_same_bytes_and_another_body_under_it_is_refused() {
    let (engine, merchant) = hub(json!({})).await;
    let of = || ask(&engine, merchant, json!({}));
    let quoted = engine.loyalty_quote(of(), quote_of(Kind::Earn, "C", "A", 1_000), SOON).await.unwrap();
    let hold = body(&quoted)["holdId"].clone();
    let keyed = || LoyaltyAsk { key: Some("k1".to_owned()), ..of() };
    let first = engine.loyalty_commit(keyed(), commit_of(&hold, "A"), SOON).await.unwrap();
    let again = engine.loyalty_commit(keyed(), commit_of(&hold, "A"), SOON).await.unwrap();
    assert_eq!((first.repeated, again.repeated, &first.body), (false, true, &again.body));
    let other = engine.loyalty_commit(keyed(), commit_of(&hold, "B"), SOON).await;
    assert_eq!(other, Err(LoyaltyError::KeyReused));
    // A refund under the key of a commit is another body too.
    let refund = || RefundAsk { order: "A".to_owned(), total: 500, eligible: None };
    assert_eq!(engine.loyalty_refund(keyed(), refund(), SOON).await, Err(LoyaltyError::KeyReused));
    let under =
        |key: &str, signature: &str| LoyaltyAsk { key: Some(key.to_owned()), signature: Some(signature.to_owned()), ..of() };
    let one = engine.loyalty_refund(under("k2", "out/1/sig"), refund(), SOON).await.unwrap();
    // A spent signature gets the first answer, whatever its key.
    let two = engine.loyalty_refund(under("k3", "out/1/sig"), refund(), SOON).await.unwrap();
    assert_eq!((&one.body, two.repeated), (&two.body, true));
    let three = engine.loyalty_refund(under("k2", "out/2/sig"), refund(), SOON).await.unwrap();
    assert_eq!((&one.body, three.repeated), (&three.body, true));
    assert_eq!(engine.loyalty_balance(merchant, "C").await.unwrap().balance, 25);
    engine.clock.advance(SignedDuration::from_hours(73));
    assert!(!engine.loyalty_refund(under("k2", "out/9/sig"), refund(), SOON).await.unwrap().repeated);
}

#[test]
fn a_quote_that_cannot_be_decided_in_time_lets_the_sale_go_on() {
    let quote = quote_of(Kind::Redeem, "C", "A", 1_000);
    let answer = decide::nothing_now(&quote, Language::Ru);
    assert_eq!((&answer["canRedeem"], &answer["finalPayable"], &answer["holdId"]), (&json!(false), &json!(1_000), &Value::Null));
    assert_eq!(answer["message"], "Скидка баллами сейчас недоступна. Продолжайте без неё.");
    let earn = decide::nothing_now(&QuoteAsk { kind: Kind::Earn, ..quote }, Language::En);
    assert_eq!((&earn["canEarn"], &earn["pointsToEarn"]), (&json!(false), &json!(0)));
}

#[tokio::test]
async fn what_is_no_question_is_told_field_by_field_and_a_stranger_makes_no_customer() {
    let (engine, merchant) = hub(json!({})).await;
    let of = || ask(&engine, merchant, json!({}));
    let wrong = QuoteAsk { total: -1, ..quote_of(Kind::Redeem, " ", "", i64::MAX) };
    let Err(LoyaltyError::Malformed(faults)) = engine.loyalty_quote(of(), wrong, SOON).await else { panic!() };
    let places: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(places, ["/orderId", "/userToken", "/total", "/eligibleTotal"]);
    let open = LoyaltyAsk { authenticated: false, ..of() };
    let stranger = engine.loyalty_quote(open, quote_of(Kind::Earn, "C", "A", 100), SOON).await;
    assert_eq!(stranger, Err(LoyaltyError::WalletNotFound));
    for hold in ["", "hld_1", "cus_01", "5b9f1c52-3f43-4a5e-8a49-0f1e2d3c4b5a"] {
        let refused = engine.loyalty_commit(of(), commit_of(&json!(hold), "A"), SOON).await;
        let wanted = if hold.is_empty() { None } else { Some(LoyaltyError::HoldNotFound) };
        assert!(refused.is_err() && wanted.is_none_or(|wanted| refused == Err(wanted)), "{hold}");
    }
    let of_nobody = LoyaltyAsk { merchant: Id::new(IdKind::Merchant), ..of() };
    assert_eq!(engine.loyalty_cancel(of_nobody, "x".to_owned(), SOON).await, Err(LoyaltyError::NoProgramme));
}

#[tokio::test]
async fn a_customer_who_is_named_by_a_phone_is_one_however_it_is_written() {
    let (engine, merchant) = hub(json!({ "require_jwt_for_quote": false })).await;
    let of = || ask(&engine, merchant, json!({}));
    for phone in ["+7 (903) 123-45-67", "+79031234567", "+7-903-123-45-67"] {
        engine.loyalty_quote(of(), quote_of(Kind::Redeem, phone, "A", 100), SOON).await.unwrap();
    }
    let known = engine.customers(WalletFilter { limit: 10, ..WalletFilter::default() }).await.unwrap();
    assert_eq!((known.len(), known[0].phone.as_deref()), (1, Some("+79031234567")));
    assert_eq!(known[0].customer, known[0].id.to_string(), "a phone is no id");
    let nobody = engine.loyalty_quote(of(), quote_of(Kind::Redeem, "+7", "A", 100), SOON).await;
    assert!(matches!(nobody, Err(LoyaltyError::Malformed(_))), "{nobody:?}");
    let (strict, merchant) = hub(json!({ "require_jwt_for_quote": true })).await;
    let plain = strict.loyalty_quote(ask(&strict, merchant, json!({})), quote_of(Kind::Earn, "C", "A", 100), SOON).await;
    assert_eq!(plain, Err(LoyaltyError::TokenRequired));
}

#[tokio::test]
async fn what_the_desk_did_becomes_events_with_the_platforms_bodies_where_the_journal_is_read() {
    let (engine, merchant) = hub(json!({ "earn_bps": 1_000 })).await;
    let new = NewCustomer {
        customer: Some("C-42".to_owned()),
        phone: Some("8 (903) 123-45-67".to_owned()),
        name: Some("Anna".to_owned()),
        referred_by: None,
    };
    engine.create_customer(merchant, new.clone(), "key_1").await.unwrap();
    assert_eq!(engine.create_customer(merchant, new, "key_1").await, Err(LoyaltyError::Taken("customer or phone")));
    let of = || LoyaltyAsk { request_id: Some("req_1".to_owned()), ..ask(&engine, merchant, json!({ "orderId": "A" })) };
    let quoted = engine.loyalty_quote(of(), quote_of(Kind::Earn, "+79031234567", "A", 500), SOON).await.unwrap();
    let done = engine.loyalty_commit(of(), commit_of(&body(&quoted)["holdId"], "A"), SOON).await.unwrap();
    let refund = RefundAsk { order: "A".to_owned(), total: 250, eligible: None };
    engine.loyalty_refund(of(), refund, SOON).await.unwrap();
    let unread = engine.store.unread(10).await.unwrap();
    let world = engine.world();
    let changes = unread.iter().map(|entry| read::change(&world, entry, &Known::new(), engine.clock.now()));
    let events: Vec<_> = changes.flat_map(|change| change.events).map(|new| new.event).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["loyalty.committed", "loyalty.refunded"]);
    let committed = &events[0];
    assert_eq!(committed.phone.as_ref().unwrap().e164, "+79031234567");
    assert_eq!((committed.name.as_deref(), committed.subject.as_str()), (Some("Anna"), "order/A"));
    assert_eq!(committed.data["receiptId"], body(&done)["receiptId"]);
    for (field, wanted) in [("customerId", "C-42"), ("orderId", "A"), ("requestId", "req_1")] {
        assert_eq!(committed.data[field], wanted);
    }
    assert_eq!((&committed.data["earnApplied"], &committed.data["schemaVersion"]), (&json!(50), &json!(1)));
    let refunded = &events[1].data;
    assert_eq!(
        (&refunded["share"], &refunded["pointsRevoked"], &refunded["pointsRestored"]),
        (&json!(0.5), &json!(25), &json!(0))
    );
    assert!(committed.key.starts_with(&format!("commit/{}", body(&done)["receiptId"].as_str().unwrap())));
}

#[tokio::test]
async fn a_page_of_movements_ends_with_a_moment_so_that_none_is_lost_between_two() {
    let (engine, merchant) = hub(json!({})).await;
    for number in 0..7 {
        let adjust = AdjustAsk { customer: "C".to_owned(), points: 10 + number, reason: "a gift".to_owned(), expires_at: None };
        if number == 0 {
            engine
                .create_customer(merchant, NewCustomer { customer: Some("C".into()), ..Default::default() }, "k")
                .await
                .unwrap();
        }
        engine.loyalty_adjust(ask(&engine, merchant, json!({})), adjust).await.unwrap();
        engine.clock.advance(SignedDuration::from_millis(i64::from(number % 3 == 2)));
    }
    for by_time in [true, false] {
        let (mut before, mut seen) = (None, Vec::new());
        loop {
            let page = TransactionsAsk { customer: Some("C".into()), limit: 2, before, ..TransactionsAsk::default() };
            let page = engine.loyalty_transactions(merchant, page).await.unwrap();
            seen.extend(page.items.into_iter().map(|item| item.amount));
            before = if by_time { page.next_before.map(|at| at.to_string()) } else { page.next_cursor };
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen, [16, 15, 14, 13, 12, 11, 10]);
    }
    let wrong = TransactionsAsk { before: Some("yesterday".into()), ..TransactionsAsk::default() };
    assert!(matches!(engine.loyalty_transactions(merchant, wrong).await, Err(LoyaltyError::Malformed(_))));
}

#[tokio::test]
async fn an_import_takes_each_line_once_and_tells_of_a_dry_run_what_it_would_do() {
    let (engine, merchant) = hub(json!({})).await;
    let row = |customer: &str, phone: &str, balance: i64| ImportRow {
        customer: Some(customer.to_owned()),
        phone: Some(phone.to_owned()),
        balance: Some(balance.to_string()),
        ..ImportRow::default()
    };
    let rows = || vec![row("C-1", "+79031234567", 100), row("", "+79031234568", 0)];
    let known = async || engine.customers(WalletFilter { limit: 10, ..Default::default() }).await.unwrap().len();
    let dry = engine.import_customers(merchant, rows(), true, "key_1").await.unwrap();
    assert_eq!((dry.made, dry.points, dry.faults.len(), known().await), (2, 100, 0, 0));
    // With one wrong line nothing is taken of the others, and everything is told that is wrong with it.
    let level = ImportRow { level: Some("Gold".to_owned()), name: Some("n".repeat(201)), ..row("+7", "12", -1) };
    let wrong = [row("", "", 5), level, row("C-1", "+79031234567", 101), row("C-9", "8 903 123-45-68", 0)];
    let mended = engine.import_customers(merchant, rows().into_iter().chain(wrong).collect(), false, "key_1").await.unwrap();
    let told: Vec<(u64, Option<&str>)> = mended.faults.iter().map(|fault| (fault.row, fault.column.as_deref())).collect();
    let wanted = [
        (3, None),
        (4, Some("customer")),
        (4, Some("phone")),
        (4, Some("name")),
        (4, Some("level")),
        (4, Some("balance")),
        (5, Some("customer")),
        (6, Some("phone")),
    ];
    assert_eq!((told.as_slice(), mended.made, known().await), (wanted.as_slice(), 2, 0), "{:?}", mended.faults);
    assert_eq!(mended.faults[4].why, "`Gold` is no level of the programme: it has none");
    let done = engine.import_customers(merchant, rows(), false, "key_1").await.unwrap();
    assert_eq!(done, dry);
    let again = engine.import_customers(merchant, rows(), false, "key_1").await.unwrap();
    assert_eq!((again.made, again.same, again.points), (0, 2, 0));
    let other = engine.import_customers(merchant, vec![row("C-1", "+79031234567", 900)], false, "key_1").await.unwrap();
    assert_eq!(other.faults.len(), 1);
    assert_eq!(engine.loyalty_balance(merchant, "+79031234567").await.unwrap().balance, 100);
    assert_eq!(engine.audit_loyalty(None).await.unwrap().findings, []);
}

#[tokio::test]
async fn more_movements_than_the_programme_takes_for_likely_are_refused() {
    let (engine, merchant) = hub(json!({ "limits": { "customer": { "count": 2, "period_s": 120 } } })).await;
    let mut ended = Vec::new();
    for order in ["A", "B", "C"] {
        let of = || ask(&engine, merchant, json!({}));
        let quoted = engine.loyalty_quote(of(), quote_of(Kind::Earn, "C", order, 1_000), SOON).await.unwrap();
        ended.push(engine.loyalty_commit(of(), commit_of(&body(&quoted)["holdId"], order), SOON).await.err());
    }
    let Some(error) = ended.pop().flatten() else { panic!() };
    assert_eq!(
        (ended, error.says(Language::Ru).as_str()),
        (vec![None, None], "Антифрод: превышен лимит операций (customer=2/2)")
    );
}

#[tokio::test]
async fn the_same_card_on_ten_tills_is_spent_once() {
    let (engine, merchant) = hub(json!({ "reserve": false, "redeem_limit_bps": 10_000 })).await;
    let adjust = AdjustAsk { customer: "C".to_owned(), points: 100, reason: "a gift".to_owned(), expires_at: None };
    engine.create_customer(merchant, NewCustomer { customer: Some("C".into()), ..Default::default() }, "k").await.unwrap();
    engine.loyalty_adjust(ask(&engine, merchant, json!({})), adjust).await.unwrap();
    let tills = (0..10).map(|till| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let order = format!("O-{till}");
            let of = || ask(&engine, merchant, json!({}));
            let quoted = engine.loyalty_quote(of(), quote_of(Kind::Redeem, "C", &order, 100), SOON).await.unwrap();
            let done = engine.loyalty_commit(of(), commit_of(&body(&quoted)["holdId"], &order), SOON).await.unwrap();
            body(&done)["redeemApplied"].as_i64().unwrap()
        })
    });
    let mut spent = 0;
    for till in tills {
        spent += till.await.unwrap();
    }
    assert_eq!((spent, engine.loyalty_balance(merchant, "C").await.unwrap().balance), (100, 0));
}
