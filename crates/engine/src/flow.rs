//! Flows: a merchant's rule from events to commands.
//!
//! [`Flow::decide`] is pure: the same event and the same moment give the same command.

mod step;

use std::{borrow::Cow, collections::BTreeMap};

use cel::{Context, ExecutionError, Program};
use jiff::{SignedDuration, Timestamp, civil::DateTime, civil::Time, tz::TimeZone};
use minijinja::{Environment, context};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{Address, Content, Event, Id, Job, event::kind, id::Kind, schedule::QuietHours, signature::fingerprint};
use uzel_store::{Command, Contact, NewCommand, Slot};

use self::step::{Fault, Step};
pub use self::step::{StepDoc, TemplateDoc, Via, Way};
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
    /// At most so many messages to a person within seven days, counted over all flows that have such a limit; 0: no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub per_week: u8,
    /// A message later than this after the visit is held back.
    #[serde(default = "day")]
    pub latest: String,
    /// The connection that sends, by its slug; or several, the next where the one before reaches nobody.
    #[serde(default, skip_serializing_if = "Via::is_empty")]
    pub via: Via,
    /// The text, a template: `{{ name }}`, `{{ outlet }}`, `{{ event.data.sum }}`. Names may be missing. `{{ link }}` leads to the
    /// page that asks for a review, `{{ unsubscribe }}` to the one that ends messages.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Instead of `via`: the steps of a chain, each with what it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step: Vec<StepDoc>,
    /// A message that is not delivered after so long goes by the next step too: `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undelivered_after: Option<String>,
    /// The next step goes also where nobody knows whether the one before was sent: then a person may get both.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub also_if_unknown: bool,
    /// Also for events read from before the connection was set up.
    #[serde(default)]
    pub history: bool,
}

fn zero() -> String {
    "0s".to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u8) -> bool {
    *count == 0
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
    pub(crate) steps: Vec<Step>,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flow({})", self.slug)
    }
}

/// What a flow makes of an event.
#[derive(Debug)]
pub enum Decision {
    /// What is to be sent, and why steps before it were skipped.
    Command(Box<NewCommand>, Vec<String>),
    /// Nothing follows, and why; no word where the flow does not listen to such events at all.
    Nothing(Vec<String>),
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
    /// Of each step the connection by which it goes, where that can be used.
    pub ways: &'a [Option<Way>],
    pub now: Timestamp,
}

/// A step by which a guest can be reached.
struct Reached {
    way: Way,
    to: Address,
    content: Content,
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

/// One of the texts for an event.
pub(crate) fn render(
    texts: &Environment<'_>,
    template: &str,
    event: &Event,
    outlet: &str,
    links: &Links,
) -> Result<String, minijinja::Error> {
    let name = event.name.as_deref().unwrap_or_default();
    let Links { link, unsubscribe } = links;
    texts.get_template(template)?.render(context! { name, outlet, link, unsubscribe, event => minijinja::value::Serde(event) })
}

impl FlowDoc {
    /// Everything that is wrong with it, by field.
    pub fn faults(&self) -> Vec<(Cow<'static, str>, String)> {
        let mut faults: Vec<Fault> = Vec::new();
        for name in &self.on {
            if !kind::ALL.contains(&name.as_str()) {
                faults.push(("on".into(), format!("`{name}` is no type of event: {} are", kind::ALL.join(", "))));
            }
        }
        if self.on.is_empty() {
            faults.push(("on".into(), "at least one type of event is needed".to_owned()));
        }
        if self.ground == Ground::Service && self.ground_by.as_deref().is_none_or(|who| who.trim().is_empty()) {
            let why = "is missing: `service` is the merchant's own decision, so say who made it";
            faults.push(("ground_by".into(), why.to_owned()));
        }
        let mut check =
            |field: &'static str, result: Result<(), String>| faults.extend(result.err().map(|fault| (field.into(), fault)));
        check("ground_at", self.ground_at.as_deref().map_or(Ok(()), moment));
        check("when", self.program().and_then(|program| program.map_or(Ok(()), |program| trial::condition(&program, &self.on))));
        check("delay", duration(&self.delay).map(drop));
        check("latest", self.latest_after_delay());
        check("quiet_from", self.quiet().map(drop));
        faults.extend(self.step_faults());
        faults
    }

    /// Whether its text holds links of the hub.
    pub(crate) fn holds_links(&self) -> bool {
        self.texts().is_ok_and(|texts| {
            texts.templates().any(|(_, text)| {
                let names = text.undeclared_variables(false);
                names.contains("link") || names.contains("unsubscribe")
            })
        })
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
            steps: doc.steps()?,
            doc,
        })
    }

    pub fn listens(&self, event: &Event) -> bool {
        self.merchant == event.merchant && self.doc.on.contains(&event.kind)
    }

    /// What follows from an event.
    pub fn decide(&self, event: &Event, place: Place<'_>) -> Decision {
        if !self.listens(event) {
            return Decision::Nothing(Vec::new());
        }
        let nothing = |why: String| Decision::Nothing(vec![format!("flow {}: {why}", self.slug)]);
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
        if self.holds_links && place.public_url.is_none() {
            return nothing("its text holds a link, and the hub does not know its public address: set `public_url`".to_owned());
        }
        match self.reach(0, event, place) {
            (Some(reached), skipped) => Decision::Command(Box::new(self.command(event, reached, place)), skipped),
            (None, skipped) => Decision::Nothing(skipped),
        }
    }

    /// The first step from this place on by which the guest can be reached, and why those before it are skipped.
    fn reach(&self, from: usize, event: &Event, place: Place<'_>) -> (Option<Reached>, Vec<String>) {
        let mut skipped = Vec::new();
        for (number, step) in self.steps.iter().enumerate().skip(from) {
            match self.try_step(number, step, event, place) {
                Ok(reached) => return (Some(reached), skipped),
                Err(why) if self.steps.len() == 1 => skipped.push(format!("flow {}: {why}", self.slug)),
                Err(why) => {
                    skipped.push(format!("flow {}: step {} (`{}`) is skipped: {why}", self.slug, number + 1, step.doc.via));
                }
            }
        }
        (None, skipped)
    }

    fn try_step(&self, number: usize, step: &Step, event: &Event, place: Place<'_>) -> Result<Reached, String> {
        let Some(way) = place.ways.get(number).copied().flatten() else {
            return Err(format!("its connection `{}` does not exist or cannot be used", step.doc.via));
        };
        let to = step::address(way.channel, event)?;
        // Where there is one step only, it is held back where people can see it.
        if self.steps.len() > 1 && !step::is_mobile(&to, event) {
            return Err("the number takes no SMS".to_owned());
        }
        let content = step
            .content(number, &self.texts, way.channel, event, place.outlet, &Links::new(place.public_url))
            .map_err(|why| format!("its text cannot be made: {why}"))?;
        Ok(Reached { way, to, content })
    }

    /// The place of a connection's step among them all.
    pub(crate) fn place_of(&self, via: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.doc.via == via)
    }

    /// What goes where the step at this place reaches nobody: at this moment, or later in quiet hours. Also why steps are skipped.
    pub(crate) fn next(
        &self,
        after: usize,
        before: &Command,
        event: &Event,
        place: Place<'_>,
        at: Timestamp,
    ) -> (Option<NewCommand>, Vec<String>) {
        let (reached, mut skipped) = self.reach(after + 1, event, place);
        let Some(reached) = reached else { return (None, skipped) };
        let due_at = self.open_at(at, place.zone);
        if before.latest_at.is_some_and(|latest| latest < due_at) {
            skipped.push(format!("flow {}: nothing goes after `{}`: it would be too late", self.slug, self.steps[after].doc.via));
            return (None, skipped);
        }
        (Some(self.queued(event, reached, due_at, before.latest_at)), skipped)
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

    fn command(&self, event: &Event, reached: Reached, place: Place<'_>) -> NewCommand {
        // What happens in the provider's future is a wrong clock there.
        let happened = event.at.min(place.now);
        let wanted = happened.saturating_add(self.delay).unwrap_or(place.now).max(place.now);
        let due_at = self.open_at(wanted, place.zone);
        let latest_at = self.latest_at(event, place.now);
        let held = if !step::is_mobile(&reached.to, event) {
            Some("not_mobile".to_owned())
        } else if due_at > latest_at {
            Some("too_old".to_owned())
        } else {
            None
        };
        // By whatever step it goes, the place is the person's.
        let person = event.phone.as_ref().map_or_else(|| reached.to.key(), |phone| phone.e164.clone());
        let slot = self.slot(&person, due_at);
        NewCommand { held, slot, ..self.queued(event, reached, due_at, Some(latest_at)) }
    }

    /// After this moment nothing goes.
    pub(crate) fn latest_at(&self, event: &Event, now: Timestamp) -> Timestamp {
        event.at.min(now).saturating_add(self.latest).unwrap_or(Timestamp::MAX)
    }

    fn queued(&self, event: &Event, reached: Reached, due_at: Timestamp, latest_at: Option<Timestamp>) -> NewCommand {
        let Reached { way, to, content } = reached;
        let ordering_key = format!("{}/{}", way.id, to.key());
        let command = Command {
            id: Id::new(Kind::Command),
            merchant: event.merchant,
            connection: way.id,
            flow: Some(self.id),
            event: Some(event.id),
            job: Job::Send { to, content: content.into(), consent: false, repeatable: way.repeatable, batch: None },
            due_at,
            latest_at,
            source: event.connection,
            attempts: 0,
            contact: Contact::default(),
            lease: 0,
            trace: event.trace.clone(),
        };
        NewCommand { command, ordering_key, subject: event.subject.clone(), held: None, slot: None }
    }

    /// The places that a message to a person takes: all flows of a merchant share them, whatever source they listen to.
    fn slot(&self, to: &str, due_at: Timestamp) -> Option<Slot> {
        let slot = |what: &str, places, days: u16, reason: &str| Slot {
            key: fingerprint([what.as_bytes(), self.merchant.as_bytes(), to.as_bytes()]),
            places,
            until: due_at.saturating_add(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MAX),
            reason: reason.to_owned(),
            also: None,
        };
        let week = (self.doc.per_week > 0).then(|| slot("week", self.doc.per_week, 7, "enough_this_week"));
        let once = (self.doc.once_in_days > 0).then(|| slot("review", 1, self.doc.once_in_days, "asked_recently"));
        match once {
            Some(once) => Some(Slot { also: week.map(Box::new), ..once }),
            None => week,
        }
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
}

/// The reasons by which commands are held back, in words for people.
pub fn reasons() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("not_mobile", "the number takes no SMS"),
        ("too_old", "the visit was too long ago"),
        ("asked_recently", "this person was asked recently"),
        ("enough_this_week", "this person has got enough messages this week"),
        ("opt_out", "this person wants no messages"),
        ("no_consent", "this person has not agreed to messages"),
        ("cancelled", "the order was cancelled meanwhile"),
        ("delivered", "the message has arrived by the step before"),
        ("repeated", "the same message to this person stands twice in its batch"),
        ("erased", "what was known of this person was erased"),
    ])
}
