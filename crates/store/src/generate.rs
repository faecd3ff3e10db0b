//! A store filled with what is over, faster than a hub could: what benchmarks stand on.
//!
//! The rows are those that the same would have left behind on its way through a hub; a test compares them. Nothing is durable
//! before [`Generator::finish`], and no hub may work on the store meanwhile.

use std::path::Path;

use uzel_model::{Event, Timestamp};

use crate::{
    Change, Command, CommandState, Entry, EntryState, Mark, NewCommand, NewEvent, PostgresOptions, Settlement, StoreError,
    postgres, sqlite,
};

/// One request to a hub and all that followed from it.
#[derive(Debug, Clone)]
pub struct Past {
    pub entry: Entry,
    /// What was read from it, under a key that is new; nothing where it could not be read.
    pub event: Option<Event>,
    pub text: Option<Text>,
}

/// A command of an event, and how it was last tried. Of one ordering key at most one is still waiting.
#[derive(Debug, Clone)]
pub struct Text {
    pub command: Command,
    pub ordering_key: String,
    pub settlement: Settlement,
}

impl Past {
    /// What its reading committed.
    pub fn reading(&self) -> Change {
        let notes = if self.event.is_none() { vec!["it could not be read".to_owned()] } else { Vec::new() };
        let state = if self.event.is_none() { EntryState::Dead } else { EntryState::Read };
        let events = self.event.iter().map(|event| {
            let commands = self.text.iter().map(|text| NewCommand {
                command: text.command.clone(),
                ordering_key: text.ordering_key.clone(),
                subject: event.subject.clone(),
                held: None,
                slot: None,
            });
            NewEvent { event: event.clone(), commands: commands.collect(), call_off: None, pending: false }
        });
        Change {
            mark: Some(Mark { entry: self.entry.id, again: false, state, notes, refs: Vec::new() }),
            events: events.collect(),
            now: Some(self.entry.request.received_at),
            ..Change::default()
        }
    }

    pub(crate) fn waits(&self) -> bool {
        self.text.as_ref().is_some_and(|text| text.settlement.state == CommandState::Waiting)
    }
}

/// Fills one store.
pub struct Generator(Of);

enum Of {
    Sqlite(Box<sqlite::Generator>),
    Postgres(Box<postgres::Generator>),
}

impl Generator {
    /// Of a database file that a hub has made.
    pub fn sqlite(path: &Path) -> Result<Self, StoreError> {
        sqlite::Generator::open(path).map(Box::new).map(Of::Sqlite).map(Self)
    }

    /// Of a database that a hub has set up; `from` and `to` are the first and the last moment that will be told of.
    pub async fn postgres(options: PostgresOptions, from: Timestamp, to: Timestamp) -> Result<Self, StoreError> {
        postgres::Generator::open(options, from, to).await.map(Box::new).map(Of::Postgres).map(Self)
    }

    /// Writes the next ones, later than all before.
    pub async fn write(&mut self, pasts: Vec<Past>) -> Result<(), StoreError> {
        match &mut self.0 {
            Of::Sqlite(generator) => generator.write(pasts),
            Of::Postgres(generator) => generator.write(&pasts).await,
        }
    }

    /// Makes all of it durable, and the store as one that has been at work for long.
    pub async fn finish(self) -> Result<(), StoreError> {
        match self.0 {
            Of::Sqlite(generator) => generator.finish(),
            Of::Postgres(generator) => generator.finish().await,
        }
    }
}
