//! What every connector must keep to, over the whole list of providers. A new provider is judged here without an edit: its
//! settings come from its schema, its requests from `fixtures/<id>/*.http`, and the secrets that those were made with
//! from `fixtures/<id>/settings.json`.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod docs;
mod registration;
mod requests;
mod sample;
mod secrets;
mod settings;
mod signed;
mod words;
