//! Why the desk does not do it. The server says which status that is.

use uzel_model::{check::Fault, words::Language};
use uzel_store::StoreError;

/// Why it is not done: nothing was changed.
#[derive(Debug, Clone, PartialEq)]
pub enum LoyaltyError {
    /// The merchant has no programme.
    NoProgramme,
    /// What was asked is no question; places within the body.
    Malformed(Vec<Fault>),
    /// The programme wants a token, not an id.
    TokenRequired,
    /// The token was used for a quote that has ended.
    TokenUsed,
    /// Also: of another merchant.
    HoldNotFound,
    HoldExpired,
    /// It was committed for another order, or cancelled.
    HoldFinished,
    /// No such customer, and the caller may make none.
    WalletNotFound,
    /// The order has no receipt.
    ReceiptNotFound,
    /// The promo code cannot be used any more: try again without it.
    PromoUnavailable,
    /// More movements than the programme takes for likely.
    Fraud {
        scope: &'static str,
        count: i64,
        limit: i64,
        /// Then the oldest of them counts no more.
        retry_after_s: u32,
    },
    /// The key stands for a call with another body.
    KeyReused,
    /// The customer, phone or order is another's.
    Taken(&'static str),
    /// An outside programme or the store does not answer now: nothing was promised, try again.
    Again(String),
}

impl LoyaltyError {
    /// For the cashier, or whoever wrote the till. The Russian and English words are the platform's own.
    pub fn says(&self, language: Language) -> String {
        let said = |ru: &str, uz: &str, en: &str| match language {
            Language::Ru => ru.to_owned(),
            Language::Uz => uz.to_owned(),
            Language::En => en.to_owned(),
        };
        // What a till compares with stands in every language as the platform says it.
        match self {
            Self::NoProgramme => said(
                "У этого мерчанта нет программы лояльности",
                "Bu savdogarda sodiqlik dasturi yo‘q",
                "This merchant has no loyalty programme",
            ),
            Self::Malformed(faults) => {
                let all: Vec<String> = faults.iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect();
                all.join("; ")
            }
            Self::TokenRequired => "JWT required for quote".to_owned(),
            Self::TokenUsed => said(
                "QR токен уже использован. Попросите клиента обновить QR.",
                "QR kod allaqachon ishlatilgan. Mijozdan QR kodni yangilashini so‘rang.",
                "The QR code has been used. Ask the customer to refresh it.",
            ),
            Self::HoldNotFound => "Hold not found".to_owned(),
            Self::HoldExpired => said(
                "Hold expired. Обновите QR в мини-аппе и повторите.",
                "Hold expired. Mini-ilovada QR kodni yangilang va takrorlang.",
                "Hold expired. Refresh the QR code and repeat.",
            ),
            Self::HoldFinished => "Hold already finished".to_owned(),
            Self::WalletNotFound => "Wallet not found".to_owned(),
            Self::ReceiptNotFound => "Receipt not found".to_owned(),
            Self::PromoUnavailable => said("Промокод недоступен", "Promokod mavjud emas", "The promo code is not available"),
            Self::Fraud { scope, count, limit, .. } => match language {
                Language::Ru => format!("Антифрод: превышен лимит операций ({scope}={count}/{limit})"),
                Language::Uz => format!("Firibgarlikdan himoya: amallar chegarasi oshdi ({scope}={count}/{limit})"),
                Language::En => format!("Anti-fraud: too many operations ({scope}={count}/{limit})"),
            },
            Self::KeyReused => said(
                "Этот Idempotency-Key уже использован с другим телом запроса",
                "Bu Idempotency-Key boshqa so‘rov bilan ishlatilgan",
                "This Idempotency-Key was used with another body",
            ),
            Self::Taken(what) => match language {
                Language::Ru => format!("{what}: уже есть у другого клиента"),
                Language::Uz => format!("{what}: boshqa mijozda bor"),
                Language::En => format!("{what}: another customer has it"),
            },
            Self::Again(_) => said(
                "Бонусы сейчас недоступны. Повторите через минуту.",
                "Bonuslar hozir mavjud emas. Bir daqiqadan keyin takrorlang.",
                "Points are not available now. Try again in a minute.",
            ),
        }
    }
}

impl From<StoreError> for LoyaltyError {
    fn from(error: StoreError) -> Self {
        Self::Again(error.to_string())
    }
}
