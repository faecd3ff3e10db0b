//! The words and rules of the hub: ids, phones, events, commands, schedules, and what a connector is.
//!
//! This crate opens no socket, file or database, and reads no clock: a [`Request`] carries when it was received, and
//! the client that calls outward is an interface ([`Transport`]) which the engine implements.

pub mod call;
pub mod check;
pub mod cloudevent;
pub mod connector;
pub mod endpoint;
pub mod event;
pub mod id;
pub mod loyalty;
pub mod message;
pub mod phone;
pub mod port;
pub mod price;
pub mod registration;
pub mod schedule;
pub mod secret;
pub mod signature;
pub mod webhook;
pub mod words;

pub use bytes::Bytes;
pub use call::{CallError, Client, Outgoing, Refusal, Reply, Transport};
pub use connector::{Connector, Intake, Malformed, Provider, Reading, Rejection, Request, Response};
pub use event::{Event, Happening, Person};
pub use id::Id;
pub use jiff::Timestamp;
pub use message::{Address, Channel, Content, Outbound};
pub use port::{Job, PointsJob};
pub use price::Price;
pub use secret::Secret;
