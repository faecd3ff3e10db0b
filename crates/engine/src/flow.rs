//! Flows: a merchant's rule from events to commands.
//!
//! [`Flow::decide`] is pure: the same event and the same moment give the same command.

use std::collections::BTreeMap;

use cel::{Context, ExecutionError, Program};
use jiff::{SignedDuration, Timestamp, civil::DateTime, civil::Time, tz::TimeZone};
use minijinja::{Environment, UndefinedBehavior, context};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{
    Address, Content, Event, Id, Job,
    event::kind,
    id::Kind,
    phone::{Kind as PhoneKind, Phone},
    schedule::QuietHours,
    signature::fingerprint,
};
use uzel_store::{Command, Contact, NewCommand, Slot};

use crate::{review::Links, trial};

/// On what ground people are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// Only phones with recorded consent.
    Consent,
    /// The merchant's own decision that this is service, not advertising.
    Service,
}

/// A flow as a person writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowDoc {
    /// Types of events that start it, for instance `order.completed`.
    pub on: Vec<String>,
    /// `consent` (only phones with recorded consent) or `service` (the merchant's own decision). There is no default.
    pub ground: Ground,
    /// Who decided on `service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground_by: Option<String>,
    /// When that was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground_at: Option<String>,
    /// Only for these outlets, by their slugs; without any: for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outlets: Vec<String>,
    /// Only for what these connections tell, by their slugs; without any: for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// A condition in CEL over `event`, for instance `double(event.data.sum) > 500.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// How long after the event: `2h`, `30m`, `0s`.
    #[serde(default = "zero")]
    pub delay: String,
    /// No message from this time of day, in the outlet's zone (`21:00`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_from: Option<String>,
    /// No message until this time of day (`10:00`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_to: Option<String>,
    /// At most one request to a phone in so many days; 0: no limit.
    #[serde(default)]
    pub once_in_days: u16,
    /// A message later than this after the visit is held back.
    #[serde(default = "day")]
    pub latest: String,
    /// The connection that sends, by its slug.
    pub via: String,
    /// The text, a template: `{{ name }}`, `{{ outlet }}`, `{{ event.data.sum }}`. Names may be missing. `{{ link }}` leads to the
    /// page that asks for a review, `{{ unsubscribe }}` to the one that ends messages.
    pub text: String,
    /// Also for events read from before the connection was set up.
    #[serde(default)]
    pub history: bool,
}

fn zero() -> String {
    "0s".to_owned()
}

fn day() -> String {
    "24h".to_owned()
}

/// A flow, ready to decide.
pub struct Flow {
    pub id: Id,
    pub merchant: Id,
    pub slug: String,
    pub doc: FlowDoc,
    when: Option<Program>,
    delay: SignedDuration,
    latest: SignedDuration,
    quiet: Option<QuietHours>,
    texts: Environment<'static>,
    holds_links: bool,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flow({})", self.slug)
    }
}

/// What a flow makes of an event.
#[derive(Debug)]
pub enum Decision {
    Command(Box<NewCommand>),
    /// Nothing follows, and why; `None` where the flow does not listen to such events at all.
    Nothing(Option<String>),
}

/// What else a decision needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub zone: &'a TimeZone,
    pub outlet: &'a str,
    /// The same by its slug, where there is one.
    pub outlet_slug: Option<&'a str>,
    /// The connection whose event it is, by its slug.
    pub source: &'a str,
    /// The hub's own address, below which short links lie.
    pub public_url: Option<&'a str>,
    /// The sending connection.
    pub via: Id,
    /// Whether its messages may be sent again ([`uzel_model::port::Messages::repeatable`]).
    pub repeatable: bool,
    pub now: Timestamp,
}

/// Reads a duration as people write it: `90s`, `30m`, `2h`, `1d`.
pub fn duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("`{text}` is no duration: write `90s`, `30m`, `2h` or `1d`");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: i64 = text[..text.len() - unit.len_utf8()].trim().parse().map_err(|_| wrong())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(seconds)
        .filter(|total| (0..=366 * 86_400 * 10).contains(total))
        .map(SignedDuration::from_secs)
        .ok_or_else(wrong)
}

fn time_of_day(text: &str) -> Result<Time, String> {
    text.parse().map_err(|_| format!("`{text}` is no time of day: write `21:00`"))
}

/// A moment of a record: with or without a zone, or only a day.
fn moment(text: &str) -> Result<(), String> {
    if text.parse::<Timestamp>().is_ok() || text.parse::<DateTime>().is_ok() {
        return Ok(());
    }
    Err(format!("`{text}` is no date and no time: write `2026-11-24` or `2026-11-24T10:00:00Z`"))
}

/// What a condition gives for an event.
pub(crate) fn judge(program: &Program, event: &Event) -> Result<cel::Value, ExecutionError> {
    let mut context = Context::default();
    let add = context.add_variable("event", event);
    add.map_err(|error| ExecutionError::function_error("event", error.to_string()))?;
    program.execute(&context)
}

/// The text for an event.
pub(crate) fn render(texts: &Environment<'_>, event: &Event, outlet: &str, links: &Links) -> Result<String, minijinja::Error> {
    let name = event.name.as_deref().unwrap_or_default();
    let Links { link, unsubscribe } = links;
    texts.get_template("text")?.render(context! { name, outlet, link, unsubscribe, event => minijinja::value::Serde(event) })
}

impl FlowDoc {
    /// Everything that is wrong with it, by field.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        for name in &self.on {
            if !kind::ALL.contains(&name.as_str()) {
                faults.push(("on", format!("`{name}` is no type of event: {} are", kind::ALL.join(", "))));
            }
        }
        if self.on.is_empty() {
            faults.push(("on", "at least one type of event is needed".to_owned()));
        }
        if self.ground == Ground::Service && self.ground_by.as_deref().is_none_or(|who| who.trim().is_empty()) {
            faults.push(("ground_by", "is missing: `service` is the merchant's own decision, so say who made it".to_owned()));
        }
        let mut check = |field, result: Result<(), String>| faults.extend(result.err().map(|fault| (field, fault)));
        check("ground_at", self.ground_at.as_deref().map_or(Ok(()), moment));
        check("when", self.program().and_then(|program| program.map_or(Ok(()), |program| trial::condition(&program, &self.on))));
        check("delay", duration(&self.delay).map(drop));
        check("latest", self.latest_after_delay());
        check("quiet_from", self.quiet().map(drop));
        check("text", self.texts().and_then(|texts| trial::text(&texts, &self.on)));
        if self.text.trim().is_empty() {
            faults.push(("text", "is empty".to_owned()));
        }
        faults
    }

    /// Whether its text holds links of the hub.
    pub(crate) fn holds_links(&self) -> bool {
        let texts = self.texts().ok();
        let names = texts.and_then(|texts| Some(texts.get_template("text").ok()?.undeclared_variables(false)));
        names.is_some_and(|names| names.contains("link") || names.contains("unsubscribe"))
    }

    fn program(&self) -> Result<Option<Program>, String> {
        self.when.as_deref().map(Program::compile).transpose().map_err(|error| format!("is not CEL: {error}"))
    }

    fn latest_after_delay(&self) -> Result<(), String> {
        let latest = duration(&self.latest)?;
        match duration(&self.delay) {
            Ok(delay) if latest < delay => {
                Err(format!("`{}` is shorter than the delay `{}`: every message would be too late", self.latest, self.delay))
            }
            _ => Ok(()),
        }
    }

    fn quiet(&self) -> Result<Option<QuietHours>, String> {
        match (&self.quiet_from, &self.quiet_to) {
            (None, None) => Ok(None),
            (Some(from), Some(to)) => {
                let quiet = QuietHours { from: time_of_day(from)?, to: time_of_day(to)? };
                if quiet.from == quiet.to {
                    return Err("is the same as quiet_to: leave both out if no hours are quiet".to_owned());
                }
                Ok(Some(quiet))
            }
            _ => Err("quiet_from and quiet_to go together".to_owned()),
        }
    }

    fn texts(&self) -> Result<Environment<'static>, String> {
        let mut texts = Environment::new();
        texts.set_undefined_behavior(UndefinedBehavior::Chainable);
        texts.set_fuel(Some(50_000));
        texts.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        texts.add_template_owned("text", self.text.clone()).map_err(|error| format!("is no template: {error}"))?;
        Ok(texts)
    }
}

impl Flow {
    pub fn new(id: Id, merchant: Id, slug: String, doc: FlowDoc) -> Result<Self, String> {
        if let Some((field, fault)) = doc.faults().into_iter().next() {
            return Err(format!("{field}: {fault}"));
        }
        Ok(Self {
            id,
            merchant,
            slug,
            when: doc.program()?,
            delay: duration(&doc.delay)?,
            latest: duration(&doc.latest)?,
            quiet: doc.quiet()?,
            texts: doc.texts()?,
            holds_links: doc.holds_links(),
            doc,
        })
    }

    pub fn listens(&self, event: &Event) -> bool {
        self.merchant == event.merchant && self.doc.on.contains(&event.kind)
    }

    /// What follows from an event.
    pub fn decide(&self, event: &Event, place: Place<'_>) -> Decision {
        if !self.listens(event) {
            return Decision::Nothing(None);
        }
        let nothing = |why: String| Decision::Nothing(Some(format!("flow {}: {why}", self.slug)));
        if event.history && !self.doc.history {
            return nothing("from before the connection was set up".to_owned());
        }
        if let Some(why) = self.elsewhere(place) {
            return nothing(why);
        }
        match self.condition(event) {
            Ok(true) => {}
            Ok(false) => return nothing("its condition is not met".to_owned()),
            Err(why) => return nothing(format!("its condition cannot be judged: {why}")),
        }
        let Some(phone) = &event.phone else {
            let why = event.phone_error.map_or_else(|| "no phone".to_owned(), |error| format!("no phone: {error}"));
            return nothing(why);
        };
        if self.holds_links && place.public_url.is_none() {
            return nothing("its text holds a link, and the hub does not know its public address: set `public_url`".to_owned());
        }
        let links = Links::new(place.public_url);
        let text = match self.text(event, place.outlet, &links) {
            Ok(text) => text,
            Err(why) => return nothing(format!("its text cannot be made: {why}")),
        };
        let unsubscribe_url = links.unsubscribe.filter(|url| text.contains(url.as_str()));
        let content = Content { unsubscribe_url, ..Content::text(text) };
        Decision::Command(Box::new(self.command(event, phone, content, place)))
    }

    /// Why it is not for this place, if so.
    fn elsewhere(&self, place: Place<'_>) -> Option<String> {
        let FlowDoc { outlets, sources, .. } = &self.doc;
        let is_in =
            |names: &[String], slug: Option<&str>| names.is_empty() || names.iter().any(|name| Some(name.as_str()) == slug);
        if !is_in(outlets, place.outlet_slug) {
            return Some("it is for other outlets".to_owned());
        }
        (!is_in(sources, Some(place.source))).then(|| "it is for other sources".to_owned())
    }

    fn command(&self, event: &Event, phone: &Phone, content: Content, place: Place<'_>) -> NewCommand {
        // What happens in the provider's future is a wrong clock there.
        let happened = event.at.min(place.now);
        let wanted = happened.saturating_add(self.delay).unwrap_or(place.now).max(place.now);
        let due_at = self.open_at(wanted, place.zone);
        let latest_at = happened.saturating_add(self.latest).unwrap_or(Timestamp::MAX);
        let held = if !matches!(phone.kind, PhoneKind::Mobile) {
            Some("not_mobile".to_owned())
        } else if due_at > latest_at {
            Some("too_old".to_owned())
        } else {
            None
        };
        let slot = (self.doc.once_in_days > 0).then(|| Slot {
            key: fingerprint([b"review".as_slice(), self.merchant.as_bytes(), phone.e164.as_bytes()]),
            until: due_at
                .saturating_add(SignedDuration::from_hours(24 * i64::from(self.doc.once_in_days)))
                .unwrap_or(Timestamp::MAX),
            reason: "asked_recently".to_owned(),
        });
        let command = Command {
            id: Id::new(Kind::Command),
            merchant: event.merchant,
            connection: place.via,
            flow: Some(self.id),
            event: Some(event.id),
            job: Job::Send {
                to: Address::Phone(phone.e164.clone()),
                content: content.into(),
                consent: false,
                repeatable: place.repeatable,
            },
            due_at,
            latest_at: Some(latest_at),
            source: event.connection,
            attempts: 0,
            contact: Contact::default(),
            lease: 0,
            trace: event.trace.clone(),
        };
        let ordering_key = format!("{}/{}", place.via, phone.e164);
        NewCommand { command, ordering_key, subject: event.subject.clone(), held, slot }
    }

    /// The earliest moment that is not quiet.
    pub fn open_at(&self, at: Timestamp, zone: &TimeZone) -> Timestamp {
        self.quiet.map_or(at, |quiet| quiet.next_open(at, zone))
    }

    fn condition(&self, event: &Event) -> Result<bool, String> {
        let Some(program) = &self.when else { return Ok(true) };
        match judge(program, event) {
            Ok(cel::Value::Bool(met)) => Ok(met),
            Ok(other) => Err(format!("it gives {other:?}, not true or false")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn text(&self, event: &Event, outlet: &str, links: &Links) -> Result<String, String> {
        let text = render(&self.texts, event, outlet, links).map_err(|error| error.to_string())?;
        let text = text.trim().to_owned();
        if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text) }
    }
}

/// The reasons by which commands are held back, in words for people.
pub fn reasons() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("not_mobile", "the number takes no SMS"),
        ("too_old", "the visit was too long ago"),
        ("asked_recently", "this person was asked recently"),
        ("opt_out", "this person wants no messages"),
        ("no_consent", "this person has not agreed to messages"),
        ("cancelled", "the order was cancelled meanwhile"),
        ("erased", "what was known of this person was erased"),
    ])
}
