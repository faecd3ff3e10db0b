//! Notices reach people. A notice is written together with what it is about, as one that nobody was told of yet; a look every few
//! seconds gathers such notices of a merchant into one message to each of its people, in the transaction that marks them as told. So
//! each is told once, by whichever node, and a hundred of them are one message.

use std::time::Duration;

use jiff::SignedDuration;
use uzel_model::{Content, words::Language};
use uzel_store::{Change, StoreError, Told, Untold};

use super::{Recipient, Want, tell, words};
use crate::{Engine, World};

/// How often it is looked for notices.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// Notices in one look; those of one kind about one thing are one a day, so there are never many.
const LOOK_MAX: usize = 1_000;
/// So many messages in an hour a person gets; then what comes is gathered until the hour allows one more.
const AN_HOUR_MAX: u64 = 10;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Notices that one message names; of more it tells the number.
const NAMED_MAX: usize = 10;
const DETAIL_CHARS_MAX: usize = 200;

/// Tells people what they were not told yet.
pub(crate) async fn tell_all(engine: &Engine) {
    let told = async {
        let untold = engine.store.untold(LOOK_MAX).await?;
        for of_merchant in untold.chunk_by(|one, other| one.notice.merchant == other.notice.merchant) {
            let (comments, notices): (Vec<_>, Vec<_>) = of_merchant.iter().partition(|untold| is_comment(untold));
            tell_of(engine, &comments, Want::Comments).await?;
            tell_of(engine, &notices, Want::Notices).await?;
        }
        Ok::<_, StoreError>(())
    };
    if let Err(error) = told.await {
        tracing::warn!("people cannot be told of notices yet: {error}");
    }
}

/// What a guest wrote for the merchant's eyes only.
fn is_comment(untold: &Untold) -> bool {
    untold.notice.kind.starts_with("comment/")
}

async fn tell_of(engine: &Engine, untold: &[&Untold], want: Want) -> Result<(), StoreError> {
    let Some(merchant) = untold.first().map(|first| first.notice.merchant) else { return Ok(()) };
    let now = engine.clock.now();
    let world = engine.world();
    let people: Vec<_> = world.recipients_of(merchant).filter(|recipient| recipient.wants(want)).collect();
    // A guest who is not content is heard at once.
    if want == Want::Notices && !people.is_empty() && engine.store.tellings(merchant, now - HOUR).await? >= AN_HOUR_MAX {
        return Ok(());
    }
    let commands = people.into_iter().filter_map(|recipient| {
        let own: Vec<&Untold> = untold.iter().copied().filter(|untold| hears(&world, recipient, untold)).collect();
        let content = content(&world, recipient, &own)?;
        tell::command(engine, recipient, content, now)
    });
    let notices = untold.iter().map(|untold| (untold.notice.connection, untold.notice.kind.clone(), untold.day));
    let told = Told { merchant, notices: notices.collect(), at: now };
    let change = Change { commands: commands.collect(), told: Some(told), now: Some(now), ..Change::default() };
    match engine.store.apply(change).await {
        Ok(_) => engine.due.notify_one(),
        // Another node has told them meanwhile.
        Err(StoreError::Conflict) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn hears(world: &World, recipient: &Recipient, untold: &Untold) -> bool {
    let outlet = world.links.get(&untold.notice.connection).and_then(|link| link.outlet);
    recipient.hears_of(world, outlet)
}

fn content(world: &World, recipient: &Recipient, untold: &[&Untold]) -> Option<Content> {
    if untold.is_empty() {
        return None;
    }
    let language = recipient.language(world);
    let merchant = world.merchants.get(&recipient.merchant).map_or("", |(_, merchant)| merchant.name.as_str());
    let mut lines: Vec<String> = untold.iter().take(NAMED_MAX).map(|untold| line(world, language, untold)).collect();
    if untold.len() > NAMED_MAX {
        lines.push(words::more(language, untold.len() - NAMED_MAX));
    }
    let subject = if untold.iter().all(|untold| is_comment(untold)) {
        words::comment_subject(language, merchant)
    } else {
        words::subject(language, merchant)
    };
    Some(Content { subject: Some(subject.clone()), ..Content::text(format!("{subject}\n\n{}", lines.join("\n\n"))) })
}

fn line(world: &World, language: Language, untold: &Untold) -> String {
    let notice = &untold.notice;
    if is_comment(untold) {
        return without_numbers(&notice.text);
    }
    let about = match world.links.get(&notice.connection) {
        Some(link) => format!("{} ({})", link.slug, link.provider.name),
        None => world.rows.get(&notice.connection).map_or_else(|| notice.connection.to_string(), |row| row.slug.clone()),
    };
    let detail: String = without_numbers(&notice.text).chars().take(DETAIL_CHARS_MAX).collect();
    format!("{about}: {}\n{detail}", words::kind(language, &notice.kind))
}

/// A provider's words may name a guest's phone, which has no place in a messenger: long runs of digits are blanked.
fn without_numbers(text: &str) -> String {
    let is_digit = |c: char| c.is_ascii_digit();
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_digit) {
        let (before, from) = rest.split_at(start);
        shown.push_str(before);
        let end = from.find(|c: char| !(is_digit(c) || matches!(c, ' ' | '-' | '(' | ')'))).unwrap_or(from.len());
        let run = from[..end].trim_end_matches([' ', '-', '(', ')']);
        let (run, after) = from.split_at(run.len());
        if run.chars().filter(|c| is_digit(*c)).count() >= 10 {
            shown.push_str("***")
        } else {
            shown.push_str(run)
        }
        rest = after;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_in_a_provider_s_words_is_blanked_and_other_numbers_stay() {
        for (text, shown) in [
            ("SMS.ru: 79991234567 is wrong, code 207", "SMS.ru: *** is wrong, code 207"),
            ("+7 (999) 123-45-67", "+***"),
            ("HTTP 503 at 12:30, 2026-11-28", "HTTP 503 at 12:30, 2026-11-28"),
            ("", ""),
            ("1234567890", "***"),
        ] {
            assert_eq!(without_numbers(text), shown);
        }
    }
}
