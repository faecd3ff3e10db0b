//! MTS Exolve: text messages by its open API, and WhatsApp by a contract of the merchant's own.

mod events;
mod list;
mod mapping;
mod sms;
mod whatsapp;
mod wire;

pub(crate) use sms::PROVIDER as SMS;
pub(crate) use whatsapp::PROVIDER as WHATSAPP;
