//! The numbers by which states are stored, the names under which they are counted, and the hashes by which rows are found:
//! the same in every store.

use uzel_model::signature::fingerprint;

use uzel_model::id::Kind;

use crate::{CommandState, EntryState, Source};

/// The states of an entry by their numbers, the words that people see, and the names that they are counted under.
const ENTRIES: [(EntryState, &str, &str); 4] = [
    (EntryState::Unread, "unread", "entry/0"),
    (EntryState::Read, "read", "entry/1"),
    (EntryState::Duplicate, "duplicate", "entry/2"),
    (EntryState::Dead, "dead", "entry/3"),
];

pub(crate) fn entry_number(state: EntryState) -> u8 {
    ENTRIES.iter().position(|(known, ..)| *known == state).unwrap_or_default() as u8
}

pub(crate) fn entry_tally(state: EntryState) -> &'static str {
    ENTRIES[usize::from(entry_number(state))].2
}

pub(crate) fn entry_word(state: EntryState) -> &'static str {
    ENTRIES[usize::from(entry_number(state))].1
}

pub(crate) fn entry_state(number: u8) -> EntryState {
    ENTRIES.get(usize::from(number)).map_or(EntryState::Dead, |(state, ..)| *state)
}

pub(crate) fn command_number(state: CommandState) -> u8 {
    match state {
        CommandState::Waiting | CommandState::Sending => 0,
        CommandState::Done => 2,
        CommandState::Dead => 3,
        CommandState::Unknown => 4,
        CommandState::Held => 5,
    }
}

/// Of a command that is not being sent now.
pub(crate) fn command_state(number: u8) -> CommandState {
    match number {
        0 => CommandState::Waiting,
        2 => CommandState::Done,
        3 => CommandState::Dead,
        4 => CommandState::Unknown,
        _ => CommandState::Held,
    }
}

/// Under what the commands of a state are counted; what is being sent counts as waiting here.
pub(crate) fn command_tally(state: CommandState) -> &'static str {
    match state {
        CommandState::Waiting | CommandState::Sending => "command/0",
        CommandState::Done => "command/2",
        CommandState::Dead => "command/3",
        CommandState::Unknown => "command/4",
        CommandState::Held => "command/5",
    }
}

/// A short hash, by which rows of one text are found.
pub(crate) fn key(text: &str) -> i64 {
    let hash = fingerprint([text.as_bytes()]);
    i64::from_be_bytes(*hash.first_chunk().expect("16 bytes hold 8"))
}

/// A subject as texts of all sources are told apart.
pub(crate) fn subject(source: uzel_model::Id, subject: &str) -> String {
    format!("{source}/{subject}")
}

pub(crate) fn source_number(source: Source) -> u8 {
    match source {
        Source::Webhook => 0,
        Source::Poll => 1,
        Source::Question => 2,
    }
}

pub(crate) fn source(number: u8) -> Source {
    match number {
        1 => Source::Poll,
        2 => Source::Question,
        _ => Source::Webhook,
    }
}

/// Of what the way out is that an exchange took: rows name it by its provider.
pub(crate) fn way_out(provider: &str) -> Kind {
    if provider == uzel_model::webhook::PROVIDER_ID { Kind::Endpoint } else { Kind::Connection }
}

/// The same of a command's job, as it is stored.
pub(crate) fn way_out_of(job: &serde_json::Value) -> Kind {
    if job["job"] == "deliver" { Kind::Endpoint } else { Kind::Connection }
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::Merchant, "merchant"),
    (Kind::Outlet, "outlet"),
    (Kind::Connection, "connection"),
    (Kind::Flow, "flow"),
    (Kind::Endpoint, "endpoint"),
    (Kind::Recipient, "recipient"),
    (Kind::Programme, "programme"),
];

/// What is set up, by the word that it is stored under.
pub(crate) fn kind_word(kind: Kind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("merchant", |(_, word)| word)
}

pub(crate) fn kind_of(word: &str) -> Kind {
    KINDS.iter().find(|(_, known)| *known == word).map_or(Kind::Merchant, |(kind, _)| *kind)
}
