//! Codes by which people prove that a phone or a mailbox is theirs: one call to send, one to check.
//!
//! A code is kept as a keyed hash, bound to its id, merchant, purpose and address. In the command that sends it, it lies sealed, and
//! the text has [`HIDDEN`] in its place: so has everything that the journal keeps. Whoever gets a code has asked for it: neither an
//! opt-out nor quiet hours hold it back, and after its end it does not go.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{
    CallError, Channel, Content, Id, Refusal,
    check::Fault,
    id::Kind,
    message::{HIDDEN, Template, replaced},
    signature,
    words::Language,
};
use uzel_store::{Change, CodeLimit, Command, NewCode, StoreError};

use crate::{
    Engine, Holder, Link, Merchant,
    command::{self, Message},
    sender::{self, NoSender, Wish},
    vault::Place,
};

mod words;

/// How long a code is good.
pub const LIFE: SignedDuration = SignedDuration::from_mins(10);
/// Checks of one code.
pub const TRIES_MAX: u32 = 5;
const DIGITS: usize = 6;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// What one address and one merchant may have.
const LIMITS: [CodeLimit; 3] = [
    CodeLimit { per_address: true, codes: 1, period: SignedDuration::from_mins(1) },
    CodeLimit { per_address: true, codes: 5, period: HOUR },
    CodeLimit { per_address: false, codes: 1_000, period: HOUR },
];
const PURPOSE_BYTES_MAX: usize = 40;
const PLACES: [&str; 2] = ["{{ code }}", "{{code}}"];

/// A code that somebody is to get.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "merchant": "cafe", "to": "+79991234567", "purpose": "login" }))]
pub struct CodeRequest {
    /// By id or slug.
    pub merchant: String,
    /// A phone or an e-mail address.
    pub to: String,
    /// `sms`, `whatsapp` or `email`; without it `email` for an e-mail address, else `sms`.
    #[serde(default)]
    pub channel: Option<Channel>,
    /// The connection that sends, by id or slug; without it the merchant's first of the channel.
    #[serde(default)]
    pub connection: Option<String>,
    /// Only by this provider.
    #[serde(default)]
    pub provider: Option<String>,
    /// What it is for: whoever checks must name the same. `a-z`, digits, `_` and `-`.
    #[serde(default = "login")]
    pub purpose: String,
    /// Of the hub's own words; without it the merchant's.
    #[serde(default)]
    pub language: Option<Language>,
    /// Words of your own, with `{{ code }}` where the code belongs.
    #[serde(default)]
    pub text: Option<String>,
    /// The subject of an e-mail; codes do not belong there.
    #[serde(default)]
    pub subject: Option<String>,
    /// A message that the provider has approved (WhatsApp), with `{{ code }}` in its components.
    #[serde(default)]
    pub template: Option<Template>,
}

fn login() -> String {
    "login".to_owned()
}

/// A code is on its way. What it is stands nowhere.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CodeSent {
    /// Stands for the code when it is checked.
    pub id: Id,
    /// The command that sends it.
    pub command: Id,
    /// By which it goes.
    pub channel: Channel,
    /// After this it is good no more.
    pub ends_at: Timestamp,
    /// It was printed by a hub in development, and not sent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dev: bool,
}

/// Why no code was sent.
#[derive(Debug, Clone)]
pub enum CodeRefused {
    Invalid(Vec<Fault>),
    /// No channel is configured by which it could go to a person.
    NoChannel(String),
    /// Too many were asked for; the moment when there may be one more.
    TooMany(Timestamp),
    Store(StoreError),
}

impl From<StoreError> for CodeRefused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a person typed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "id": "cod_01jd9x5zp4e1fsr0m3v5w8q2tn", "code": "123456", "purpose": "login", "to": "+79991234567" }))]
pub struct CodeCheck {
    /// As it was answered when the code was sent.
    pub id: Id,
    /// As the person typed it.
    pub code: String,
    /// The same as when it was sent.
    #[serde(default = "login")]
    pub purpose: String,
    /// The phone or e-mail address that is to be proved: another than the code went to is wrong.
    #[serde(default)]
    pub to: Option<String>,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum CodeChecked {
    /// It is right, and used up by this.
    Ok,
    /// It is another one, for another purpose, or went to somebody else.
    Wrong {
        /// How many checks are left.
        tries_left: u32,
    },
    /// It was used, its time is over, or all its checks were: send another.
    Ended,
}

impl Engine {
    /// Makes a code and queues the message that brings it.
    pub async fn send_code(&self, holder: &Holder, request: CodeRequest) -> Result<CodeSent, CodeRefused> {
        let now = self.clock.now();
        let world = self.world();
        let mut faults = Vec::new();
        let merchant = world.merchant(&request.merchant).filter(|merchant| holder.merchant.is_none_or(|own| own == *merchant));
        let known = merchant.and_then(|id| world.merchants.get(&id).map(|(_, merchant)| (id, merchant)));
        if known.is_none() {
            faults.push(Fault::new("/merchant", format!("no merchant `{}`", request.merchant)));
        }
        faults.extend(purpose_fault(&request.purpose));
        let channel = request.channel.unwrap_or(if request.to.contains('@') { Channel::Email } else { Channel::Sms });
        if !matches!(channel, Channel::Sms | Channel::Whatsapp | Channel::Email) {
            faults.push(Fault::new("/channel", "codes go by `sms`, `whatsapp` or `email`"));
        }
        faults.extend(place_faults(&request));
        let Some((merchant, about)) = known else { return Err(CodeRefused::Invalid(faults)) };
        let to = sender::receiver(&request.to, channel, &about.country).map_err(|fault| faults.push(fault)).ok();
        let wish = Wish {
            connection: request.connection.as_deref(),
            via: None,
            channel: Some(channel),
            provider: request.provider.as_deref(),
        };
        let link = match sender::sender(&world, self.providers, merchant, wish) {
            Ok(link) => Some(link),
            Err(NoSender::Fault(fault)) => {
                faults.push(fault);
                None
            }
            Err(NoSender::NotConfigured(fault)) if faults.is_empty() => return Err(CodeRefused::NoChannel(fault.detail)),
            Err(NoSender::NotConfigured(_)) => None,
        };
        let (Some(to), Some(link), true) = (to, link, faults.is_empty()) else { return Err(CodeRefused::Invalid(faults)) };
        let dev = !sender::reaches_people(link);
        if dev && !self.options.print_texts {
            let why = format!("`{}` stands for a provider and sends nothing: no code goes by it", link.slug);
            return Err(CodeRefused::NoChannel(why));
        }

        let id = Id::new(Kind::Code);
        let ends_at = now + LIFE;
        let to_hash = self.to_hash(merchant, &to.key());
        let code = format!("{:0DIGITS$}", rand::random_range(0..10_u32.pow(DIGITS as u32)));
        let hash = self.code_hash(id, merchant, &request.purpose, to_hash, &code);
        let content = self.code_content(link, about, channel, request, &code);
        let message = Message { to, content, consent: false, due_at: now, latest_at: ends_at };
        let queued = command::queued(link, message, None);
        let command = queued.command.id;
        let new = NewCode { id, merchant, to: to_hash, hash, made_at: now, ends_at };
        if let Some(at) = self.store.put_code(new, LIMITS.to_vec()).await? {
            return Err(CodeRefused::TooMany(at));
        }
        self.store.apply(Change { commands: vec![queued], now: Some(now), ..Change::default() }).await?;
        self.due.notify_one();
        Ok(CodeSent { id, command, channel, ends_at, dev })
    }

    /// Checks what a person typed. Each check counts, also a wrong one; of many at once no more than there are tries.
    pub async fn check_code(&self, holder: &Holder, check: CodeCheck) -> Result<CodeChecked, CodeRefused> {
        if let Some(fault) = purpose_fault(&check.purpose) {
            return Err(CodeRefused::Invalid(vec![fault]));
        }
        if check.id.kind() != Kind::Code {
            return Err(CodeRefused::Invalid(vec![Fault::new("/id", "is no id of a code")]));
        }
        let tried = self.store.try_code(check.id, self.clock.now(), TRIES_MAX).await?;
        let tried = tried.filter(|tried| holder.merchant.is_none_or(|own| own == tried.merchant));
        let Some(tried) = tried else { return Ok(CodeChecked::Ended) };
        let code: String = check.code.chars().filter(|sign| !sign.is_whitespace() && *sign != '-').collect();
        let hash = self.code_hash(check.id, tried.merchant, &check.purpose, tried.to, &code);
        let is_right = signature::equal_bytes(&hash, &tried.hash);
        let is_theirs = check.to.as_deref().is_none_or(|to| self.went_to(tried.merchant, to, tried.to));
        if !(is_right && is_theirs) {
            return Ok(match tried.left {
                0 => CodeChecked::Ended,
                tries_left => CodeChecked::Wrong { tries_left },
            });
        }
        // Of two who type it at once one is let in.
        Ok(if self.store.spend_code(check.id).await? { CodeChecked::Ok } else { CodeChecked::Ended })
    }

    /// Whether this is whom a code went to, by phone or by e-mail.
    fn went_to(&self, merchant: Id, to: &str, hash: [u8; 16]) -> bool {
        let world = self.world();
        let country = world.merchants.get(&merchant).map_or("RU", |(_, merchant)| merchant.country.as_str());
        [Channel::Sms, Channel::Email].into_iter().any(|channel| {
            let address = sender::receiver(to, channel, country);
            address.is_ok_and(|address| signature::equal_bytes(&self.to_hash(merchant, &address.key()), &hash))
        })
    }

    fn to_hash(&self, merchant: Id, key: &str) -> [u8; 16] {
        let whole = self.vault.key_hash("code-address", &format!("{merchant}\n{key}"));
        std::array::from_fn(|place| whole[place])
    }

    fn code_hash(&self, id: Id, merchant: Id, purpose: &str, to: [u8; 16], code: &str) -> Vec<u8> {
        self.vault.key_hash("code", &format!("{id}\n{merchant}\n{purpose}\n{}\n{code}", hex::encode(to)))
    }

    /// What the message says, the code hidden in it.
    fn code_content(&self, link: &Link, merchant: &Merchant, channel: Channel, request: CodeRequest, code: &str) -> Content {
        let language = request.language.or_else(|| merchant.language.parse().ok()).unwrap_or(Language::Ru);
        let own = request.text.map(|text| hidden(&text));
        let built_in = words::content(&merchant.name, language, channel);
        let mut content = match own {
            Some(text) => Content { subject: built_in.subject, ..Content::text(text) },
            None if request.template.is_some() => Content::text(built_in.text),
            None => built_in,
        };
        if channel == Channel::Email {
            content.subject = request.subject.or(content.subject);
        }
        content.template = request
            .template
            .map(|template| Template { components: template.components.iter().map(hidden_in).collect(), ..template });
        let place = Place { merchant: link.merchant, connection: link.id, field: "code" };
        content.code = Some(STANDARD.encode(self.vault.seal_at(place, code.as_bytes())));
        content
    }
}

fn hidden(text: &str) -> String {
    PLACES.iter().fold(text.to_owned(), |text, place| text.replace(place, HIDDEN))
}

fn hidden_in(part: &serde_json::Value) -> serde_json::Value {
    PLACES.iter().fold(part.clone(), |part, place| replaced(&part, place, HIDDEN))
}

fn purpose_fault(purpose: &str) -> Option<Fault> {
    let well = (1..=PURPOSE_BYTES_MAX).contains(&purpose.len())
        && purpose.bytes().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || b"_-".contains(&sign));
    (!well).then(|| Fault::new("/purpose", format!("must have 1 to {PURPOSE_BYTES_MAX} of `a-z`, digits, `_` and `-`")))
}

/// Words of the caller's own must say where the code stands, and stand where the channel takes them.
fn place_faults(request: &CodeRequest) -> Vec<Fault> {
    let has = |text: &str| PLACES.iter().any(|place| text.contains(place));
    let mut faults = Vec::new();
    if let Some(text) = request.text.as_deref() {
        if !has(text) {
            faults.push(Fault::new("/text", "must say where the code stands: `{{ code }}`"));
        } else if text.len() > command::TEXT_BYTES_MAX {
            faults.push(Fault::new("/text", format!("may have {} bytes at the most", command::TEXT_BYTES_MAX)));
        }
    }
    if let Some(template) = &request.template {
        if request.channel != Some(Channel::Whatsapp) {
            faults.push(Fault::new("/template", "goes by `whatsapp` only"));
        }
        faults.extend(command::template_faults(template));
        if !template.components.iter().any(|part| has(&part.to_string())) {
            faults.push(Fault::new("/template/components", "must say where the code stands: `{{ code }}`"));
        }
    }
    faults.extend(request.subject.as_deref().and_then(command::subject_fault));
    faults
}

/// What is sent: the code in its places.
pub(crate) fn opened<'a>(
    engine: &Engine,
    command: &Command,
    content: &'a Content,
) -> Result<(Cow<'a, Content>, Option<String>), CallError> {
    let Some(sealed) = &content.code else { return Ok((Cow::Borrowed(content), None)) };
    let place = Place { merchant: command.merchant, connection: command.connection, field: "code" };
    let plain = STANDARD.decode(sealed).ok().and_then(|sealed| engine.vault.open_at(place, &sealed).ok());
    let code = plain.and_then(|plain| String::from_utf8(plain.to_vec()).ok());
    let code = code.ok_or_else(|| CallError::refused(Refusal::Ours, "code", "the code cannot be opened: ask for another"))?;
    Ok((Cow::Owned(content.with_code(&code)), Some(code)))
}

/// A provider's words may repeat what it was sent.
pub(crate) fn without(error: CallError, code: &str) -> CallError {
    let hide = |text: String| text.replace(code, HIDDEN);
    match error {
        CallError::Unreachable(why) => CallError::Unreachable(hide(why)),
        CallError::Later { reason, at } => CallError::Later { reason: hide(reason), at },
        CallError::Lost(why) => CallError::Lost(hide(why)),
        CallError::Unauthorized(why) => CallError::Unauthorized(hide(why)),
        CallError::Refused { refusal, code, reason } => CallError::Refused { refusal, code, reason: hide(reason) },
        CallError::Unreadable(why) => CallError::Unreadable(hide(why)),
    }
}
