//! What people say about messages: words with their proof, and stop lists.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_engine::{
    consent::{NewWord, read_address},
    opt_outs::{LineOutcome, LineReport, mask_key},
};
use uzel_model::{Address, Channel, Id, check::Fault, signature};
use uzel_store::{ConsentHow, ConsentPurpose};

use super::{
    page::{LIMIT, Page},
    route::{Answered, Ask, reply},
};
use crate::{App, Problem};

const TEXT_CHARS_MAX: usize = 1_000;
/// So many words of one person are shown.
const WORDS_MAX: usize = 200;

/// A person's word about messages.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({
    "merchant": "cafe", "phone": "+79991234567", "granted": true, "how": "form", "proof": "form at the counter, 2026-11-24"
}))]
pub(super) struct ConsentRequest {
    /// By id or slug.
    merchant: String,
    /// Whose word it is: a phone, or `email` instead.
    #[serde(default)]
    phone: Option<String>,
    /// Whose word it is, where it is about a mailbox.
    #[serde(default)]
    email: Option<String>,
    /// Whether messages are allowed.
    granted: bool,
    /// Only about this channel; without it: about all.
    #[serde(default)]
    channel: Option<Channel>,
    /// Only about such messages; without it: `marketing`.
    #[serde(default)]
    purpose: ConsentPurpose,
    /// How it was given; without it: `spoken`.
    #[serde(default)]
    how: Option<ConsentHow>,
    /// What the person said or signed, or where that is kept: it is what proves the word.
    #[serde(alias = "text")]
    proof: String,
}

/// What was recorded.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConsentView {
    /// Masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    /// Masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// Whether messages are allowed.
    granted: bool,
    /// The channel that it is about; nothing: all.
    channel: Option<Channel>,
    /// The messages that it is about.
    purpose: ConsentPurpose,
    /// Stands for the person in the audit log.
    record: String,
}

fn country(app: &App, merchant: Id) -> String {
    let world = app.engine.world();
    world.merchants.get(&merchant).map_or("RU".to_owned(), |(_, merchant)| merchant.country.clone())
}

/// The same for one person, and for nobody else.
fn record_of(address: &str) -> String {
    signature::sha256_hex([address.as_bytes()])[..16].to_owned()
}

pub(super) async fn record(ask: Ask<(), (), ConsentRequest>) -> Answered<ConsentView> {
    let Ask { app, caller, body: word, .. } = ask;
    let merchant = caller.merchant(&app, &word.merchant)?;
    let (field, given) = match (&word.phone, &word.email) {
        (Some(phone), None) => ("/phone", phone),
        (None, Some(email)) => ("/email", email),
        (None, None) => return Err(Problem::invalid(vec![Fault::new("/phone", "is missing: give a phone, or `email`")])),
        (Some(_), Some(_)) => {
            return Err(Problem::invalid(vec![Fault::new("/email", "stands beside `phone`: give one of the two")]));
        }
    };
    let wrong = |why: String| Problem::unreadable("body", Fault::new(field, why));
    let address = read_address(given, &country(&app, merchant)).map_err(wrong)?;
    if matches!(address, Address::Email(_)) != word.email.is_some() {
        return Err(wrong("is an address of another kind".to_owned()));
    }
    if let Some(channel) = word.channel.filter(|channel| !channel.takes(&address)) {
        let why = format!("{} takes no such address", channel.name());
        return Err(Problem::invalid(vec![Fault::new("/channel", why)]));
    }
    let text = word.proof.trim();
    if text.is_empty() || text.chars().count() > TEXT_CHARS_MAX {
        let why = format!("must have 1 to {TEXT_CHARS_MAX} characters: without proof a consent is none");
        return Err(Problem::invalid(vec![Fault::new("/proof", why)]));
    }
    let record = record_of(&address.key());
    let new = NewWord {
        merchant,
        address: address.clone(),
        channel: word.channel,
        purpose: word.purpose,
        granted: word.granted,
        how: word.how.unwrap_or(ConsentHow::Spoken),
        text: text.to_owned(),
        by: caller.holder.name().to_owned(),
    };
    if !app.engine.record_word(new).await? {
        return Err(Problem::bad_request("a word of a later time stands: is the hub's clock right?"));
    }
    let detail = json!({ "granted": word.granted, "channel": word.channel, "purpose": word.purpose });
    app.engine.audit(caller.holder.name(), "consent.record", Some(merchant), &record, detail).await?;
    let (phone, email) = match &address {
        Address::Email(_) => (None, Some(address.masked())),
        _ => (Some(address.masked()), None),
    };
    reply(ConsentView { phone, email, granted: word.granted, channel: word.channel, purpose: word.purpose, record })
}

/// Whose words.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WordsQuery {
    /// By id or slug; a key of one merchant needs none.
    merchant: Option<String>,
    /// A phone or an e-mail address.
    address: String,
}

/// How a person stands with messages, and all that they said.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WordsView {
    /// Masked.
    address: String,
    /// Whether they want no messages at all.
    opted_out: bool,
    /// Whether they have agreed to messages by any channel.
    consented: bool,
    /// What they said, newest first.
    words: Vec<WordView>,
}

/// A word with its proof.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WordView {
    /// Whether messages were allowed.
    granted: bool,
    /// The channel that it is about; nothing: all.
    channel: Option<Channel>,
    /// The messages that it is about.
    purpose: ConsentPurpose,
    /// How it was given.
    how: ConsentHow,
    /// What they said or signed, or where that is kept.
    text: String,
    /// Who wrote it down: id of a key, `local`, or `hub`.
    by: String,
    /// When it was given.
    at: Timestamp,
}

/// The merchant that is named, or the caller's own.
fn merchant(app: &App, caller: &super::Caller, named: Option<&str>) -> Result<Id, Problem> {
    let missing = || Problem::unreadable("query", Fault::new("merchant", "is missing: this key is of the whole hub"));
    caller.scope(app, named)?.ok_or_else(missing)
}

pub(super) async fn show(ask: Ask<(), WordsQuery>) -> Answered<WordsView> {
    let Ask { app, caller, query, .. } = ask;
    let merchant = merchant(&app, &caller, query.merchant.as_deref())?;
    let wrong = |why| Problem::unreadable("query", Fault::new("address", why));
    let address = read_address(&query.address, &country(&app, merchant)).map_err(wrong)?;
    let contact = app.engine.store.contact(merchant, &address.key()).await?;
    let words = app.engine.store.words(merchant, &address.key(), WORDS_MAX).await?;
    let word = |word: uzel_store::Consent| WordView {
        granted: word.granted,
        channel: word.channel,
        purpose: word.purpose,
        how: word.how,
        text: word.text,
        by: word.by,
        at: word.at,
    };
    reply(WordsView {
        address: address.masked(),
        opted_out: contact.opted_out,
        consented: contact.consented,
        words: words.into_iter().map(word).collect(),
    })
}

/// Which stop list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OptOutsQuery {
    /// By id or slug; a key of one merchant needs none.
    merchant: Option<String>,
    /// `next` of the page before; only with `unmasked`, since it is an address.
    after: Option<String>,
    /// Rows of a page.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// Shows addresses whole; owners only.
    #[serde(default)]
    unmasked: bool,
}

/// Somebody who wants no messages.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct OptOutView {
    /// A phone, a mailbox or the like.
    address: String,
    /// The channels by which they want none; nothing: by none at all.
    channels: Option<Vec<Channel>>,
    /// Since when.
    since: Timestamp,
}

pub(super) async fn opt_outs(ask: Ask<(), OptOutsQuery>) -> Answered<Page<OptOutView>> {
    let Ask { app, caller, query, .. } = ask;
    let limit = LIMIT.read(query.limit)?;
    let merchant = merchant(&app, &caller, query.merchant.as_deref())?;
    let unmasked = query.unmasked && caller.is_owner();
    let found = app.engine.store.opt_outs(merchant, query.after.as_deref().unwrap_or_default(), limit + 1).await?;
    let page = Page::new(found, limit, |opt_out| opt_out.address.clone());
    let view = |opt_out: uzel_store::OptOut| OptOutView {
        address: if unmasked { opt_out.address } else { mask_key(&opt_out.address) },
        channels: opt_out.channels,
        since: opt_out.since,
    };
    // A place in the list is an address.
    reply(Page { items: page.items.into_iter().map(view).collect(), next: page.next.filter(|_| unmasked) })
}

/// A stop list as CSV.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(example = "phone;channel;reason\n+79991234567;;asked at the till\n")]
pub(super) struct StopList(String);

/// Whose list, and whether it is only looked at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportQuery {
    /// By id or slug; a key of one merchant needs none.
    merchant: Option<String>,
    /// Only tells what would become of each line.
    #[serde(default)]
    dry_run: bool,
}

/// What became of a stop list.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ImportView {
    /// Whether it was only looked at.
    dry_run: bool,
    /// Lines from which on nothing goes there.
    added: usize,
    /// Lines of people who wanted none before.
    known: usize,
    /// Lines that stand twice.
    repeated: usize,
    /// Lines that cannot be read.
    faulty: usize,
    /// Every line.
    lines: Vec<LineReport>,
}

pub(super) async fn import(ask: Ask<(), ImportQuery, StopList>) -> Answered<ImportView> {
    let Ask { app, caller, query, body, .. } = ask;
    let merchant = merchant(&app, &caller, query.merchant.as_deref())?;
    let by = caller.holder.name();
    let lines = app.engine.import_opt_outs(merchant, &body.0, by, query.dry_run).await?;
    let lines = lines.map_err(|why| Problem::invalid(vec![Fault::new("", why)]))?;
    let count = |outcome| lines.iter().filter(|line| line.outcome == outcome).count();
    let view = ImportView {
        dry_run: query.dry_run,
        added: count(LineOutcome::Added),
        known: count(LineOutcome::Known),
        repeated: count(LineOutcome::Repeated),
        faulty: count(LineOutcome::Faulty),
        lines,
    };
    if !query.dry_run {
        let detail = json!({ "added": view.added, "known": view.known, "faulty": view.faulty });
        app.engine.audit(by, "opt_outs.import", Some(merchant), merchant, detail).await?;
    }
    reply(view)
}
