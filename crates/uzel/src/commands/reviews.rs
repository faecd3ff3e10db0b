//! `uzel reviews`, `uzel opt-outs` and `uzel consents`: what guests thought, and what they said about messages.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{ask::Asker, say};

#[derive(Debug, Subcommand)]
pub(super) enum ReviewsCommand {
    /// The newest reviews.
    List {
        #[arg(long)]
        merchant: Option<String>,
        #[arg(long)]
        outlet: Option<String>,
        /// The connection that told of the visit.
        #[arg(long)]
        source: Option<String>,
        #[arg(long)]
        stars: Option<u8>,
        /// new or answered.
        #[arg(long)]
        state: Option<String>,
        /// Only older than this review.
        #[arg(long)]
        before: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Phones and texts whole.
        #[arg(long)]
        unmasked: bool,
    },
    Show {
        id: String,
        /// Phones and texts whole.
        #[arg(long)]
        unmasked: bool,
    },
    /// Answer a review: the guest gets it by the channel that they were asked by.
    Answer { id: String, text: String },
    /// How many requests were sent and opened, and what came of them.
    Stats {
        merchant: String,
        /// Requests made from this day on (2026-11-24).
        #[arg(long)]
        from: Option<String>,
        /// Requests made until this day, which is included.
        #[arg(long)]
        to: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum OptOutsCommand {
    /// Take a stop list over: a CSV file in UTF-8, one phone or e-mail address a line.
    Import {
        #[arg(long)]
        merchant: String,
        file: PathBuf,
        /// Only tell what would become of each line.
        #[arg(long)]
        dry_run: bool,
    },
    /// Everybody who wants no messages, as such a file.
    Export {
        #[arg(long)]
        merchant: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConsentsCommand {
    /// What a person said about messages, with the proof of each word.
    Show {
        #[arg(long)]
        merchant: String,
        /// A phone or an e-mail address.
        address: String,
    },
}

/// A path with those of the pairs that are given.
fn with(path: &str, pairs: &[(&str, Option<String>)]) -> anyhow::Result<String> {
    let given: Vec<(&str, &String)> = pairs.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
    Ok(format!("{path}?{}", serde_urlencoded::to_string(given)?))
}

pub(super) async fn reviews(asker: &Asker, what: &ReviewsCommand, as_json: bool) -> anyhow::Result<ExitCode> {
    let (answer, text) = match what {
        ReviewsCommand::List { merchant, outlet, source, stars, state, before, limit, unmasked } => {
            let pairs = [
                ("merchant", merchant.clone()),
                ("outlet", outlet.clone()),
                ("source", source.clone()),
                ("stars", stars.map(|stars| stars.to_string())),
                ("state", state.clone()),
                ("before", before.clone()),
                ("limit", Some(limit.to_string())),
                ("unmasked", Some(unmasked.to_string())),
            ];
            let answer = asker.list(&with("/api/v1/reviews", &pairs)?).await?;
            let rows: Vec<String> = answer.as_array().into_iter().flatten().map(row).collect();
            (answer, rows.join("\n"))
        }
        ReviewsCommand::Show { id, unmasked } => {
            let answer = asker.get(&format!("/api/v1/reviews/{id}?unmasked={unmasked}")).await?;
            let text = row(&answer);
            (answer, text)
        }
        ReviewsCommand::Answer { id, text } => {
            let answer = asker.post(&format!("/api/v1/reviews/{id}/answer"), &json!({ "text": text })).await?;
            let text = format!("queued as {}", answer["answer"]["command"].as_str().unwrap_or_default());
            (answer, text)
        }
        ReviewsCommand::Stats { merchant, from, to } => {
            let pairs = [("from", from.clone()), ("to", to.clone())];
            let answer = asker.get(&with(&format!("/api/v1/merchants/{merchant}/reviews/stats"), &pairs)?).await?;
            let text = stats(&answer);
            (answer, text)
        }
    };
    say(&if as_json { serde_json::to_string_pretty(&answer)? } else { text })?;
    Ok(ExitCode::SUCCESS)
}

fn word<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

fn row(review: &Value) -> String {
    let stars = review["stars"].as_u64().unwrap_or_default() as usize;
    let mut lines = vec![format!(
        "{}  {}{}  {:<9}{:<9}{}  {}",
        word(review, "left_at"),
        "★".repeat(stars),
        "☆".repeat(5_usize.saturating_sub(stars)),
        word(review, "state"),
        word(review, "channel"),
        word(review, "id"),
        word(review, "to"),
    )];
    lines.extend(review["comment"].as_str().map(|comment| format!("    {}", comment.replace('\n', "\n    "))));
    lines.extend(review["answer"]["text"].as_str().map(|text| format!("    > {}", text.replace('\n', "\n    > "))));
    lines.join("\n")
}

fn stats(answer: &Value) -> String {
    let mut lines = vec![format!(
        "{:<16}{:<16}{:<10}{:>7}{:>8}{:>7}{:>9}{:>10}{:>7}{:>8}{:>8}",
        "OUTLET", "SOURCE", "CHANNEL", "SENT", "OPENED", "LEFT", "AVERAGE", "COMMENTS", "2GIS", "YANDEX", "GOOGLE"
    )];
    let line = |outlet: &str, source: &str, channel: &str, figures: &Value| {
        let clicks = &figures["clicks"];
        format!(
            "{outlet:<16}{source:<16}{channel:<10}{:>7}{:>8}{:>7}{:>9}{:>10}{:>7}{:>8}{:>8}",
            figures["sent"].to_string(),
            figures["opened"].to_string(),
            figures["left"].to_string(),
            figures["average"].as_str().unwrap_or("-"),
            figures["comments"].to_string(),
            clicks["dgis"].to_string(),
            clicks["yandex"].to_string(),
            clicks["google"].to_string(),
        )
    };
    for place in answer["places"].as_array().into_iter().flatten() {
        let source = place["source_slug"].as_str().or(place["source"].as_str()).unwrap_or_default();
        let outlet = place["outlet_slug"].as_str().or(place["outlet"].as_str()).unwrap_or("-");
        lines.push(line(outlet, source, word(place, "channel"), &place["figures"]));
    }
    lines.push(line("all", "", "", &answer["total"]));
    lines.join("\n")
}

pub(super) async fn opt_outs(asker: &Asker, what: &OptOutsCommand, as_json: bool) -> anyhow::Result<ExitCode> {
    match what {
        OptOutsCommand::Import { merchant, file, dry_run } => {
            let list = std::fs::read(file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
            let pairs = [("merchant", Some(merchant.clone())), ("dry_run", Some(dry_run.to_string()))];
            let answer = asker.post_csv(&with("/api/v1/opt-outs/import", &pairs)?, list).await?;
            say(&if as_json { serde_json::to_string_pretty(&answer)? } else { imported(&answer) })?;
            Ok(if answer["faulty"] == json!(0) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        OptOutsCommand::Export { merchant } => {
            let mut all = Vec::new();
            let mut after = None;
            loop {
                let pairs = [
                    ("merchant", Some(merchant.clone())),
                    ("unmasked", Some("true".to_owned())),
                    ("limit", Some("1000".to_owned())),
                    ("after", after),
                ];
                let page = asker.get(&with("/api/v1/opt-outs", &pairs)?).await?;
                all.extend(page["items"].as_array().cloned().unwrap_or_default());
                after = page["next"].as_str().map(str::to_owned);
                if after.is_none() {
                    break;
                }
            }
            say(&if as_json { serde_json::to_string_pretty(&all)? } else { exported(&all) })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn imported(answer: &Value) -> String {
    let lines = answer["lines"].as_array().into_iter().flatten().filter(|line| line["outcome"] != "added");
    let mut text: Vec<String> = lines
        .map(|line| {
            let why = line["why"].as_str().map_or_else(String::new, |why| format!(": {why}"));
            format!("line {}: {} {}{why}", line["line"], word(line, "outcome"), word(line, "address"))
        })
        .collect();
    let verb = if answer["dry_run"] == true { "would be added" } else { "added" };
    text.push(format!(
        "{} {verb}, {} known before, {} repeated, {} faulty",
        answer["added"], answer["known"], answer["repeated"], answer["faulty"]
    ));
    text.join("\n")
}

fn exported(all: &[Value]) -> String {
    let mut lines = vec!["address,channel,since".to_owned()];
    for row in all {
        let (address, since) = (word(row, "address"), word(row, "since"));
        let address =
            if address.contains([',', '"']) { format!("\"{}\"", address.replace('"', "\"\"")) } else { address.to_owned() };
        match row["channels"].as_array() {
            Some(channels) => {
                lines
                    .extend(channels.iter().map(|channel| format!("{address},{},{since}", channel.as_str().unwrap_or_default())));
            }
            None => lines.push(format!("{address},,{since}")),
        }
    }
    lines.join("\n")
}

pub(super) async fn consents(asker: &Asker, what: &ConsentsCommand, as_json: bool) -> anyhow::Result<ExitCode> {
    let ConsentsCommand::Show { merchant, address } = what;
    let pairs = [("merchant", Some(merchant.clone())), ("address", Some(address.clone()))];
    let answer = asker.get(&with("/api/v1/consents", &pairs)?).await?;
    let stands = match (&answer["opted_out"], &answer["consented"]) {
        (Value::Bool(true), _) => "wants no messages",
        (_, Value::Bool(true)) => "agrees to messages",
        _ => "has not agreed to all messages, nor refused all",
    };
    let mut lines = vec![format!("{} {stands}", word(&answer, "address"))];
    for said in answer["words"].as_array().into_iter().flatten() {
        let verb = if said["granted"] == true { "granted" } else { "revoked" };
        let channel = said["channel"].as_str().unwrap_or("all channels");
        lines.push(format!(
            "{}  {verb}  {channel}, {}  by {} ({}): {}",
            word(said, "at"),
            word(said, "purpose"),
            word(said, "how"),
            word(said, "by"),
            word(said, "text")
        ));
    }
    say(&if as_json { serde_json::to_string_pretty(&answer)? } else { lines.join("\n") })?;
    Ok(ExitCode::SUCCESS)
}
