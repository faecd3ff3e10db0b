//! Messages whose answer was lost, known again by their own key.

use uzel_model::{Id, Timestamp, connector::StatusNews, port::Delivery};

use super::rows::{Message, Rows};
use crate::{
    CommandState,
    lost::{TAKEN, command},
};

impl Rows {
    /// Ends the command whose key the status brings as done if its outcome is unknown. While it is being sent, its answer counts.
    pub(super) fn recognise(&mut self, connection: Id, news: &StatusNews, now: Timestamp) {
        let Some(id) = command(news) else { return };
        if self.commands.get(&id).is_none_or(|row| row.command.connection != connection) {
            return;
        }
        if self.sending.contains_key(&id) {
            self.told.insert(id, news.provider_id.clone());
        } else {
            self.end_lost(id, &news.provider_id, now);
        }
    }

    /// Ends a command of unknown outcome as done, under the provider's id.
    pub(super) fn end_lost(&mut self, id: Id, provider_id: &str, now: Timestamp) {
        let row = self.commands.get_mut(&id).filter(|row| row.state == CommandState::Unknown);
        let Some(row) = row else { return };
        (row.reason, row.provider_id) = (Some(TAKEN.to_owned()), Some(provider_id.to_owned()));
        let message = Message { command: id, at: now, state: Delivery::OnTheWay, code: String::new(), way: None, price: None };
        self.sent.entry((row.command.connection, provider_id.to_owned())).or_insert(message);
        self.stands(id, CommandState::Done);
    }
}
