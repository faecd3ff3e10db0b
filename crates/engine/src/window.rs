//! Channels on which anything may be said for a while after a person has written, and else only what the provider approved.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use uzel_model::{Address, Content, Event, event::kind, port::Messages};
use uzel_store::{Command, Heard};

use crate::{Engine, Link};

/// So much before its end a window counts as closed: the message has a way to go.
const CLOSES_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// Who wrote, if the event says so. A provider's clock may be ahead of ours; nobody writes in the future.
pub(crate) fn heard(event: &Event, now: Timestamp) -> Option<Heard> {
    if event.kind != kind::MESSAGE_RECEIVED {
        return None;
    }
    let who = match (&event.phone, event.data["chat"].as_i64()) {
        (Some(phone), _) => Address::Phone(phone.e164.clone()),
        (None, Some(chat)) => Address::Chat(chat),
        (None, None) => return None,
    };
    Some(Heard { merchant: event.merchant, connection: event.connection, who: who.key(), at: event.at.min(now) })
}

/// What goes of a message that has words and a template: within the window the words, which cost less and say more.
pub(crate) async fn fit<'a>(
    engine: &Engine,
    link: &Link,
    messages: &dyn Messages,
    command: &Command,
    to: &Address,
    content: &'a Content,
) -> Cow<'a, Content> {
    let Some(window_h) = messages.reply_window_h().filter(|_| content.template.is_some() && !content.text.trim().is_empty())
    else {
        return Cow::Borrowed(content);
    };
    let open_for = SignedDuration::from_hours(i64::from(window_h)) - CLOSES_BEFORE;
    match engine.store.last_heard(command.merchant, link.id, &to.key()).await {
        Ok(Some(at)) if engine.clock.now() < at + open_for => Cow::Owned(Content { template: None, ..content.clone() }),
        Ok(_) => Cow::Borrowed(content),
        Err(error) => {
            tracing::warn!(connection.id = %link.id, "when a person last wrote cannot be looked up, so the template goes: {error}");
            Cow::Borrowed(content)
        }
    }
}
