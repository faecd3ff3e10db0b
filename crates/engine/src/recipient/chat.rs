//! What people do in chats: they come with the code of a link, want no more messages, are gone, or move. Read from a webhook, it is
//! a command, so that it is taken up once and survives whatever happens meanwhile; it calls nobody.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uzel_model::{Address, Content, Id, Job, connector::ChatTurn, id::Kind, port::Messages, words::Language};
use uzel_store::{Change, Command, CommandState, Contact, NewCommand, StoreError};

use super::words;
use crate::{Engine, Link, call::Outcome};

/// The command that takes up what somebody did.
pub(crate) fn command(link: &Link, event: Option<Id>, of: Address, turn: ChatTurn, trace: String, now: Timestamp) -> NewCommand {
    let key = of.key();
    new(link, event, Job::Chat { of, turn }, &key, trace, now)
}

fn new(link: &Link, event: Option<Id>, job: Job, key: &str, trace: String, now: Timestamp) -> NewCommand {
    let command = Command {
        id: Id::new(Kind::Command),
        merchant: link.merchant,
        connection: link.id,
        flow: None,
        event,
        job,
        due_at: now,
        latest_at: now.saturating_add(SignedDuration::from_hours(72)).ok(),
        source: link.id,
        attempts: 0,
        contact: Contact::default(),
        lease: 0,
        trace,
    };
    let (ordering_key, subject) = (format!("{}/{key}", link.id), format!("chat/{key}"));
    NewCommand { command, ordering_key, subject, held: None, slot: None }
}

/// Binds, unbinds or moves, and answers where the person waits for an answer.
pub(crate) async fn take_up(
    engine: &Arc<Engine>,
    link: &Link,
    command: &Command,
    of: &Address,
    turn: &ChatTurn,
    change: &mut Change,
) -> Outcome {
    match answer(engine, link, of, turn).await {
        Ok(answer) => {
            let now = engine.clock.now();
            let answer = answer.filter(|_| link.connector.messages().is_some()).map(|text| {
                let repeatable = link.connector.messages().is_some_and(Messages::repeatable);
                let content = Content::text(text).into();
                let job = Job::Tell { to: of.clone(), content, repeatable, otherwise: Vec::new() };
                new(link, command.event, job, &of.key(), command.trace.clone(), now)
            });
            change.commands.extend(answer);
            Outcome::ended(CommandState::Done, None, "ok")
        }
        Err(error) => {
            Outcome::again(engine.clock.now() + SignedDuration::from_secs(5), format!("it could not be written down: {error}"))
        }
    }
}

async fn answer(engine: &Arc<Engine>, link: &Link, of: &Address, turn: &ChatTurn) -> Result<Option<String>, StoreError> {
    let merchant = |engine: &Engine| {
        let world = engine.world();
        let merchant = world.merchants.get(&link.merchant).map(|(_, merchant)| merchant.clone());
        let language = merchant.as_ref().and_then(|merchant| merchant.language.parse().ok()).unwrap_or(Language::Ru);
        (merchant.map(|merchant| merchant.name).unwrap_or_default(), language)
    };
    match turn {
        ChatTurn::Came { code: Some(code) } => {
            let bound = engine.bind_by_code(link.id, code, of).await?;
            let (name, language) = merchant(engine);
            let world = engine.world();
            let recipient = bound.and_then(|id| world.recipients().find(|recipient| recipient.id == id));
            // The same code again from the chat that it bound: nothing is to be done.
            let own = recipient.or_else(|| holder(&world, link, of));
            Ok(Some(match own {
                Some(recipient) => words::bound(recipient.language(&world), recipient.name(), &name),
                None => words::bad_code(language).to_owned(),
            }))
        }
        ChatTurn::Came { code: None } => {
            let (name, language) = merchant(engine);
            Ok(Some(words::welcome(language, &name)))
        }
        ChatTurn::Stopped => {
            let world = engine.world();
            let language = holder(&world, link, of).map_or_else(|| merchant(engine).1, |own| own.language(&world));
            engine.unbind(link.id, of, "hub").await?;
            Ok(Some(words::stopped(language).to_owned()))
        }
        ChatTurn::Left => engine.unbind(link.id, of, "hub").await.map(|_| None),
        ChatTurn::Moved { to } => engine.rebind(link.id, of, Some(to), "hub").await.map(|_| None),
    }
}

/// Who has bound an address.
fn holder<'a>(world: &'a crate::World, link: &Link, of: &Address) -> Option<&'a Arc<super::Recipient>> {
    let has = |recipient: &super::Recipient| recipient.doc.bound.iter().any(|own| own.via == link.slug && own.to == *of);
    world.recipients().find(|recipient| recipient.merchant == link.merchant && has(recipient))
}
