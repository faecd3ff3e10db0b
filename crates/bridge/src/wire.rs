//! What tills send, and the bytes that go to the hub for it: known members only, in the one order by which every reading of a
//! signature (over the bytes as sent, or over members put in order again) comes to the same.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::settings::Settings;

/// Beyond this a number is not exact for everybody who reads JSON.
const NUMBER_MAX: u64 = (1 << 53) - 1;
const TEXT_BYTES_MAX: usize = 4_096;

/// All that is wrong with a till's body; each fault names its field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Faults(Vec<String>);

impl Faults {
    fn one(fault: impl Into<String>) -> Self {
        Self(vec![fault.into()])
    }

    pub(crate) fn text(&self) -> String {
        self.0.join("; ")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Redeem,
    Earn,
}

/// A body of `/loyalty/quote`, in the canonical order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Quote {
    pub mode: Mode,
    pub merchant_id: String,
    pub user_token: String,
    pub order_id: String,
    /// In the programme's units, as all sums here.
    pub total: u64,
    pub eligible_total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlet_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staff_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promo_code: Option<String>,
}

/// A body of `/loyalty/commit`. The canonical form ends with `receiptNumber`: what stands behind it is there only where the till
/// gave it, and is then covered by the signature over the bytes as sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Commit {
    pub merchant_id: String,
    pub hold_id: String,
    pub order_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promo_code: Option<String>,
}

/// A body of `/loyalty/refund`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refund {
    pub merchant_id: String,
    pub order_id: String,
    pub refund_total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refund_eligible_total: Option<u64>,
    /// The till's own name of this refund: it tells a repeat from a second refund of the same sum, and is not sent.
    #[serde(skip)]
    pub own_id: Option<String>,
}

/// A body of `/loyalty/cancel`. The platform wants the hold alone; the hub finds the secret of the signature by the merchant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cancel {
    pub hold_id: String,
    pub merchant_id: String,
}

/// A body of `/loyalty/qr`: the canonical form ends with `customerId`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Code {
    pub merchant_id: String,
    pub customer_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_sec: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_data: Option<String>,
}

/// The bytes that are signed and sent.
pub(crate) fn bytes(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("texts and whole numbers are always JSON")
}

impl Quote {
    pub(crate) fn read(body: &[u8], settings: &Settings) -> Result<Self, Faults> {
        let mut fields = Fields::read(body)?;
        let mode = fields.mode();
        let (total, eligible_total) = (fields.number("total"), fields.number("eligibleTotal"));
        let quote = Self {
            mode,
            merchant_id: fields.text("merchantId").unwrap_or_else(|| settings.merchant.clone()),
            user_token: fields.needed("userToken"),
            order_id: fields.needed("orderId"),
            total: fields.must("total", total),
            eligible_total: fields.must("eligibleTotal", eligible_total),
            outlet_id: fields.text("outletId").or_else(|| settings.outlet.clone()),
            staff_id: fields.text("staffId"),
            request_id: fields.text("requestId"),
            category: fields.text("category"),
            promo_code: fields.text("promoCode"),
        };
        fields.end(quote)
    }

    /// Whether the buyer shows a one-time code, which only the hub can check.
    pub(crate) fn is_by_code(&self) -> bool {
        self.user_token.split('.').count() == 3
    }
}

impl Commit {
    pub(crate) fn read(body: &[u8], settings: &Settings) -> Result<Self, Faults> {
        let mut fields = Fields::read(body)?;
        let commit = Self {
            merchant_id: fields.text("merchantId").unwrap_or_else(|| settings.merchant.clone()),
            hold_id: fields.needed("holdId"),
            order_id: fields.needed("orderId"),
            receipt_number: fields.text("receiptNumber"),
            provider: fields.text("provider"),
            request_id: fields.text("requestId"),
            promo_code: fields.text("promoCode"),
        };
        fields.end(commit)
    }
}

impl Refund {
    pub(crate) fn read(body: &[u8], settings: &Settings) -> Result<Self, Faults> {
        let mut fields = Fields::read(body)?;
        let total = fields.number("refundTotal");
        let refund = Self {
            merchant_id: fields.text("merchantId").unwrap_or_else(|| settings.merchant.clone()),
            order_id: fields.needed("orderId"),
            refund_total: fields.must("refundTotal", total),
            refund_eligible_total: fields.number("refundEligibleTotal"),
            own_id: fields.text("refundId").or_else(|| fields.text("requestId")),
        };
        fields.end(refund)
    }
}

impl Cancel {
    pub(crate) fn read(body: &[u8], settings: &Settings) -> Result<Self, Faults> {
        let mut fields = Fields::read(body)?;
        let cancel = Self {
            hold_id: fields.needed("holdId"),
            merchant_id: fields.text("merchantId").unwrap_or_else(|| settings.merchant.clone()),
        };
        fields.end(cancel)
    }
}

impl Code {
    pub(crate) fn read(body: &[u8], settings: &Settings) -> Result<Self, Faults> {
        let mut fields = Fields::read(body)?;
        let code = Self {
            merchant_id: fields.text("merchantId").unwrap_or_else(|| settings.merchant.clone()),
            customer_id: fields.needed("customerId"),
            ttl_sec: fields.number("ttlSec"),
            init_data: fields.text("initData"),
        };
        fields.end(code)
    }
}

/// The members of a body, and what is wrong with them so far. `null` is as good as absent.
struct Fields {
    members: Map<String, Value>,
    faults: Vec<String>,
}

impl Fields {
    fn read(body: &[u8]) -> Result<Self, Faults> {
        let text = std::str::from_utf8(body).map_err(|_| Faults::one("the body is not UTF-8"))?;
        if text.trim().is_empty() {
            return Err(Faults::one("the body is empty: it must be a JSON object"));
        }
        match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
            Ok(Value::Object(members)) => Ok(Self { members, faults: Vec::new() }),
            Ok(_) => Err(Faults::one("the body must be a JSON object")),
            Err(error) => Err(Faults::one(format!("the body is not JSON (line {}, column {})", error.line(), error.column()))),
        }
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let fault = match self.members.remove(name)? {
            Value::Null => return None,
            Value::String(text) if text.is_empty() => "must not be empty",
            Value::String(text) if text.len() > TEXT_BYTES_MAX => "is too long",
            Value::String(text) => return Some(text),
            _ => "must be a string",
        };
        self.faults.push(format!("{name} {fault}"));
        None
    }

    fn needed(&mut self, name: &str) -> String {
        let before = self.faults.len();
        let text = self.text(name);
        if text.is_none() && self.faults.len() == before {
            self.faults.push(format!("{name} is missing"));
        }
        text.unwrap_or_default()
    }

    /// A sum or a count in whole units; fractions are cut off, as the hub would do.
    fn number(&mut self, name: &str) -> Option<u64> {
        let fault = match self.members.remove(name)? {
            Value::Null => return None,
            Value::Number(number) => match (number.as_u64(), number.as_f64()) {
                (Some(whole), _) if whole <= NUMBER_MAX => return Some(whole),
                (_, Some(value)) if value < 0.0 => "must not be less than 0",
                // The cast is exact: the value is whole and not beyond 53 bits.
                (None, Some(value)) if value.is_finite() && value <= NUMBER_MAX as f64 => return Some(value.floor() as u64),
                _ => "is too large",
            },
            _ => "must be a number",
        };
        self.faults.push(format!("{name} {fault}"));
        None
    }

    fn must(&mut self, name: &str, number: Option<u64>) -> u64 {
        if number.is_none() && !self.faults.iter().any(|fault| fault.split(' ').next() == Some(name)) {
            self.faults.push(format!("{name} is missing"));
        }
        number.unwrap_or_default()
    }

    fn mode(&mut self) -> Mode {
        match self.text("mode").map(|mode| mode.to_ascii_lowercase()).as_deref() {
            Some("redeem") => Mode::Redeem,
            Some("earn") => Mode::Earn,
            _ => {
                self.faults.retain(|fault| !fault.starts_with("mode "));
                self.faults.push("mode must be redeem or earn".into());
                Mode::Earn
            }
        }
    }

    fn end<T>(self, read: T) -> Result<T, Faults> {
        if self.faults.is_empty() { Ok(read) } else { Err(Faults(self.faults)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::read("hub = 'https://hub.example'\nmerchant = 'M-1'\noutlet = 'OUT-1'\nsecret = 'x'").unwrap()
    }

    #[test]
    fn a_quote_goes_out_in_the_canonical_order_with_what_the_till_left_out() {
        let till = r#"{"outletId":null,"total":1000.0,"orderId":"ORD-1001","eligibleTotal":1000,"userToken":"C-42","mode":"REDEEM","color":1}"#;
        let quote = Quote::read(till.as_bytes(), &settings()).unwrap();
        assert_eq!(
            bytes(&quote),
            r#"{"mode":"redeem","merchantId":"M-1","userToken":"C-42","orderId":"ORD-1001","total":1000,"eligibleTotal":1000,"outletId":"OUT-1"}"#
        );
        assert!(!quote.is_by_code());
        let till = "\u{feff}{\"mode\":\"earn\",\"userToken\":\"a.b.c\",\"orderId\":\"\\u0001\u{2028}\\\"/\",\"total\":99.99,\"eligibleTotal\":0}";
        let quote = Quote::read(till.as_bytes(), &settings()).unwrap();
        assert_eq!(quote.total, 99);
        assert!(quote.is_by_code());
        // As JSON.stringify writes it.
        assert!(bytes(&quote).contains("\"orderId\":\"\\u0001\u{2028}\\\"/\""), "{}", bytes(&quote));
    }

    #[test]
    fn commits_and_refunds_keep_their_order_too() {
        let till = r#"{"orderId":"O","receiptNumber":"R","holdId":"h","promoCode":"P"}"#;
        let commit = Commit::read(till.as_bytes(), &settings()).unwrap();
        assert_eq!(bytes(&commit), r#"{"merchantId":"M-1","holdId":"h","orderId":"O","receiptNumber":"R","promoCode":"P"}"#);
        let till = r#"{"refundId":"r-1","refundTotal":250,"orderId":"O"}"#;
        let refund = Refund::read(till.as_bytes(), &settings()).unwrap();
        assert_eq!(bytes(&refund), r#"{"merchantId":"M-1","orderId":"O","refundTotal":250}"#);
        assert_eq!(refund.own_id.as_deref(), Some("r-1"));
    }

    #[test]
    fn every_fault_names_its_field() {
        for (till, told) in [
            ("", "the body is empty: it must be a JSON object"),
            ("[]", "the body must be a JSON object"),
            ("{", "the body is not JSON (line 1, column 1)"),
            (
                "{}",
                "mode must be redeem or earn; userToken is missing; orderId is missing; total is missing; eligibleTotal is missing",
            ),
            (
                r#"{"mode":"spend","userToken":1,"orderId":"","total":"5","eligibleTotal":-1}"#,
                "total must be a number; eligibleTotal must not be less than 0; mode must be redeem or earn; userToken must be a string; \
                 orderId must not be empty",
            ),
            (r#"{"mode":"earn","userToken":"c","orderId":"o","total":1e300,"eligibleTotal":1}"#, "total is too large"),
            (r#"{"mode":"earn","userToken":"c","orderId":"o","total":9007199254740992,"eligibleTotal":1}"#, "total is too large"),
        ] {
            let mut faults = Quote::read(till.as_bytes(), &settings()).unwrap_err().0;
            let mut told: Vec<String> = told.split("; ").map(str::to_owned).collect();
            faults.sort();
            told.sort();
            assert_eq!(faults, told, "{till}");
        }
        assert_eq!(Quote::read(b"\xff", &settings()).unwrap_err().text(), "the body is not UTF-8");
    }
}
