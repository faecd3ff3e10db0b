//! Steps of a flow: by which connections its message goes, one after another until it has arrived, and what it says by each.

use std::borrow::Cow;

use jiff::SignedDuration;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_model::{Address, Channel, Content, Event, Id, message::Template, phone::Kind as PhoneKind};

use super::{FlowDoc, duration, render};
use crate::{review::Links, trial};

/// As many steps a chain may have.
const STEPS_MAX: usize = 8;
const UNDELIVERED_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Who sends: a connection, by its slug, or several, one after another until the message has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Via {
    One(String),
    Chain(Vec<String>),
}

impl Default for Via {
    fn default() -> Self {
        Self::One(String::new())
    }
}

impl Via {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::One(slug) => slug.is_empty(),
            Self::Chain(slugs) => slugs.is_empty(),
        }
    }

    fn slugs(&self) -> &[String] {
        match self {
            Self::One(slug) => std::slice::from_ref(slug),
            Self::Chain(slugs) => slugs,
        }
    }
}

/// One step of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepDoc {
    /// The connection that sends, by its slug.
    pub via: String,
    /// Its own text; without one the flow's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A message that the provider has approved (WhatsApp).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateDoc>,
    /// Of an e-mail, a template as the text is; without one the outlet's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Of an e-mail, a template in which what is put in is escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Not delivered after so long, the next step goes: `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undelivered_after: Option<String>,
}

/// A message that the provider has approved, with what stands in the places of its body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateDoc {
    /// As the provider knows it, for instance `review_request`.
    pub name: String,
    /// Exactly an approved translation, for instance `ru`.
    pub language: String,
    /// What stands in `{{1}}`, `{{2}}` and so on: templates as the text is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
}

/// A connection by which a step may go.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub id: Id,
    pub channel: Channel,
    /// Whether its messages may be sent again ([`uzel_model::port::Messages::repeatable`]).
    pub repeatable: bool,
}

/// A step, ready to be gone.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) doc: StepDoc,
    /// Not delivered after so long, the next one goes.
    pub(crate) after: SignedDuration,
    /// Whether there is a text of its own or of the flow.
    has_text: bool,
}

/// A template of a step: the field that it stands in, its name among the templates, and what it says.
struct Piece {
    field: String,
    name: String,
    source: String,
}

pub(super) type Fault = (Cow<'static, str>, String);

impl FlowDoc {
    /// Fields that name a connection, and which.
    pub fn ways_out(&self) -> Vec<(String, &str)> {
        match (&self.via, self.step.is_empty()) {
            (_, false) => {
                self.step.iter().enumerate().map(|(place, step)| (format!("step/{place}/via"), step.via.as_str())).collect()
            }
            (Via::One(slug), true) => vec![("via".to_owned(), slug.as_str())],
            (Via::Chain(slugs), true) => {
                slugs.iter().enumerate().map(|(place, slug)| (format!("via/{place}"), slug.as_str())).collect()
            }
        }
    }

    fn step_docs(&self) -> Vec<StepDoc> {
        if !self.step.is_empty() {
            return self.step.clone();
        }
        let step = |via: &String| StepDoc { via: via.clone(), ..StepDoc::default() };
        self.via.slugs().iter().map(step).collect()
    }

    pub(super) fn steps(&self) -> Result<Vec<Step>, String> {
        let step = |doc: StepDoc| {
            let after = doc.undelivered_after.as_deref().or(self.undelivered_after.as_deref());
            let after = after.map_or(Ok(UNDELIVERED_AFTER), duration)?;
            let has_text = !doc.text.as_ref().unwrap_or(&self.text).trim().is_empty();
            Ok(Step { doc, after, has_text })
        };
        self.step_docs().into_iter().map(step).collect()
    }

    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (place, step) in self.step_docs().iter().enumerate() {
            let mut put = |field: String, name: &str, source: &str| {
                pieces.push(Piece { field, name: format!("{place}/{name}"), source: source.to_owned() });
            };
            let at = |field: &str| format!("step/{place}/{field}");
            match &step.text {
                Some(text) => put(at("text"), "text", text),
                None => put("text".to_owned(), "text", &self.text),
            }
            step.subject.iter().for_each(|subject| put(at("subject"), "subject", subject));
            step.html.iter().for_each(|html| put(at("html"), "html.html", html));
            for (number, parameter) in step.template.iter().flat_map(|template| &template.parameters).enumerate() {
                put(at(&format!("template/parameters/{number}")), &format!("parameter/{number}"), parameter);
            }
        }
        pieces
    }

    pub(super) fn texts(&self) -> Result<Environment<'static>, String> {
        let mut texts = environment();
        for Piece { name, source, .. } in self.pieces() {
            texts.add_template_owned(name, source).map_err(|error| format!("is no template: {error}"))?;
        }
        Ok(texts)
    }

    /// What is wrong with its steps, by field.
    pub(super) fn step_faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = Vec::new();
        let mut fault = |field: String, why: String| {
            let fault = (Cow::Owned(field), why);
            // What several steps share is wrong once.
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        };
        if !self.via.is_empty() && !self.step.is_empty() {
            fault("via".to_owned(), "stands beside `step`: give one of the two".to_owned());
        }
        if self.via.is_empty() && self.step.is_empty() {
            fault("via".to_owned(), "is missing: name the connection that sends, or several, or give `step`s".to_owned());
        }
        let ways = self.ways_out();
        if ways.len() > STEPS_MAX {
            let field = if self.step.is_empty() { "via" } else { "step" };
            fault(field.to_owned(), format!("has {} steps: {STEPS_MAX} are the most", ways.len()));
        }
        for (place, (field, slug)) in ways.iter().enumerate() {
            if ways[..place].iter().any(|(_, before)| before == slug) {
                fault(field.clone(), format!("`{slug}` stands here twice: a connection may take one step of a chain"));
            }
        }
        if let Some(Err(why)) = self.undelivered_after.as_deref().map(duration) {
            fault("undelivered_after".to_owned(), why);
        }
        for (place, step) in self.step.iter().enumerate() {
            if let Some(Err(why)) = step.undelivered_after.as_deref().map(duration) {
                fault(format!("step/{place}/undelivered_after"), why);
            }
            if let Some(template) = &step.template {
                for (name, value) in [("name", &template.name), ("language", &template.language)] {
                    if value.trim().is_empty() {
                        fault(format!("step/{place}/template/{name}"), "is empty".to_owned());
                    }
                }
            }
        }
        for (place, step) in self.step_docs().iter().enumerate() {
            let text = step.text.as_ref().unwrap_or(&self.text);
            if text.trim().is_empty() && step.template.is_none() {
                let own = step.text.is_some();
                fault(if own { format!("step/{place}/text") } else { "text".to_owned() }, "is empty".to_owned());
            }
        }
        for Piece { field, name, source } in self.pieces() {
            // What is told of it names it as people know it.
            let name = if name.ends_with(".html") { format!("{field}.html") } else { field.clone() };
            let mut texts = environment();
            let tried = texts.add_template_owned(name.clone(), source).map_err(|error| format!("is no template: {error}"));
            if let Err(why) = tried.and_then(|()| trial::text(&texts, &name, &self.on)) {
                fault(field, why);
            }
        }
        faults
    }
}

fn environment() -> Environment<'static> {
    let mut texts = Environment::new();
    texts.set_undefined_behavior(UndefinedBehavior::Chainable);
    texts.set_fuel(Some(50_000));
    texts.set_auto_escape_callback(|name| if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None });
    texts
}

/// Where a guest can be reached by a channel.
pub(super) fn address(channel: Channel, event: &Event) -> Result<Address, String> {
    match channel {
        Channel::Sms | Channel::Whatsapp => match &event.phone {
            Some(phone) => Ok(Address::Phone(phone.e164.clone())),
            None => Err(event.phone_error.map_or_else(|| "no phone".to_owned(), |error| format!("no phone: {error}"))),
        },
        Channel::Email => event.email.clone().map(Address::Email).ok_or_else(|| "no e-mail address".to_owned()),
        Channel::Telegram | Channel::Push => Err(format!("no guest is known by an address of the channel `{}`", channel.name())),
    }
}

/// Whether the guest's number takes what goes to phones.
pub(super) fn is_mobile(to: &Address, event: &Event) -> bool {
    !matches!(to, Address::Phone(_)) || event.phone.as_ref().is_some_and(|phone| matches!(phone.kind, PhoneKind::Mobile))
}

impl Step {
    /// What it says of an event.
    pub(super) fn content(
        &self,
        place: usize,
        texts: &Environment<'_>,
        channel: Channel,
        event: &Event,
        outlet: &str,
        links: &Links,
    ) -> Result<Content, String> {
        let made = |name: &str| {
            render(texts, &format!("{place}/{name}"), event, outlet, links)
                .map(|text| text.trim().to_owned())
                .map_err(|error| error.to_string())
        };
        let StepDoc { template, subject, html, .. } = &self.doc;
        let text = if self.has_text { made("text")? } else { String::new() };
        if text.is_empty() && template.is_none() {
            return Err("it is empty".to_owned());
        }
        let template = match template {
            Some(template) => Some(self.template(template, made)?),
            None => None,
        };
        let subject = match subject {
            Some(_) => Some(made("subject")?),
            // No mail goes without a subject.
            None => (channel == Channel::Email).then(|| outlet.to_owned()),
        };
        let html = html.as_ref().map(|_| made("html.html")).transpose()?;
        let subject = subject.filter(|subject| !subject.is_empty());
        let holds = |url: &String| text.contains(url.as_str()) || html.as_ref().is_some_and(|html| html.contains(url.as_str()));
        let unsubscribe_url = links.unsubscribe.clone().filter(holds);
        Ok(Content { text, template, subject, html, unsubscribe_url, ..Content::default() })
    }

    fn template(&self, doc: &TemplateDoc, made: impl Fn(&str) -> Result<String, String>) -> Result<Template, String> {
        let mut parameters = Vec::new();
        for number in 0..doc.parameters.len() {
            let text = made(&format!("parameter/{number}"))?;
            if text.is_empty() {
                return Err(format!("parameter {} of its template is empty", number + 1));
            }
            parameters.push(json!({ "type": "text", "text": text }));
        }
        let body = (!parameters.is_empty()).then(|| json!({ "type": "body", "parameters": parameters }));
        Ok(Template { name: doc.name.clone(), language: doc.language.clone(), components: body.into_iter().collect() })
    }
}
