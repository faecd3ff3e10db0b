//! Answers of JOWi: numbers and statuses come as numbers or as text, a refusal with any HTTP status.

use rust_decimal::{Decimal, prelude::ToPrimitive};
use serde_json::{Value, json};
use uzel_model::{
    CallError, Reply,
    port::loyalty::{Account, AccountKey, Declined, Operation, OperationKind, OperationState, Scheme, Told, Why},
};

use crate::tree;

/// The shortest end of a phone by which two ways of writing it are compared.
const PHONE_DIGITS_MIN: usize = 7;

/// Reads an answer: its body where JOWi says yes. After a call that `writes` a failure of theirs leaves the outcome open.
pub(super) fn answer(reply: &Reply, writes: bool) -> Told<Value> {
    let body: Value = reply.json()?;
    let status = whole(&body["status"]);
    if status == Some(1) && reply.status < 400 {
        return Ok(Ok(body));
    }
    let code = whole(&body["error"]).filter(|code| *code != 0).or_else(|| (reply.status >= 400).then(|| i64::from(reply.status)));
    let message = tree::text(&body["message"]).unwrap_or_else(|| "no reason is given".to_owned());
    let says = |number: i64| format!("JOWi says {number}: {message}");
    let declined = |why: Why, number: i64| Ok(Err(Declined { why, reason: says(number) }));
    match (code, status) {
        // A repeat of an operation that is known: as good as yes.
        (Some(409), _) if body["operation"].is_object() => Ok(Ok(body)),
        (Some(404), _) => declined(Why::NotFound, 404),
        (Some(402), _) => declined(Why::NotEnough, 402),
        (Some(423), _) => declined(Why::Blocked, 423),
        (Some(number @ (401 | 403)), _) => Err(CallError::Unauthorized(says(number))),
        (Some(429), _) => Err(CallError::Later { reason: says(429), at: None }),
        (Some(number @ 500..600), _) if writes => Err(CallError::Lost(says(number))),
        (Some(number @ 500..600), _) => Err(CallError::Unreachable(says(number))),
        (Some(number), _) => declined(Why::Other, number),
        (None, Some(0)) => declined(Why::Other, 0),
        // A missing status is no yes, and says no no either.
        (None, _) => Err(CallError::Unreadable("neither status 1 nor an error is in the answer".to_owned())),
    }
}

/// Whether it is said that an operation is known, without saying what became of it.
pub(super) fn is_known(reply: &Reply) -> bool {
    let body: Value = reply.json().unwrap_or_default();
    whole(&body["error"]).unwrap_or_else(|| i64::from(reply.status)) == 409 && !body["operation"].is_object()
}

fn decimal(value: &Value) -> Option<Decimal> {
    tree::text(value)?.replace(',', ".").parse().ok()
}

/// A whole number, as number or text; "1.0" is one.
fn whole(value: &Value) -> Option<i64> {
    decimal(value).filter(Decimal::is_integer)?.to_i64()
}

fn unreadable(field: &str, value: &Value) -> CallError {
    let found = match value {
        Value::Null => "is missing",
        _ => "is not what was expected",
    };
    CallError::Unreadable(format!("{field} {found}"))
}

/// A number that may be missing.
fn number(of: &Value, field: &str, default: Decimal) -> Result<Decimal, CallError> {
    match &of[field] {
        Value::Null => Ok(default),
        value => decimal(value).ok_or_else(|| unreadable(field, value)),
    }
}

/// Points: what is less than a whole one cannot be spent.
fn points(of: &Value, field: &str) -> Result<i64, CallError> {
    decimal(&of[field]).and_then(|points| points.floor().to_i64()).ok_or_else(|| unreadable(field, &of[field]))
}

/// Sums are in whole ones, ours are hundredths; so are per cent beside basis points.
fn hundredths(sum: Decimal, field: &str) -> Result<i64, CallError> {
    let times = sum.checked_mul(Decimal::ONE_HUNDRED).and_then(|sum| sum.trunc().to_i64());
    times.ok_or_else(|| CallError::Unreadable(format!("{field} is too large")))
}

/// A share of 100 % at the most.
fn bps(of: &Value, field: &str, default: Decimal) -> Result<u32, CallError> {
    let share = number(of, field, default)?.clamp(Decimal::ZERO, Decimal::ONE_HUNDRED);
    Ok(hundredths(share, field)? as u32)
}

/// Hundredths as JOWi writes sums: 80000, 99.5.
pub(super) fn sum(minor: i64) -> Value {
    part(minor, 100)
}

/// Thousandths as JOWi writes quantities.
pub(super) fn quantity(milli: i64) -> Value {
    part(milli, 1_000)
}

fn part(value: i64, of: i64) -> Value {
    if value % of == 0 {
        return json!(value / of);
    }
    let exact = Decimal::from(value) / Decimal::from(of);
    serde_json::from_str(&exact.normalize().to_string()).unwrap_or_default()
}

/// The account, if it is the one that was asked for.
pub(super) fn account(body: &Value, asked: &AccountKey) -> Told<Account> {
    let account = &body["account"];
    if !account.is_object() {
        return Err(unreadable("account", account));
    }
    let id = tree::text(&account["account_id"]).ok_or_else(|| unreadable("account.account_id", &account["account_id"]))?;
    if is_anothers(account, asked) {
        return Err(CallError::Unreadable("another guest's account came back".to_owned()));
    }
    if let Some(word) = tree::text(&account["status"]).filter(|word| !word.eq_ignore_ascii_case("active")) {
        return Ok(Err(Declined { why: Why::Blocked, reason: format!("the account is «{word}»") }));
    }
    let (program, balance) = (&account["program"], &account["balance"]);
    let all = points(balance, "points")?;
    let available = if balance["available_points"].is_null() { all } else { points(balance, "available_points")? };
    let point_minor = hundredths(number(balance, "point_value_sum", Decimal::ONE)?, "point_value_sum")?;
    if point_minor <= 0 {
        return Err(CallError::Unreadable("point_value_sum is not above zero".to_owned()));
    }
    let scheme = match tree::text(&program["type"]).as_deref() {
        Some("discount") => Scheme::Discount { bps: bps(account, "discount_percent", Decimal::ZERO)? },
        _ => Scheme::Bonus,
    };
    Ok(Ok(Account {
        id,
        name: tree::text(&account["name"]),
        scheme,
        accrual_bps: bps(program, "accrual_percent", Decimal::ZERO)?,
        redeem_max_bps: bps(program, "max_redeem_percent", Decimal::ONE_HUNDRED)?,
        points: all,
        available: available.max(0),
        point_minor,
    }))
}

/// Whether what is told of the account contradicts what was asked. Phones are written with a country and without.
fn is_anothers(account: &Value, asked: &AccountKey) -> bool {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    match asked {
        AccountKey::Phone(asked) => tree::text(&account["phone"]).is_some_and(|told| {
            let (one, other) = (digits(asked), digits(&told));
            let shorter = one.len().min(other.len());
            shorter >= PHONE_DIGITS_MIN && !one.ends_with(&other) && !other.ends_with(&one)
        }),
        AccountKey::Card(asked) => tree::text(&account["card_number"]).is_some_and(|told| digits(&told) != digits(asked)),
        AccountKey::Code(_) => false,
    }
}

/// The operation, whatever it is.
pub(super) fn operation(body: &Value) -> Result<Operation, CallError> {
    let told = &body["operation"];
    let text = |field: &str| tree::text(&told[field]).ok_or_else(|| unreadable(&format!("operation.{field}"), &told[field]));
    let kind = match text("type")?.as_str() {
        "accrual" => OperationKind::Accrual,
        "redemption" => OperationKind::Redemption,
        "reversal" => OperationKind::Reversal,
        _ => return Err(unreadable("operation.type", &told["type"])),
    };
    let state = match text("state")?.as_str() {
        "committed" => OperationState::Committed,
        "reversed" => OperationState::Reversed,
        "failed" => OperationState::Failed,
        // A word that nobody knows decides nothing.
        _ => OperationState::Pending,
    };
    Ok(Operation {
        id: text("id")?,
        operation: text("operation_id")?,
        kind,
        state,
        points: points(told, "points")?.saturating_abs(),
        balance_after: points(told, "balance_after").ok(),
    })
}

#[cfg(test)]
mod tests {
    use uzel_model::Bytes;

    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, headers: Vec::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn a_refusal_is_told_by_its_number_whatever_the_http_status_is() {
        let why = |status: u16, body: &str| answer(&reply(status, body), true).unwrap().unwrap_err().why;
        assert_eq!(why(200, r#"{"status":0,"error":404,"message":"account not found"}"#), Why::NotFound);
        assert_eq!(why(404, r#"{"status":"0.0","error":"404.0"}"#), Why::NotFound);
        assert_eq!(why(402, r#"{"message":"not enough"}"#), Why::NotEnough);
        assert_eq!(why(200, r#"{"error":423}"#), Why::Blocked);
        assert_eq!(why(200, r#"{"status":0,"error":27,"message":"Описание ошибки"}"#), Why::Other);
        assert_eq!(why(200, r#"{"status":0}"#), Why::Other);
        // A status of 1 beside an HTTP error is none.
        assert_eq!(why(400, r#"{"status":1,"account":{}}"#), Why::Other);
    }

    #[test]
    fn what_is_neither_yes_nor_no_is_an_error_of_its_class() {
        let class = |status: u16, body: &str, writes: bool| answer(&reply(status, body), writes).unwrap_err();
        for body in [
            "<html>",
            "",
            "{}",
            "[]",
            "null",
            "7",
            r#"{"account":{"account_id":"a"}}"#,
            r#"{"status":[1]}"#,
            r#"{"status":true}"#,
        ] {
            assert!(matches!(class(200, body, false), CallError::Unreadable(_)), "{body}");
        }
        assert!(matches!(class(404, "<html>no such page</html>", false), CallError::Unreadable(_)), "a proxy knows no accounts");
        assert!(matches!(class(200, r#"{"status":0,"error":401}"#, true), CallError::Unauthorized(_)));
        assert!(matches!(class(403, r#"{"status":0}"#, true), CallError::Unauthorized(_)));
        assert!(matches!(class(200, r#"{"status":0,"error":429}"#, true), CallError::Later { .. }));
        assert!(matches!(class(200, r#"{"status":0,"error":503}"#, false), CallError::Unreachable(_)));
        assert!(matches!(class(200, r#"{"status":0,"error":500}"#, true), CallError::Lost(_)));
    }

    #[test]
    fn a_repeat_that_is_known_is_as_good_as_yes() {
        let known = r#"{"status":0,"error":409,"operation":{"id":"op-1","operation_id":"o","type":"accrual","points":"4000.0","state":"committed"}}"#;
        assert_eq!(operation(&answer(&reply(409, known), true).unwrap().unwrap()).unwrap().points, 4_000);
        assert!(is_known(&reply(200, r#"{"status":0,"error":"409"}"#)) && is_known(&reply(409, "{}")));
        assert!(!is_known(&reply(200, known)) && !is_known(&reply(404, "{}")));
    }

    #[test]
    fn numbers_come_as_text_and_points_are_whole() {
        let asked = AccountKey::Phone("+998901234567".to_owned());
        let told = |account: Value, asked: &AccountKey| super::account(&json!({ "account": account }), asked).map(Result::unwrap);
        let read = |account: Value| told(account, &asked);
        let text = json!({ "account_id": 123, "phone": "90 123-45-67", "status": "Active", "program": { "type": "bonus",
            "accrual_percent": "5.5", "max_redeem_percent": "130" },
            "balance": { "points": "15400.9", "available_points": "-20.0", "point_value_sum": "1.5" } });
        let account = read(text).unwrap();
        assert_eq!((account.id.as_str(), account.points, account.available), ("123", 15_400, 0));
        assert_eq!((account.accrual_bps, account.redeem_max_bps, account.point_minor), (550, 10_000, 150));
        let bare = json!({ "account_id": "a", "balance": { "points": 7 } });
        assert_eq!(
            read(bare).map(|account| (account.available, account.point_minor, account.redeem_max_bps)).unwrap(),
            (7, 100, 10_000)
        );
        for odd in [
            json!(null),
            json!([]),
            json!({ "balance": { "points": 1 } }),
            json!({ "account_id": "a" }),
            json!({ "account_id": "a", "balance": { "points": "many" } }),
            json!({ "account_id": "a", "balance": { "points": null } }),
            json!({ "account_id": "a", "balance": { "points": 1e30 } }),
            json!({ "account_id": "a", "balance": { "points": 1, "point_value_sum": 0 } }),
            json!({ "account_id": "a", "balance": { "points": 1 }, "phone": "+998907654321" }),
        ] {
            assert!(matches!(read(odd.clone()), Err(CallError::Unreadable(_))), "{odd}");
        }
        let card = AccountKey::Card("2900001234567".to_owned());
        let other = json!({ "account_id": "a", "card_number": "2900001234568", "balance": { "points": 1 } });
        assert!(told(other, &card).is_err());
    }

    #[test]
    fn sums_go_out_in_whole_ones_where_they_are_whole() {
        assert_eq!(sum(8_000_000), json!(80_000));
        assert_eq!(sum(9_950).to_string(), "99.5");
        assert_eq!(quantity(2_000), json!(2));
        assert_eq!(quantity(350).to_string(), "0.35");
    }
}
