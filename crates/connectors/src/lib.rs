//! The connectors: one file a provider, and the list of them. A connector keeps no state, decides no retry, opens no
//! socket; it says only how its provider speaks.

use uzel_model::Provider;

mod amocrm;
mod cursor;
mod evotor;
mod exolve;
mod fcm;
#[cfg(test)]
mod fixtures;
mod form;
mod iiko;
mod jowi;
mod log;
mod modulkassa;
mod notice;
mod poster;
mod resend;
mod rkeeper;
mod scrub;
mod smsru;
mod telegram;
#[cfg(test)]
mod testing;
mod tree;
mod webpush;
mod whatsappmeta;
mod yclients;

pub use webpush::new_vapid_keys;

/// Every provider that the hub knows.
pub const PROVIDERS: &[Provider] = &[
    amocrm::PROVIDER,
    rkeeper::PROVIDER,
    log::PROVIDER,
    yclients::PROVIDER,
    smsru::PROVIDER,
    iiko::PROVIDER,
    jowi::PROVIDER,
    // Of one channel the first is chosen that a merchant has.
    whatsappmeta::PROVIDER,
    exolve::SMS,
    exolve::WHATSAPP,
    resend::PROVIDER,
    telegram::PROVIDER,
    webpush::PROVIDER,
    fcm::PROVIDER,
    poster::PROVIDER,
    evotor::PROVIDER,
    modulkassa::PROVIDER,
];

/// The provider of this id.
pub fn provider(id: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.id == id)
}
