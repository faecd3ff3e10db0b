//! Short links: made with a message, found in it when it goes, known by a hash of their code.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use uzel_model::{Content, Id, Job, signature::fingerprint};
use uzel_store::{Command, LinkNews, LinkPurpose, NewEvent, ShortLink};

use crate::{Link, World};

/// Signs of a code: those that nobody takes for another.
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// 58 bits of chance: with a million links that work, a thousand guesses a second find one in nine years.
const CODE_CHARS: usize = 10;
/// Days from 1970 on fit into this for the next millions of years.
const DAY_S: i64 = 86_400;

/// Where links of one purpose lie below the hub's public address, and how long they work.
const fn way(purpose: LinkPurpose) -> (&'static str, SignedDuration) {
    match purpose {
        LinkPurpose::Review => ("/r/", SignedDuration::from_hours(90 * 24)),
        // A message may be found much later, and its way out must still be one.
        LinkPurpose::Unsubscribe => ("/u/", SignedDuration::from_hours(400 * 24)),
    }
}

/// The links that a text may hold: `{{ link }}` and `{{ unsubscribe }}`. Nothing where the hub's public address is not known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links {
    pub(crate) link: Option<String>,
    pub(crate) unsubscribe: Option<String>,
}

impl Links {
    pub(crate) fn new(public_url: Option<&str>) -> Self {
        let of = |purpose| public_url.map(|url| format!("{url}{}{}", way(purpose).0, code()));
        Self { link: of(LinkPurpose::Review), unsubscribe: of(LinkPurpose::Unsubscribe) }
    }

    pub(crate) fn sample() -> Self {
        Self::new(Some("https://hub.example"))
    }
}

/// A new code. The generator is the system's, or one that it seeds.
fn code() -> String {
    (0..CODE_CHARS).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

/// What a link is kept by; nothing where this is no code.
pub(crate) fn hash(code: &str) -> Option<[u8; 16]> {
    let well = code.len() == CODE_CHARS && code.bytes().all(|byte| ALPHABET.contains(&byte));
    well.then(|| fingerprint([b"short link".as_slice(), code.as_bytes()]))
}

/// Hashes of the codes that a message holds.
fn codes(content: &Content, public_url: &str, purpose: LinkPurpose) -> Vec<[u8; 16]> {
    let start = format!("{public_url}{}", way(purpose).0);
    let template = content.template.as_ref().and_then(|template| serde_json::to_string(&template.components).ok());
    let texts =
        [Some(&content.text), content.html.as_ref(), content.link.as_ref(), content.unsubscribe_url.as_ref(), template.as_ref()];
    let mut found: Vec<[u8; 16]> = texts
        .into_iter()
        .flatten()
        .flat_map(|text| text.match_indices(start.as_str()).map(|(at, _)| &text[at + start.len()..]))
        .filter_map(|rest| hash(rest.get(..CODE_CHARS)?))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The links that were made with the messages of these events.
pub(crate) fn made<'a>(world: &World, events: impl IntoIterator<Item = &'a NewEvent>, now: Timestamp) -> Vec<ShortLink> {
    let Some(public_url) = &world.public_url else { return Vec::new() };
    let mut links = Vec::new();
    for new in events {
        for command in new.commands.iter().map(|new| &new.command) {
            let Job::Send { to, content, .. } = &command.job else { continue };
            for purpose in [LinkPurpose::Review, LinkPurpose::Unsubscribe] {
                for code in codes(content, public_url, purpose) {
                    links.push(ShortLink {
                        code,
                        purpose,
                        merchant: command.merchant,
                        outlet: new.event.outlet,
                        source: command.source,
                        via: command.connection,
                        channel: world.channel(command.connection),
                        flow: command.flow,
                        event: command.event,
                        command: command.id,
                        to: to.clone(),
                        day: day(now, &world.zone(new.event.outlet)),
                        made_at: now,
                        expires_at: command.due_at.max(now).saturating_add(way(purpose).1).unwrap_or(Timestamp::MAX),
                        sent_at: None,
                        opened_at: None,
                        clicks: 0,
                        review: None,
                    });
                }
            }
        }
    }
    links
}

/// The links of a message that a provider has taken.
pub(crate) fn sent(world: &World, link: &Link, command: &Command, at: Timestamp) -> Vec<([u8; 16], LinkNews)> {
    let (Some(public_url), Job::Send { to, content, .. }) = (&world.public_url, &command.job) else { return Vec::new() };
    let news = || LinkNews::Sent { via: link.id, channel: world.channel(link.id), to: to.clone(), at };
    [LinkPurpose::Review, LinkPurpose::Unsubscribe]
        .into_iter()
        .flat_map(|purpose| codes(content, public_url, purpose))
        .map(|code| (code, news()))
        .collect()
}

/// The day of a moment, counted from 1970.
pub(crate) fn day(at: Timestamp, zone: &TimeZone) -> i32 {
    let local = at.as_second() + i64::from(zone.to_offset(at).seconds());
    i32::try_from(local.div_euclid(DAY_S)).unwrap_or_default()
}

impl World {
    /// The channel of a connection that sends.
    pub(crate) fn channel(&self, via: Id) -> uzel_model::Channel {
        let messages = self.links.get(&via).and_then(|link| link.connector.messages());
        messages.map_or(uzel_model::Channel::Sms, |messages| messages.channel())
    }

    /// The zone of an outlet.
    pub(crate) fn zone(&self, outlet: Option<Id>) -> TimeZone {
        let outlet = outlet.and_then(|outlet| self.outlets.get(&outlet));
        outlet.and_then(|(_, _, outlet)| TimeZone::get(&outlet.zone).ok()).unwrap_or(TimeZone::UTC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_long_differ_and_are_found_in_what_is_sent() {
        let links = Links::new(Some("https://hub.example"));
        let link = links.link.unwrap();
        let code = link.rsplit('/').next().unwrap();
        assert_eq!(code.len(), 10);
        assert_ne!(Links::new(Some("https://hub.example")).link.as_ref(), Some(&link));
        let content = Content::text(format!("Спасибо! {link}. Ещё раз: {link}"));
        assert_eq!(codes(&content, "https://hub.example", LinkPurpose::Review), [hash(code).unwrap()]);
        assert_eq!(codes(&content, "https://hub.example", LinkPurpose::Unsubscribe), [[0; 16]; 0]);
        assert_eq!(
            codes(&Content::text("https://hub.example/r/short"), "https://hub.example", LinkPurpose::Review),
            [[0; 16]; 0]
        );
        assert!(hash("0OIl000000").is_none() && hash("яяяяя").is_none());
    }

    #[test]
    fn a_day_is_the_outlet_s() {
        let tashkent = TimeZone::get("Asia/Tashkent").unwrap();
        let at: Timestamp = "1970-01-02T20:00:00Z".parse().unwrap();
        assert_eq!((day(at, &TimeZone::UTC), day(at, &tashkent)), (1, 2));
    }
}
