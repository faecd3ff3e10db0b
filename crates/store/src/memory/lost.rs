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
        let Some(row) = self.commands.get_mut(&id).filter(|row| row.command.connection == connection) else { return };
        if self.sending.contains_key(&id) {
            self.told.insert(id, news.provider_id.clone());
        } else if row.state == CommandState::Unknown {
            (row.reason, row.provider_id) = (Some(TAKEN.to_owned()), Some(news.provider_id.clone()));
            let message =
                Message { command: id, at: now, state: Delivery::OnTheWay, code: String::new(), way: None, price: None };
            self.sent.entry((connection, news.provider_id.clone())).or_insert(message);
            self.stands(id, CommandState::Done);
        }
    }
}
