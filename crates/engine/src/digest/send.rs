//! When a digest goes: once for each person and period, on whatever node, also where the hub was off at that hour; but not days
//! later.

use std::{collections::HashSet, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Timestamp, ToSpan, Zoned, civil::Date, tz::TimeZone};
use uzel_model::{Address, Content, Id, message::Attachment, port::Elsewhere, signature::fingerprint, words::Language};
use uzel_store::{Change, NewCommand, Once, StoreError};

use super::{Digest, Period, Span, words};
use crate::{
    Engine, Link, World,
    recipient::{Recipient, Want, tell},
    tick,
};

/// Between two looks at whether somebody's hour has come.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long it is remembered that a digest was made: longer than the day in which it may be.
const REMEMBERED_DAYS: i64 = 10;
/// One node at a time makes digests, so that no picture is drawn twice.
const HOLD: Duration = Duration::from_secs(60);

pub(crate) async fn run(engine: Arc<Engine>) {
    let mut made = HashSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = engine.stop.cancelled() => return,
            _ = look.tick() => {}
        }
        if let Err(error) = all(&engine, &mut made).await {
            tracing::warn!("digests cannot be made yet: {error}");
        }
    }
}

/// Which digest of whom.
type Which = (Id, Span, Date);

async fn all(engine: &Arc<Engine>, made: &mut HashSet<Which>) -> Result<(), StoreError> {
    let (world, now) = (engine.world(), engine.clock.now());
    let mut due: Vec<(Arc<Recipient>, Period, Timestamp)> = Vec::new();
    for recipient in world.recipients() {
        let zone = recipient.zone(&world);
        let wants = [(Want::DigestDay, Span::Day), (Want::DigestWeek, Span::Week)];
        for (_, span) in wants.into_iter().filter(|(want, _)| recipient.wants(*want)) {
            let hour = recipient.doc.rule.digest_hour.min(23);
            let Some((period, until)) = period_due(span, hour as i8, &now.to_zoned(zone.clone())) else { continue };
            // Without an address there is nobody to send it to: perhaps later today.
            if !made.contains(&(recipient.id, span, period.first)) && !recipient.ways(&world).is_empty() {
                due.push((recipient.clone(), period, until));
            }
        }
    }
    if due.is_empty() {
        return Ok(());
    }
    let Some(taken) = engine.take("digest".to_owned(), Duration::ZERO, HOLD).await? else { return Ok(()) };
    let mut outcome = Ok(());
    for (recipient, period, until) in due {
        match send(engine, &world, &recipient, period, until).await {
            Ok(()) => drop(made.insert((recipient.id, period.span, period.first))),
            Err(error) => outcome = Err(error),
        }
    }
    engine.give_back(taken).await;
    let long_ago = now.to_zoned(TimeZone::UTC).date().saturating_sub(30.days());
    made.retain(|(_, _, first)| *first > long_ago);
    outcome
}

/// The period whose digest is due now, and until when it may go: from its hour to the end of that day. A day's digest comes on the
/// next day, a week's on Monday.
fn period_due(span: Span, hour: i8, local: &Zoned) -> Option<(Period, Timestamp)> {
    let today = local.date();
    let period = Period::with(span, today.saturating_sub(1.days()));
    let is_next_day = period.last().saturating_add(1.days()) == today;
    let end = today.saturating_add(1.days()).to_zoned(local.time_zone().clone()).ok()?;
    (is_next_day && local.hour() >= hour).then_some((period, end.timestamp()))
}

/// Queues a digest, if nobody has.
async fn send(engine: &Engine, world: &World, recipient: &Recipient, period: Period, until: Timestamp) -> Result<(), StoreError> {
    let word = match period.span {
        Span::Day => "day",
        Span::Week => "week",
    };
    let name = format!("{word}/{}", period.first);
    let key = fingerprint([b"digest".as_slice(), recipient.id.as_bytes(), name.as_bytes()]);
    let now = engine.clock.now();
    if engine.store.once(key).await?.is_some_and(|before| before.until > now) {
        return Ok(());
    }
    let ways = ways(recipient, world);
    let language = recipient.language(world);
    let digest = engine.digest(recipient.merchant, period, &recipient.zone(world), &recipient.doc.rule.outlets).await?;
    let picture = if ways.iter().any(|(_, to)| shows_pictures(to)) { picture(&digest, language).await } else { None };
    let mut otherwise: Vec<Elsewhere> =
        recipient.ways(world).into_iter().map(|(link, to)| Elsewhere { connection: link.id, to }).collect();
    otherwise.retain(|other| !ways.iter().any(|(_, to)| *to == other.to));
    let commands = ways.into_iter().map(|(link, to)| {
        let page = engine.options.public_url.as_ref().map(|url| format!("{url}{}", engine.digest_path(recipient.id, period)));
        let content = content(&digest, language, &to, picture.as_ref(), page);
        tell::new(&link, to, content.into(), std::mem::take(&mut otherwise), Some(until), tick::new_trace(), now)
    });
    let commands: Vec<NewCommand> = commands.collect();
    let Some(first) = commands.first() else { return Ok(()) };
    let remembered = now.saturating_add(jiff::SignedDuration::from_hours(24 * REMEMBERED_DAYS)).unwrap_or(Timestamp::MAX);
    let once = Once { key, body: key, command: first.command.id, until: remembered };
    match engine.store.apply(Change { commands, once: Some(once), now: Some(now), ..Change::default() }).await {
        Ok(_) => engine.due.notify_one(),
        // Another node was faster.
        Err(StoreError::Conflict) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The best way to reach somebody; where that is notices to devices, all of their devices.
fn ways(recipient: &Recipient, world: &World) -> Vec<(Arc<Link>, Address)> {
    let mut ways = recipient.ways(world);
    let Some((best, first)) = ways.first().map(|(link, to)| (link.id, to.clone())) else { return ways };
    let is_device = |to: &Address| matches!(to, Address::Device(_));
    ways.retain(|(link, to)| *to == first || (link.id == best && is_device(to) && is_device(&first)));
    ways
}

fn shows_pictures(to: &Address) -> bool {
    matches!(to, Address::Email(_) | Address::Chat(_))
}

async fn picture(digest: &Digest, language: Language) -> Option<Attachment> {
    match digest.picture(language).await {
        Ok(png) => Some(Attachment {
            name: format!("{}.png", digest.first),
            media_type: "image/png".to_owned(),
            content: STANDARD.encode(png),
        }),
        Err(error) => {
            // The figures are in the text too.
            tracing::error!("the picture of a digest could not be drawn: {error}");
            None
        }
    }
}

fn content(digest: &Digest, language: Language, to: &Address, picture: Option<&Attachment>, page: Option<String>) -> Content {
    let subject = Some(words::subject(digest, language));
    match to {
        Address::Email(_) | Address::Chat(_) => Content {
            subject,
            attachments: picture.cloned().into_iter().collect(),
            ..Content::text(words::text(digest, language))
        },
        Address::Device(_) => Content { subject, link: page, ..Content::text(words::short(digest, language)) },
        Address::Phone(_) => Content::text(format!("{}\n{}", words::subject(digest, language), words::short(digest, language))),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn due(span: Span, hour: i8, local: &str) -> Option<(Date, String)> {
        let local: Zoned = local.parse().unwrap();
        period_due(span, hour, &local).map(|(period, until)| (period.first, until.to_string()))
    }

    #[test]
    fn a_day_is_told_from_the_hour_on_until_the_next_day_ends() {
        let friday = Some((date(2026, 11, 27), "2026-11-28T19:00:00Z".to_owned()));
        assert_eq!(due(Span::Day, 9, "2026-11-28T08:59[Asia/Tashkent]"), None);
        assert_eq!(due(Span::Day, 9, "2026-11-28T09:00[Asia/Tashkent]"), friday);
        assert_eq!(due(Span::Day, 9, "2026-11-28T23:59[Asia/Tashkent]"), friday);
        assert_eq!(due(Span::Day, 9, "2026-11-29T00:00[Asia/Tashkent]"), None);
        assert_eq!(due(Span::Day, 0, "2026-11-28T00:00[Asia/Tashkent]"), friday);
    }

    #[test]
    fn a_week_is_told_on_monday_only() {
        let week = Some((date(2026, 11, 23), "2026-11-30T21:00:00Z".to_owned()));
        assert_eq!(due(Span::Week, 9, "2026-11-30T09:00[Europe/Moscow]"), week);
        assert_eq!(due(Span::Week, 9, "2026-11-30T22:00[Europe/Moscow]"), week);
        assert_eq!(due(Span::Week, 9, "2026-11-29T22:00[Europe/Moscow]"), None);
        assert_eq!(due(Span::Week, 9, "2026-12-01T09:00[Europe/Moscow]"), None);
    }
}
