//! Stub for the moment.
use serde::{Deserialize, Serialize};
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phone { pub e164: String, pub region: String, pub kind: Kind, #[serde(skip_serializing_if="Option::is_none")] pub ext: Option<String>, pub repaired: bool }
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)] #[serde(rename_all="snake_case")]
pub enum Kind { Mobile, Landline, TollFree, Premium, Personal, Voip, Unknown }
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)] #[serde(rename_all="snake_case")]
pub enum PhoneError { #[error("x")] Empty, #[error("x")] Masked, #[error("x")] NotANumber, #[error("x")] TooShort, #[error("x")] TooLong, #[error("x")] Invalid, #[error("x")] Ambiguous }
pub fn first<'a>(_raw: impl IntoIterator<Item=&'a serde_json::Value>, _region: &str) -> Result<Phone, PhoneError> { Err(PhoneError::Empty) }
impl Phone { pub fn takes_sms(&self) -> bool { true } pub fn masked(&self) -> String { String::new() } }
pub fn mask(e164: &str) -> String { e164.to_owned() }
pub fn warm_up() {}
pub fn read_text(_raw: &str, _region: &str) -> Result<Phone, PhoneError> { Err(PhoneError::Empty) }
