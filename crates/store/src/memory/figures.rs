//! What is counted for a digest.

use uzel_model::{Id, Job, id::Kind};

use super::rows::Rows;
use crate::{
    CommandState, CostFigure, EventFigure, Figures, FiguresOf, MessageFigure,
    figures::{QUARTER_MS, quarter},
};

impl Rows {
    pub(super) fn figures(&self, of: &FiguresOf) -> Figures {
        let within = |id: &Id| {
            (Id::least(Kind::Event, of.from).ordinal()..Id::least(Kind::Event, of.to).ordinal()).contains(&id.ordinal())
        };
        let events = self.events.iter().filter(|(id, row)| {
            within(id) && of.connections.contains(&row.event.connection) && of.kinds.contains(&row.event.kind)
        });
        let events = events.map(|(id, row)| EventFigure {
            kind: row.event.kind.clone(),
            at: quarter((id.ordinal() >> 12) / QUARTER_MS),
            count: 1,
        });
        let messages = self.commands.iter().filter(|(id, row)| {
            within(id) && of.connections.contains(&row.command.connection) && matches!(row.command.job, Job::Send { .. })
        });
        let messages = messages.map(|(_, row)| MessageFigure {
            state: row.state,
            reason: row.reason.clone().filter(|_| row.state == CommandState::Held).unwrap_or_default(),
            of_flow: row.command.flow.is_some(),
            count: 1,
        });
        let sent = self
            .sent
            .iter()
            .filter(|((connection, _), message)| of.connections.contains(connection) && (of.from..of.to).contains(&message.at));
        let costs = sent.filter_map(|(_, message)| {
            let price = message.price.as_ref()?;
            Some(CostFigure { currency: price.currency.clone(), micro: price.micro, count: 1 })
        });
        Figures { events: events.collect(), messages: messages.collect(), costs: costs.collect() }.sorted()
    }

    pub(super) fn waiting_of(&self, connections: &[Id], kind: &str, limit: usize) -> u64 {
        let waiting = self.waiting.iter().filter_map(|id| self.commands.get(id)).map(|row| &row.command);
        let own = waiting.filter(|command| connections.contains(&command.connection) && command.event.is_some()).take(limit);
        let kinds = own.filter_map(|command| self.events.get(&command.event?));
        kinds.filter(|row| row.event.kind.starts_with(kind)).count() as u64
    }
}
