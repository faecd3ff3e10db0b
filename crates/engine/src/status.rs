//! News of messages: what providers tell of them later, by webhook or when they are asked. Both take one way: the entry is read,
//! the message is looked for, and its state, its event and what was to follow it change together.

use std::{collections::HashMap, panic::AssertUnwindSafe};

use serde_json::json;
use uzel_model::{
    Connector, Event, Id, Malformed, Price, Reading, Request, connector::StatusNews, event::kind, id::Kind, port::Delivery,
};
use uzel_store::{Change, Early, Entry, Mark, Message, NewEvent, Source, Store, StoreError};

use crate::{Link, World, read};

/// The path of what a poll of statuses brought: its body is the news themselves, in our words.
pub(crate) const PATH: &str = "statuses";

/// What is known of the messages of which entries tell, by connection and provider's id; and whether only by our own key, since
/// the answer that tells the provider's id is lost, or not written yet.
pub(crate) type Known = HashMap<(Id, String), (Message, bool)>;

/// A request of what a provider told when it was asked.
pub(crate) fn request(news: &[StatusNews], received_at: jiff::Timestamp) -> Request {
    read::told(PATH, serde_json::to_vec(news).expect("news are texts and numbers").into(), received_at)
}

/// Reads an entry: by its connector, but for what the hub itself has written down.
pub(crate) fn parse(connector: &dyn Connector, entry: &Entry) -> Result<Reading, Malformed> {
    if entry.source != Source::Poll || entry.request.path != PATH {
        return connector.parse(&entry.request);
    }
    let statuses = serde_json::from_slice(&entry.request.body).map_err(|error| Malformed::new(format!("no news: {error}")))?;
    Ok(Reading { statuses, ..Reading::default() })
}

/// Looks for the messages of which entries tell. Only those of connections that send are read for that.
pub(crate) async fn known(store: &dyn Store, world: &World, entries: &[Entry]) -> Result<Known, StoreError> {
    let mut known = Known::new();
    for entry in entries.iter().filter(|entry| !entry.is_erased()) {
        let Some(link) = world.links.get(&entry.connection).filter(|link| link.connector.messages().is_some()) else { continue };
        // What panics here panics again where it makes a dead letter.
        let read = std::panic::catch_unwind(AssertUnwindSafe(|| parse(link.connector.as_ref(), entry)));
        let Ok(Ok(Reading { statuses, .. })) = read else { continue };
        if statuses.is_empty() {
            continue;
        }
        let ids = statuses.iter().map(|news| news.provider_id.clone()).collect();
        let place = |provider_id: &String| (link.id, provider_id.clone());
        let found = store.messages(link.id, ids).await?;
        known.extend(found.into_iter().map(|message| (place(&message.provider_id), (message, false))));
        for news in statuses {
            if !known.contains_key(&place(&news.provider_id))
                && let Some(message) = by_key(store, link, &news).await?
            {
                known.insert(place(&news.provider_id), (message, true));
            }
        }
    }
    Ok(known)
}

/// A message whose answer was lost, or is not written yet, by our own key that the provider gives back.
async fn by_key(store: &dyn Store, link: &Link, news: &StatusNews) -> Result<Option<Message>, StoreError> {
    let Some(command) = news.key.as_deref().and_then(|key| key.parse::<Id>().ok()) else { return Ok(None) };
    let Some((_, found)) = store.command(command).await?.filter(|(_, found)| found.connection == link.id) else {
        return Ok(None);
    };
    let (flow, event, state) = (found.flow, found.event, Delivery::OnTheWay);
    Ok(Some(Message { provider_id: news.provider_id.clone(), command, flow, event, state }))
}

/// What follows from news of messages.
pub(crate) fn follow(
    world: &World,
    link: &Link,
    entry: &Entry,
    statuses: Vec<StatusNews>,
    known: &Known,
    mark: &mut Mark,
    change: &mut Change,
) {
    for news in statuses {
        let message = known.get(&(link.id, news.provider_id.clone()));
        match message.map(|(message, _)| event(world, link, entry, &news, message)) {
            Some(Ok(Some(event))) => change.events.push(event),
            Some(Ok(None)) => {}
            Some(Err(why)) => mark.notes.push(format!("message {}: {why}", news.provider_id)),
            None => {
                mark.notes.push(format!("message {}: the hub knows no such message (yet): nothing follows", news.provider_id))
            }
        }
        // What cannot be written down yet is read once more when the message is known.
        if message.is_none_or(|(_, by_key)| *by_key) {
            change.early.push(Early { connection: link.id, provider_id: news.provider_id.clone(), entry: entry.id });
        }
        change.statuses.push((link.id, news));
    }
}

/// One event of a message that has arrived, and one of a message that will not: by whichever road the news come.
fn event(world: &World, link: &Link, entry: &Entry, news: &StatusNews, message: &Message) -> Result<Option<NewEvent>, String> {
    let (kind, word) = match news.state {
        Delivery::OnTheWay => return Ok(None),
        Delivery::Delivered | Delivery::Read => (kind::MESSAGE_DELIVERED, "delivered"),
        Delivery::Failed => (kind::MESSAGE_FAILED, "failed"),
    };
    match (message.state, news.state) {
        (Delivery::Delivered | Delivery::Read, Delivery::Failed) => {
            return Err(format!("it is told to have failed ({}), and has been delivered: that stays", news.code));
        }
        (Delivery::Failed, Delivery::Delivered | Delivery::Read) => {
            return Err(format!("it is told to be delivered ({}), and has failed: that stays", news.code));
        }
        _ => {}
    }
    let price = news.cost.as_ref().and_then(Price::read);
    let mut data = json!({
        "code": news.code,
        "state": news.state,
        "connection": link.slug,
        "channel": link.connector.messages().map(|messages| messages.channel()),
        "command": message.command,
        "flow": message.flow.map(|flow| world.flow(flow).map_or_else(|| flow.to_string(), |flow| flow.slug.clone())),
        "event": message.event,
        "refusal": news.refusal,
        "cost": price.as_ref().map(Price::text),
        "currency": price.as_ref().map(|price| price.currency.clone()),
    });
    data.as_object_mut().expect("it is an object").retain(|_, value| !value.is_null());
    let event = Event {
        id: Id::new(Kind::Event),
        merchant: link.merchant,
        connection: link.id,
        provider: link.provider.id.to_owned(),
        outlet: link.outlet,
        kind: kind.to_owned(),
        subject: format!("message/{}", news.provider_id),
        key: format!("status/{}/{word}", news.provider_id),
        weak_key: false,
        at: news.at.unwrap_or(entry.request.received_at),
        name: None,
        phone: None,
        phone_error: None,
        email: None,
        refs: vec![news.provider_id.clone()],
        data,
        history: false,
        entry: entry.id,
        trace: entry.trace.clone(),
    };
    Ok(Some(NewEvent { event, commands: Vec::new(), call_off: None, pending: false }))
}
