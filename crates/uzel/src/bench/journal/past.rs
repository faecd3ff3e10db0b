//! Entries of many months, made of one that a hub has just taken: what its connector and its flow made of that stands in each of
//! them, under another number, phone and time.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use uzel_model::{Bytes, Event, Id, Job, Request, Timestamp, id::Kind};
use uzel_store::{Command, CommandState, Contact, Entry, Exchange, Past, Settlement, Source, Text};

use crate::bench::driven::Driven;

/// One entry in so many leads to a text.
const TEXT_EVERY: u64 = 4;
/// One in so many cannot be read.
const DEAD_EVERY: u64 = 1_000;
/// One in so many of some weeks in the middle is of the merchant that is seldom heard of.
const SELDOM_EVERY: u64 = 10_000;
/// One in so many has a text that was put off; they are the newest.
const WAITING_EVERY: u64 = 100;
const WAITING_MAX: u64 = 100_000;
/// So often each guest comes.
const ENTRIES_A_GUEST: u64 = 10;

/// The entry that all others are made of.
pub(super) const NUMBER: u64 = 111_119_876_543;

/// An order of 200 bytes.
pub(super) fn order(number: &str, phone: &str) -> String {
    let order = json!({ "order": {
        "id": number, "status": "Completed", "customer": { "name": "Guest", "phone": format!("+7999{phone}") }, "comment": "x".repeat(73)
    } });
    order.to_string()
}

/// How many there are, and from when to when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) rows: u64,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl Span {
    fn at_ms(&self, number: u64) -> i64 {
        let (from, to) = (self.from.as_millisecond(), self.to.as_millisecond());
        from + ((to - from) as i128 * i128::from(number) / i128::from(self.rows)) as i64
    }

    fn phone(&self, number: u64) -> u64 {
        number % (self.rows / ENTRIES_A_GUEST).clamp(1, 10_000_000)
    }

    fn is_seldom(&self, number: u64) -> bool {
        // Beyond what retention may take, and yet with many weeks after them.
        (self.rows / 2..self.rows / 8 * 5).contains(&number) && number % SELDOM_EVERY == 7
    }

    fn is_dead(number: u64) -> bool {
        number % DEAD_EVERY == 9
    }

    /// Whether its text was put off.
    fn waits(&self, number: u64) -> bool {
        number >= self.rows - (self.rows / WAITING_EVERY).min(WAITING_MAX) * TEXT_EVERY
    }

    /// Whether an entry led to a text that went.
    fn was_sent(&self, number: u64) -> bool {
        number.is_multiple_of(TEXT_EVERY) && !self.waits(number) && !self.is_seldom(number)
    }

    /// What the entry nearest to a place of the newer half is found by: its phone, its order's number, its text's id.
    pub(super) fn found_by(&self, place: u64) -> (String, String, String) {
        let number = (self.rows / 2 + place % (self.rows / 3)) / TEXT_EVERY * TEXT_EVERY;
        let number = if self.was_sent(number) { number } else { number - TEXT_EVERY };
        let phone = format!("{:07}", self.phone(number));
        (format!("+7999{phone}"), format!("{number:012}"), provider_id(number))
    }
}

fn provider_id(number: u64) -> String {
    format!("202600-{number:012}")
}

/// A text in which a number and a phone change.
struct Form(Vec<Piece>);

enum Piece {
    Fixed(String),
    Number,
    Phone,
}

impl Form {
    fn new(text: &str) -> Self {
        let number = format!("{NUMBER:012}");
        let phone = &number[5..];
        let mut pieces = Vec::new();
        for (place, part) in text.split(&number).enumerate() {
            if place > 0 {
                pieces.push(Piece::Number);
            }
            for (place, part) in part.split(phone).enumerate() {
                if place > 0 {
                    pieces.push(Piece::Phone);
                }
                pieces.push(Piece::Fixed(part.to_owned()));
            }
        }
        Self(pieces)
    }

    fn fill(&self, number: &str, phone: &str) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Fixed(text) => text.as_str(),
            Piece::Number => number,
            Piece::Phone => phone,
        });
        pieces.collect()
    }
}

/// What all entries have from the one they are made of.
pub(super) struct Template {
    entry: Entry,
    event: Form,
    job: Form,
    flow: Id,
    exchange: Exchange,
    request: Form,
    response: Form,
    reason: Option<String>,
    /// Merchant and connection that are seldom heard of.
    seldom: (Id, Id),
    span: Span,
}

impl Template {
    /// Of the timeline of entry [`NUMBER`] at this hub.
    pub(super) async fn read(hub: &Driven, span: Span) -> anyhow::Result<Self> {
        let rows = hub.get(&format!("/api/v1/journal?order={NUMBER:012}&limit=10")).await?;
        let incoming = rows.as_array().into_iter().flatten().find(|row| row["direction"] == "IN").context("the first entry")?;
        let id = incoming["id"].as_str().context("the first entry's id")?;
        let timeline = hub.get(&format!("/api/v1/journal/{id}?unmasked=true")).await?;
        let connections = hub.get("/api/v1/connections").await?;
        let seldom = connections.as_array().into_iter().flatten().find(|link| link["merchant_slug"] == "seldom");
        let seldom = seldom.context("the connection that is seldom heard of")?;
        let (event, command) = (&timeline["events"][0], &timeline["commands"][0]);
        ensure!(event.is_object() && command["state"] == "done", "the first entry led to no text: {timeline}");
        let exchange = &command["exchanges"][0];
        let headers: Vec<(String, String)> = serde_json::from_value(timeline["headers"].clone())?;
        let target = text(&timeline["target"])?;
        let (merchant, link) = (id_of(&timeline["merchant"])?, id_of(&timeline["connection"])?);
        let entry = Entry {
            id: id_of(&timeline["entry"])?,
            merchant,
            connection: link,
            provider: text(&timeline["provider"])?,
            request: Request {
                method: text(&timeline["method"])?,
                path: target.split('?').next().unwrap_or_default().to_owned(),
                query: Vec::new(),
                headers,
                body: Bytes::new(),
                received_at: span.from,
                peer: Some(std::net::Ipv4Addr::LOCALHOST.into()),
                key: timeline["proof"].as_str().map(str::to_owned),
            },
            answer: text(&timeline["answer"])?,
            source: Source::Webhook,
            trace: String::new(),
        };
        Ok(Self {
            entry,
            event: Form::new(&event.to_string()),
            job: Form::new(&command["job"].to_string()),
            flow: id_of(&command["flow"])?,
            request: Form::new(&text(&exchange["request"])?),
            response: Form::new(&text(&exchange["response"])?),
            exchange: Exchange {
                id: id_of(&exchange["id"])?,
                merchant,
                connection: id_of(&command["connection"])?,
                provider: text(&exchange["provider"])?,
                at: span.from,
                endpoint: text(&exchange["endpoint"])?,
                request: String::new(),
                response: String::new(),
                error: None,
                duration_ms: exchange["duration_ms"].as_i64().unwrap_or_default(),
                trace: String::new(),
            },
            reason: command["reason"].as_str().map(str::to_owned),
            seldom: (id_of(&seldom["merchant"])?, id_of(&seldom["id"])?),
            span,
        })
    }

    /// The entry of this number, with all that followed.
    pub(super) fn past(&self, number: u64) -> anyhow::Result<Past> {
        let (digits, phone) = (format!("{number:012}"), format!("{:07}", self.span.phone(number)));
        let at_ms = self.span.at_ms(number);
        let at = Timestamp::from_millisecond(at_ms)?;
        let id = |kind, place| id(kind, at_ms, place, number);
        let mut entry = Entry { id: id(Kind::Entry, 1), trace: format!("{:032x}", number + 1), ..self.entry.clone() };
        entry.request.received_at = at;
        if self.span.is_seldom(number) {
            (entry.merchant, entry.connection) = self.seldom;
        }
        if Span::is_dead(number) {
            entry.request.body = Bytes::from(format!("<order {digits}>"));
            return Ok(Past { entry, event: None, text: None });
        }
        entry.request.body = Bytes::from(order(&digits, &phone));
        let mut event: Event = serde_json::from_str(&self.event.fill(&digits, &phone))?;
        (event.id, event.entry, event.at, event.trace) = (id(Kind::Event, 2), entry.id, at, entry.trace.clone());
        (event.merchant, event.connection) = (entry.merchant, entry.connection);
        let texts = number.is_multiple_of(TEXT_EVERY) && !self.span.is_seldom(number);
        let text = if texts {
            Some(self.text(&event, (&digits, &phone), number, id(Kind::Command, 3), id(Kind::Attempt, 4))?)
        } else {
            None
        };
        Ok(Past { entry, event: Some(event), text })
    }

    fn text(&self, event: &Event, (digits, phone): (&str, &str), number: u64, command: Id, attempt: Id) -> anyhow::Result<Text> {
        let job: Job = serde_json::from_str(&self.job.fill(digits, phone))?;
        let done = !self.span.waits(number);
        let exchange = Exchange {
            id: attempt,
            at: event.at,
            request: self.request.fill(digits, phone),
            response: if done { self.response.fill(digits, phone) } else { String::new() },
            error: (!done).then(|| "unreachable: connection refused".to_owned()),
            trace: event.trace.clone(),
            ..self.exchange.clone()
        };
        let provider_id = done.then(|| provider_id(number));
        let via = exchange.connection;
        let day = jiff::SignedDuration::from_hours(24);
        Ok(Text {
            ordering_key: format!("{via}/+7999{phone}"),
            command: Command {
                id: command,
                merchant: event.merchant,
                connection: via,
                flow: Some(self.flow),
                event: Some(event.id),
                job,
                due_at: event.at,
                latest_at: event.at.checked_add(day * 3_650).ok(),
                source: event.connection,
                attempts: 0,
                contact: Contact::default(),
                lease: 0,
                trace: event.trace.clone(),
            },
            settlement: Settlement {
                command,
                lease: 0,
                state: if done { CommandState::Done } else { CommandState::Waiting },
                // Beyond any run of the benchmark.
                retry_at: if done { None } else { self.span.to.checked_add(day * 300).ok() },
                reason: if done { self.reason.clone() } else { Some("unreachable: connection refused".to_owned()) },
                refs: provider_id.iter().cloned().collect(),
                provider_id,
                exchanges: vec![exchange],
                counts: true,
                frees_slot: false,
            },
        })
    }
}

fn text(value: &Value) -> anyhow::Result<String> {
    Ok(value.as_str().with_context(|| format!("a text was expected, not {value}"))?.to_owned())
}

fn id_of(value: &Value) -> anyhow::Result<Id> {
    serde_json::from_value(value.clone()).with_context(|| format!("an id was expected, not {value}"))
}

/// An id of that moment.
fn id(kind: Kind, at_ms: i64, place: u128, number: u64) -> Id {
    let value = u128::from(at_ms.unsigned_abs()) << 80 | 0x7 << 76 | place << 64 | 0x8 << 60 | u128::from(number);
    Id::from_bytes(kind, value.to_be_bytes())
}
