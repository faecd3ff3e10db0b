//! What SMS.ru's stand-in remembers, and whether it takes a message.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::rules;
use crate::wire;

pub(super) const FIRST_ID: u64 = 1_000_001;
pub(super) const KEPT: usize = 1_000_000;
pub(super) const CENTS_PER_SEGMENT: i64 = 320;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The key of the callbacks' hash.
    pub(super) api_id: String,
    /// Roubles.
    pub(super) balance: f64,
    /// Codes 231 and 232 for the same text to the same number.
    pub(super) duplicate_guard: bool,
    /// Code 214 for foreign numbers; otherwise they are accepted.
    pub(super) russia_only: bool,
    /// The agreed sender names; null takes every name but `wrong`.
    pub(super) senders: Option<Vec<String>>,
    /// A sender's name, and the first digits of the numbers whose operators do not know it.
    pub(super) unregistered: HashMap<String, Vec<String>>,
    /// How long a message is on its way before it counts as delivered.
    pub(super) delivered_after_ms: i64,
    pub(super) daily_limit: u64,
    /// Code 230 beyond so many messages to one number.
    pub(super) daily_per_number: Option<u32>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            api_id: "A1B2C3D4-1111-2222-3333-444455556666".to_owned(),
            balance: 100_000_000.56,
            duplicate_guard: false,
            russia_only: true,
            senders: None,
            unregistered: HashMap::new(),
            delivered_after_ms: 1000,
            daily_limit: 1_000_000_000,
            daily_per_number: None,
        }
    }
}

pub(super) struct Message {
    pub(super) number: u64,
    pub(super) to: u64,
    pub(super) text: String,
    pub(super) from: String,
    pub(super) at_ms: i64,
    pub(super) test: bool,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) spent_cents: i64,
    pub(super) accepted: u64,
    pub(super) forget: bool,
    pub(super) messages: VecDeque<Message>,
    pub(super) by_phone: HashMap<u64, u32>,
    pub(super) states: HashMap<String, i64>,
    pub(super) stoplist: BTreeMap<String, String>,
    pub(super) callbacks: Vec<String>,
    pub(super) checks: BTreeMap<u64, i64>,
    pub(super) check_states: HashMap<String, i64>,
    pub(super) recent: HashMap<(u64, u64), i64>,
    pub(super) reported: u64,
}

pub(super) fn sms_id(number: u64) -> String {
    format!("202647-{number}")
}

impl State {
    pub(super) fn balance_cents(&self) -> i64 {
        (self.settings.balance * 100.0).round() as i64 - self.spent_cents
    }

    pub(super) fn balance(&self) -> f64 {
        self.balance_cents() as f64 / 100.0
    }

    pub(super) fn state_of(&self, id: &str) -> Option<i64> {
        if let Some(state) = self.states.get(id) {
            return Some(*state);
        }
        let number: u64 = id.strip_prefix("202647-")?.parse().ok()?;
        if number < FIRST_ID || number >= FIRST_ID + self.accepted {
            return None;
        }
        let first = self.messages.front().map_or(u64::MAX, |message| message.number);
        let index = number.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| self.messages.get(index)) {
            // A test message is never really sent, so it stays in the queue.
            Some(message) if message.test => Some(100),
            Some(message) if wire::now_ms() < message.at_ms + self.settings.delivered_after_ms => Some(102),
            _ => Some(103),
        }
    }

    /// Why this message is refused, if it is.
    pub(super) fn refusal(&self, phone: Result<u64, i64>, text: &str, call: &Sending) -> Option<i64> {
        let phone = match phone {
            Ok(phone) => phone,
            Err(214) if !self.settings.russia_only => 0,
            Err(code) => return Some(code),
        };
        let now = wire::now_ms();
        let key = (phone, hash(text));
        let per_number = self.by_phone.get(&phone).copied().unwrap_or(0);
        let sender_unknown = match &self.settings.senders {
            Some(senders) => !call.from.is_empty() && !senders.iter().any(|name| name == call.from),
            None => call.from == "wrong",
        };
        let operators = self.settings.unregistered.get(call.from).into_iter().flatten();
        let number = phone.to_string();
        let sender_unknown = sender_unknown || operators.into_iter().any(|first| number.starts_with(first.as_str()));
        let last = self.recent.get(&key).map(|at| now - at);
        let price = rules::segments(text, call.translit) * CENTS_PER_SEGMENT;
        Some(match () {
            () if text.contains('\u{fffd}') => 212,
            () if text.trim().is_empty() => 203,
            () if rules::segments(text, call.translit) > 8 => 205,
            () if self.stoplist.contains_key(&phone.to_string()) => 209,
            () if sender_unknown => 204,
            () if call.no_money || self.balance_cents() < price => 201,
            () if self.accepted >= self.settings.daily_limit => 206,
            () if self.settings.daily_per_number.is_some_and(|limit| per_number >= limit) => 230,
            () if !self.settings.duplicate_guard => return None,
            () if last.is_some_and(|age| age < 60_000) => 231,
            () if last.is_some_and(|age| age < 86_400_000) => 232,
            () => return None,
        })
    }

    pub(super) fn accept(&mut self, phone: u64, text: String, call: &Sending) -> String {
        let number = FIRST_ID + self.accepted;
        self.accepted += 1;
        *self.by_phone.entry(phone).or_default() += 1;
        if !call.test {
            self.spent_cents += rules::segments(&text, call.translit) * CENTS_PER_SEGMENT;
        }
        if self.settings.duplicate_guard {
            if self.recent.len() >= KEPT {
                self.recent.clear();
            }
            self.recent.insert((phone, hash(&text)), wire::now_ms());
        }
        if !self.forget {
            if self.messages.len() == KEPT {
                self.messages.pop_front();
            }
            self.messages.push_back(Message {
                number,
                to: phone,
                text,
                from: call.from.to_owned(),
                at_ms: wire::now_ms(),
                test: call.test,
            });
        }
        sms_id(number)
    }
}

pub(super) fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// What is common to all messages of one call.
pub(super) struct Sending<'a> {
    pub(super) from: &'a str,
    pub(super) test: bool,
    pub(super) translit: bool,
    pub(super) no_money: bool,
}
