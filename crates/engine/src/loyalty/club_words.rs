//! What a cashier reads where an outside programme keeps the points.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{
    loyalty::{Kind, Offer, Refused, Unit},
    port::loyalty::Why,
    words::Language,
};

use super::club::Silence;

/// How an outside programme stands to a quote. Names within bodies are those of the requirement's sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// Whether points pay some of the purchase.
    pub applied: bool,
    /// The programme could not be asked: the sale goes on without it.
    pub degraded: bool,
    /// Points were given by the balance that was heard last; whether they are there shows later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
    /// `provider_unavailable`, `not_found`, `not_enough`, `blocked` or `declined`.
    pub reason: String,
    /// More exactly, where it was unavailable: `slow`, `down`, `left_alone`, `unreadable`, `unauthorized`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    pub message_for_cashier: String,
    /// The operation that tells the programme of the purchase later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred_operation_id: Option<String>,
}

impl Note {
    pub(super) fn degraded(silence: Silence, message: &str, operation: Option<String>) -> Self {
        Self {
            applied: false,
            degraded: true,
            offline: false,
            reason: "provider_unavailable".to_owned(),
            detail: Some(silence.word().to_owned()),
            message_for_cashier: message.to_owned(),
            deferred_operation_id: operation,
        }
    }

    pub(super) fn declined(why: Why, message: &str) -> Self {
        let reason = match why {
            Why::NotFound => "not_found",
            Why::NotEnough => "not_enough",
            Why::Blocked => "blocked",
            Why::Other => "declined",
        };
        Self {
            applied: false,
            degraded: false,
            offline: false,
            reason: reason.to_owned(),
            detail: None,
            message_for_cashier: message.to_owned(),
            deferred_operation_id: None,
        }
    }
}

/// Nothing could be learnt. `later`: whether the purchase will be told.
pub(super) fn silent(name: &str, later: bool, language: Language) -> String {
    match (language, later) {
        (Language::Ru, true) => format!("{name} недоступен: чек будет пробит без бонусов, начисление отправим позже"),
        (Language::Ru, false) => format!("{name} недоступен: чек будет пробит без бонусов"),
        (Language::Uz, true) => format!("{name} javob bermayapti: chek bonussiz uriladi, ball keyinroq beriladi"),
        (Language::Uz, false) => format!("{name} javob bermayapti: chek bonussiz uriladi"),
        (Language::En, true) => format!("{name} does not answer: the sale goes on without points, what it earns is told later"),
        (Language::En, false) => format!("{name} does not answer: the sale goes on without points"),
    }
}

/// Points are spent by the balance that was heard last.
pub(super) fn offline(name: &str, off: i64, payable: i64, unit: Unit, language: Language, currency: &str) -> String {
    let taken = taken(off, payable, unit, language, currency);
    match language {
        Language::Ru => format!("{name} недоступен, остаток не проверен. {taken}"),
        Language::Uz => format!("{name} javob bermayapti, qoldiq tekshirilmagan. {taken}"),
        Language::En => format!("{name} does not answer, the balance is not checked. {taken}"),
    }
}

/// What points, or a level, take off.
pub(super) fn taken(off: i64, payable: i64, unit: Unit, language: Language, currency: &str) -> String {
    Offer { points: off, payable }.says(Kind::Redeem, unit, language, currency)
}

pub(super) fn no_points(language: Language) -> String {
    Refused::NoPoints.says(language)
}

/// The programme's points are no sums, so they stand as they are.
pub(super) fn earned(points: i64, language: Language) -> String {
    if points == 0 {
        return Refused::TooSmall.says(language);
    }
    match language {
        Language::Ru => format!("Начислим {points} баллов после оплаты."),
        Language::Uz => format!("To‘lovdan keyin {points} ball beriladi."),
        Language::En => format!("{points} points will be earned after payment."),
    }
}

pub(super) fn declined(why: Why, name: &str, language: Language) -> String {
    match (why, language) {
        (Why::NotFound, Language::Ru) => format!("Клиент не найден в {name}: чек будет пробит без бонусов"),
        (Why::NotFound, Language::Uz) => format!("Mijoz {name} dasturida topilmadi: chek bonussiz uriladi"),
        (Why::NotFound, Language::En) => format!("{name} does not know this guest: the sale goes on without points"),
        (Why::NotEnough, Language::Ru) => format!("Баллов в {name} не хватает: чек будет пробит без списания"),
        (Why::NotEnough, Language::Uz) => format!("{name} dasturida ball yetarli emas: chek ball yechmasdan uriladi"),
        (Why::NotEnough, Language::En) => format!("There are not enough points at {name}: the sale goes on without them"),
        (Why::Blocked, Language::Ru) => format!("Счёт клиента в {name} заблокирован: чек будет пробит без бонусов"),
        (Why::Blocked, Language::Uz) => format!("{name} dasturida mijoz hisobi bloklangan: chek bonussiz uriladi"),
        (Why::Blocked, Language::En) => format!("{name} has blocked this guest's account: the sale goes on without points"),
        (Why::Other, Language::Ru) => format!("{name} отказал: чек будет пробит без бонусов"),
        (Why::Other, Language::Uz) => format!("{name} rad etdi: chek bonussiz uriladi"),
        (Why::Other, Language::En) => format!("{name} refused: the sale goes on without points"),
    }
}
