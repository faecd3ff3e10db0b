//! What cashiers read while the line is down, and in which language.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Language {
    #[default]
    Ru,
    Uz,
    En,
}

impl Language {
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Ru => "ru",
            Self::Uz => "uz",
            Self::En => "en",
        }
    }

    /// The first language of an `Accept-Language` that is known here.
    pub(crate) fn of(accepted: &str) -> Option<Self> {
        accepted.split(',').find_map(|part| {
            let tag = part.split([';', '-', '_']).next()?.trim();
            [Self::Ru, Self::Uz, Self::En].into_iter().find(|language| tag.eq_ignore_ascii_case(language.tag()))
        })
    }
}

/// What is said to the cashier.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Said {
    /// No points can be spent.
    NoRedeem,
    /// No points will be credited.
    NoEarn,
    /// The buyer's one-time code cannot be checked.
    NoCode,
    /// So many points will be credited.
    WillEarn(u64),
    /// So many points are spent, so much is left to pay.
    Redeemed(u64),
}

impl Said {
    pub(crate) fn text(self, language: Language) -> String {
        match (self, language) {
            (Self::NoRedeem, Language::Ru) => {
                "Нет связи с программой лояльности: списать баллы сейчас нельзя. Продавайте без скидки.".into()
            }
            (Self::NoRedeem, Language::Uz) => {
                "Bonus dasturi bilan aloqa yo‘q: hozir ball yechib bo‘lmaydi. Chegirmasiz soting.".into()
            }
            (Self::NoRedeem, Language::En) => {
                "No line to the loyalty programme: no points can be spent now. Sell without the discount.".into()
            }
            (Self::NoEarn, Language::Ru) => "Нет связи с программой лояльности: баллы за этот чек не начислятся.".into(),
            (Self::NoEarn, Language::Uz) => "Bonus dasturi bilan aloqa yo‘q: bu chek uchun ball yozilmaydi.".into(),
            (Self::NoEarn, Language::En) => {
                "No line to the loyalty programme: no points will be credited for this receipt.".into()
            }
            (Self::NoCode, Language::Ru) => {
                "Нет связи с программой лояльности: код покупателя проверить нельзя. Продавайте без баллов.".into()
            }
            (Self::NoCode, Language::Uz) => {
                "Bonus dasturi bilan aloqa yo‘q: xaridor kodini tekshirib bo‘lmaydi. Ballarsiz soting.".into()
            }
            (Self::NoCode, Language::En) => {
                "No line to the loyalty programme: the buyer's code cannot be checked. Sell without points.".into()
            }
            (Self::WillEarn(points), Language::Ru) => {
                format!("Нет связи: начислим около {points} баллов, когда она появится.")
            }
            (Self::WillEarn(points), Language::Uz) => format!("Aloqa yo‘q: tiklangach {points} ga yaqin ball yozamiz."),
            (Self::WillEarn(points), Language::En) => {
                format!("No line: about {points} points will be credited when it is back.")
            }
            (Self::Redeemed(points), Language::Ru) => {
                format!("Нет связи: списываем {points} баллов по последнему известному остатку.")
            }
            (Self::Redeemed(points), Language::Uz) => {
                format!("Aloqa yo‘q: oxirgi ma’lum qoldiqdan {points} ball yechamiz.")
            }
            (Self::Redeemed(points), Language::En) => {
                format!("No line: {points} points are spent against the last balance known.")
            }
        }
    }
}
