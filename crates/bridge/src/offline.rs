//! Quotes without the hub, by the merchant's rule. Pure.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::{
    record::LocalHold,
    settings::{Offline, OfflineQuotes},
    wire::{self, Mode, Quote},
    words::{Language, Said},
};

/// Holds of the bridge's own begin so.
pub(crate) const HOLD_PREFIX: &str = "off-";
/// Buyers whose balance is remembered, and holds whose buyer is.
const REMEMBERED_MAX: usize = 10_000;

/// The answer to a quote, and the hold that stands behind it. `balance` is the buyer's last known one.
pub(crate) fn answer(
    rule: &Offline,
    quote: &Quote,
    balance: Option<u64>,
    language: Language,
    reason: &str,
    now_ms: i64,
) -> (Value, Option<LocalHold>) {
    let hold = |promised| LocalHold {
        id: format!("{HOLD_PREFIX}{}", uuid::Uuid::new_v4().simple()),
        mode: quote.mode,
        body: wire::bytes(quote),
        user: quote.user_token.clone(),
        promised,
        at_ms: now_ms,
    };
    let share = |bps: u32| u64::try_from(u128::from(quote.eligible_total) * u128::from(bps) / 10_000).unwrap_or(u64::MAX);
    let held = match quote.mode {
        // A code is spent by its first use, and only the hub knows whether it was.
        _ if quote.is_by_code() => None,
        Mode::Earn => Some(share(rule.earn_bps)).filter(|_| rule.quotes == OfflineQuotes::Earn),
        Mode::Redeem => balance.map(|balance| balance.min(rule.redeem_max).min(share(rule.redeem_limit_bps)).min(quote.total)),
    };
    let held = held.filter(|points| *points > 0).map(hold);
    let said = match (&held, quote.mode) {
        (Some(hold), Mode::Earn) => Said::WillEarn(hold.promised),
        (Some(hold), Mode::Redeem) => Said::Redeemed(hold.promised),
        (None, _) if quote.is_by_code() => Said::NoCode,
        (None, Mode::Earn) => Said::NoEarn,
        (None, Mode::Redeem) => Said::NoRedeem,
    };
    let points = held.as_ref().map_or(0, |hold| hold.promised);
    let mut answer = match quote.mode {
        Mode::Earn => json!({ "canEarn": held.is_some(), "pointsToEarn": points }),
        Mode::Redeem => json!({
            "canRedeem": held.is_some(),
            "discountToApply": points,
            "pointsToBurn": points,
            "finalPayable": quote.total - points,
        }),
    };
    if let Some(hold) = &held {
        answer["holdId"] = json!(hold.id);
    }
    answer["message"] = json!(said.text(language));
    answer["offline"] = json!(true);
    answer["reason"] = json!(reason);
    (answer, held)
}

/// The last balances that the hub told, in memory only: after a restart none is known.
#[derive(Default)]
pub(crate) struct Balances {
    by_user: HashMap<String, (u64, i64)>,
    /// Buyers and points behind holds of the hub that would spend.
    by_hold: HashMap<String, (String, u64)>,
}

impl Balances {
    pub(crate) fn saw(&mut self, user: &str, points: u64, now_ms: i64) {
        if self.by_user.len() >= REMEMBERED_MAX {
            self.by_user.clear();
        }
        self.by_user.insert(user.to_owned(), (points, now_ms));
    }

    pub(crate) fn holds(&mut self, hold: &str, user: &str, points: u64) {
        if self.by_hold.len() >= REMEMBERED_MAX {
            self.by_hold.clear();
        }
        self.by_hold.insert(hold.to_owned(), (user.to_owned(), points));
    }

    pub(crate) fn known(&self, user: &str, rule: &Offline, now_ms: i64) -> Option<u64> {
        let (points, at_ms) = self.by_user.get(user)?;
        (now_ms - at_ms < i64::from(rule.balance_hours) * 3_600_000).then_some(*points)
    }

    /// Points are promised or spent: they cannot be promised once more.
    pub(crate) fn spend(&mut self, user: &str, points: u64) {
        if let Some((known, _)) = self.by_user.get_mut(user) {
            *known = known.saturating_sub(points);
        }
    }

    pub(crate) fn give_back(&mut self, user: &str, points: u64) {
        if let Some((known, _)) = self.by_user.get_mut(user) {
            *known += points;
        }
    }

    /// What the hub said that a hold would spend.
    pub(crate) fn promised(&self, hold: &str) -> Option<u64> {
        self.by_hold.get(hold).map(|(_, points)| *points)
    }

    /// The commit of a hold of the hub.
    pub(crate) fn committed(&mut self, hold: &str) {
        if let Some((user, points)) = self.by_hold.remove(hold) {
            self.spend(&user, points);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn quote(mode: &str, user: &str) -> Quote {
        let settings = Settings::read("hub = 'https://hub.example'\nmerchant = 'M'\nsecret = 'x'").unwrap();
        let till = format!(r#"{{"mode":"{mode}","userToken":"{user}","orderId":"O","total":1000,"eligibleTotal":900}}"#);
        Quote::read(till.as_bytes(), &settings).unwrap()
    }

    fn points(rule: &Offline, quote: &Quote, balance: Option<u64>) -> Option<u64> {
        let (answer, hold) = answer(rule, quote, balance, Language::En, "no line", 0);
        assert_eq!(answer["offline"], true);
        assert_eq!(answer["holdId"].is_string(), hold.is_some());
        assert!(!answer["message"].as_str().unwrap().is_empty());
        hold.map(|hold| hold.promised)
    }

    #[test]
    fn nothing_is_promised_unless_the_merchant_says_so() {
        let refuse = Offline::default();
        assert_eq!(points(&refuse, &quote("earn", "C-1"), None), None);
        assert_eq!(points(&refuse, &quote("redeem", "C-1"), Some(500)), None);
        let (said, _) = answer(&refuse, &quote("redeem", "C-1"), None, Language::Ru, "no line", 0);
        assert_eq!((said["canRedeem"].clone(), said["finalPayable"].clone()), (json!(false), json!(1000)));
    }

    #[test]
    fn points_go_by_the_rate_and_spending_by_the_least_of_its_limits() {
        let rule = Offline { quotes: OfflineQuotes::Earn, earn_bps: 555, redeem_max: 300, ..Offline::default() };
        assert_eq!(points(&rule, &quote("earn", "C-1"), None), Some(49));
        assert_eq!(points(&rule, &quote("earn", "a.b.c"), None), None, "a code can only be checked by the hub");
        assert_eq!(points(&rule, &quote("redeem", "C-1"), None), None, "no balance is known");
        assert_eq!(points(&rule, &quote("redeem", "C-1"), Some(0)), None);
        assert_eq!(points(&rule, &quote("redeem", "C-1"), Some(120)), Some(120));
        assert_eq!(points(&rule, &quote("redeem", "C-1"), Some(9_000)), Some(300));
        let tight = Offline { redeem_limit_bps: 1_000, ..rule };
        assert_eq!(points(&tight, &quote("redeem", "C-1"), Some(9_000)), Some(90));
    }

    #[test]
    fn a_balance_is_not_promised_twice_and_grows_old() {
        let rule = Offline::default();
        let mut balances = Balances::default();
        balances.saw("C-1", 100, 0);
        balances.holds("h", "C-1", 30);
        balances.committed("h");
        balances.committed("h");
        assert_eq!(balances.known("C-1", &rule, 1), Some(70));
        balances.spend("C-1", 90);
        assert_eq!(balances.known("C-1", &rule, 1), Some(0));
        balances.give_back("C-1", 90);
        assert_eq!(balances.known("C-1", &rule, 24 * 3_600_000), None);
        assert_eq!(balances.known("C-2", &rule, 1), None);
    }
}
