//! `uzel recipients`: who gets notices, and how they are reached.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::{ask::Asker, say};

#[derive(Debug, Subcommand)]
pub(super) enum RecipientsCommand {
    List {
        #[arg(long)]
        merchant: Option<String>,
    },
    Show {
        recipient: String,
    },
    /// Add one of a merchant's people.
    Add {
        #[arg(long)]
        merchant: String,
        /// Unique name of a-z, 0-9 and -.
        slug: String,
        /// As people call them.
        #[arg(long)]
        name: Option<String>,
        /// ru, uz or en; by default the merchant's.
        #[arg(long)]
        language: Option<String>,
        /// Time zone by name; by default that of their first outlet.
        #[arg(long)]
        zone: Option<String>,
        /// At which hour of their day a digest comes.
        #[arg(long)]
        digest_hour: Option<u8>,
        /// What they get: notices, comments, digest_day, digest_week. By default notices and comments.
        #[arg(long, value_delimiter = ',')]
        wants: Vec<String>,
        /// Slugs of the outlets that they hear of; by default all.
        #[arg(long, value_delimiter = ',')]
        outlets: Vec<String>,
        /// How they are reached, the best way first: a connection's slug alone (bot: its chat is bound by `uzel recipients
        /// link`), or with a phone or an e-mail address (mail=anna@example.com). May be given several times.
        #[arg(long = "address", required = true)]
        addresses: Vec<String>,
    },
    /// Make a link that binds a chat to a recipient; it is shown once, and good once and for a day.
    Link {
        recipient: String,
        /// The connection whose chat is bound; by default the first of the addresses whose chats are bound so.
        #[arg(long)]
        via: Option<String>,
    },
    /// Take a recipient away.
    Remove {
        recipient: String,
    },
}

pub(super) async fn run(asker: &Asker, what: &RecipientsCommand, as_json: bool) -> anyhow::Result<ExitCode> {
    let of = |recipient: &str, verb: &str| format!("/api/v1/recipients/{recipient}{verb}");
    let (answer, text) = match what {
        RecipientsCommand::List { merchant } => {
            let given: Vec<(&str, &String)> = merchant.iter().map(|merchant| ("merchant", merchant)).collect();
            let answer = asker.list(&format!("/api/v1/recipients?{}", serde_urlencoded::to_string(given)?)).await?;
            let text = list(&answer);
            (answer, text)
        }
        RecipientsCommand::Show { recipient } => {
            let answer = asker.get(&of(recipient, "")).await?;
            let text = serde_json::to_string_pretty(&answer)?;
            (answer, text)
        }
        RecipientsCommand::Add { addresses, .. } => {
            let ways: Vec<Value> = addresses.iter().map(|way| address(way)).collect();
            let answer = asker.post("/api/v1/recipients", &part(what, ways)).await?;
            let text = format!("{}  {}", word(&answer, "id"), word(&answer, "slug"));
            (answer, text)
        }
        RecipientsCommand::Link { recipient, via } => {
            let answer = asker.post(&of(recipient, "/link"), &json!({ "via": via })).await?;
            let text = format!("{}\ngood once, until {}", word(&answer, "url"), word(&answer, "until"));
            (answer, text)
        }
        RecipientsCommand::Remove { recipient } => (asker.delete(&of(recipient, "")).await?, "removed".to_owned()),
    };
    say(&if as_json { serde_json::to_string_pretty(&answer)? } else { text })?;
    Ok(ExitCode::SUCCESS)
}

/// `mail=anna@example.com` or `bot`.
fn address(way: &str) -> Value {
    match way.split_once('=') {
        Some((via, to)) => json!({ "via": via, "to": to }),
        None => json!({ "via": way }),
    }
}

fn part(what: &RecipientsCommand, addresses: Vec<Value>) -> Value {
    let RecipientsCommand::Add { merchant, slug, name, language, zone, digest_hour, wants, outlets, .. } = what else {
        return Value::Null;
    };
    let mut part = Map::new();
    part.insert("merchant".to_owned(), json!(merchant));
    part.insert("slug".to_owned(), json!(slug));
    part.insert("addresses".to_owned(), json!(addresses));
    let optional = [("name", name), ("language", language), ("zone", zone)];
    part.extend(optional.into_iter().filter_map(|(field, value)| Some((field.to_owned(), json!(value.as_ref()?)))));
    part.extend(digest_hour.map(|hour| ("digest_hour".to_owned(), json!(hour))));
    let lists = [("wants", wants), ("outlets", outlets)].into_iter().filter(|(_, list)| !list.is_empty());
    part.extend(lists.map(|(field, list)| (field.to_owned(), json!(list))));
    Value::Object(part)
}

fn word(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

fn list(answer: &Value) -> String {
    let mut lines = vec![format!("{:<31}{:<16}{:<16}{:<40}{}", "ID", "MERCHANT", "RECIPIENT", "GETS", "REACHED BY")];
    let words = |row: &Value, name: &str| -> Vec<String> {
        row[name].as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    for row in answer.as_array().into_iter().flatten() {
        let mut ways: Vec<String> = Vec::new();
        for way in row["addresses"].as_array().into_iter().flatten() {
            let via = word(way, "via");
            let bound = row["bound"].as_array().into_iter().flatten().filter(|bound| bound["via"] == way["via"]).count();
            ways.push(match way["to"].as_str() {
                Some(to) => format!("{via}={to}"),
                None if bound == 0 => format!("{via} (nothing bound)"),
                None => format!("{via} ({bound} bound)"),
            });
        }
        let (id, merchant, slug) = (word(row, "id"), word(row, "merchant_slug"), word(row, "slug"));
        lines.push(format!("{id:<31}{merchant:<16}{slug:<16}{:<40}{}", words(row, "wants").join(","), ways.join(", ")));
    }
    lines.join("\n")
}
