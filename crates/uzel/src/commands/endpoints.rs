//! `uzel endpoints`: where webhooks go, what became of them, and what a person can do about it.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{ask::Asker, moment, say};

#[derive(Debug, Subcommand)]
pub(super) enum EndpointsCommand {
    List,
    Show {
        endpoint: String,
    },
    /// Send a test at once, and show what it answered.
    Test {
        endpoint: String,
        /// A type of event of which a sample is sent, for instance order.completed.
        #[arg(long = "type")]
        kind: Option<String>,
    },
    /// Queue again what never got there since this time (2026-11-24T00:00:00Z), or the beginning of this day in UTC.
    Recover {
        endpoint: String,
        #[arg(long, value_parser = moment::read)]
        since: String,
        /// Also what was delivered, and what came before the endpoint was set up.
        #[arg(long)]
        all: bool,
    },
    /// Make a new signing key, and show its secret this once. The older one signs beside it for a while.
    Rotate {
        endpoint: String,
        /// How long, in hours; 0: not at all.
        #[arg(long, default_value_t = 24)]
        overlap_h: u32,
    },
    /// Send to it again after it was disabled.
    Enable {
        endpoint: String,
    },
    /// Take it away, with its secrets.
    Remove {
        endpoint: String,
    },
}

pub(super) async fn run(asker: &Asker, what: &EndpointsCommand, as_json: bool) -> anyhow::Result<ExitCode> {
    let of = |endpoint: &str, verb: &str| format!("/api/v1/endpoints/{endpoint}{verb}");
    let (answer, text) = match what {
        EndpointsCommand::List => {
            let answer = asker.list("/api/v1/endpoints").await?;
            let text = list(&answer);
            (answer, text)
        }
        EndpointsCommand::Show { endpoint } => {
            let answer = asker.get(&of(endpoint, "")).await?;
            let text = serde_json::to_string_pretty(&answer)?;
            (answer, text)
        }
        EndpointsCommand::Test { endpoint, kind } => {
            let answer = asker.post(&of(endpoint, "/test"), &json!({ "type": kind })).await?;
            let text = tested(&answer);
            (answer, text)
        }
        EndpointsCommand::Recover { endpoint, since, all } => {
            let answer = asker.post(&of(endpoint, "/recover"), &json!({ "since": since, "all": all })).await?;
            let more = answer["more_since"]
                .as_str()
                .map_or(String::new(), |since| format!("; there is more: ask again with --since {since}"));
            let text = format!("{} of {} events queued again{more}", answer["queued"], answer["events"]);
            (answer, text)
        }
        EndpointsCommand::Rotate { endpoint, overlap_h } => {
            let answer = asker.post(&of(endpoint, "/rotate"), &json!({ "overlap_s": overlap_h.saturating_mul(3_600) })).await?;
            let word = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
            let text = format!("secret, shown this once: {}\npublic key: {}", word("secret"), word("public_key"));
            (answer, text)
        }
        EndpointsCommand::Enable { endpoint } => {
            let answer = asker.post(&of(endpoint, "/enable"), &json!({})).await?;
            (answer, "enabled; what was held back meanwhile goes with `uzel endpoints recover`".to_owned())
        }
        EndpointsCommand::Remove { endpoint } => (asker.delete(&of(endpoint, "")).await?, "removed".to_owned()),
    };
    say(&if as_json { serde_json::to_string_pretty(&answer)? } else { text })?;
    let ill = matches!(what, EndpointsCommand::Test { .. }) && answer["delivered"] != json!(true);
    Ok(if ill { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn list(answer: &Value) -> String {
    let word = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let mut lines = vec![format!("{:<31}{:<16}{:<16}{:<10}{}", "ID", "MERCHANT", "ENDPOINT", "STATE", "URL")];
    for row in answer.as_array().into_iter().flatten() {
        let state = match row {
            row if row["disabled"].is_object() => "disabled",
            row if row["paused"] == json!(true) => "paused",
            row if row["failing"].is_object() => "failing",
            _ => "well",
        };
        let (id, merchant, slug, url) = (word(row, "id"), word(row, "merchant_slug"), word(row, "slug"), word(row, "url"));
        lines.push(format!("{id:<31}{merchant:<16}{slug:<16}{state:<10}{url}"));
        let why = |what: &str, since: &str| {
            row[what].is_object().then(|| format!("    since {}: {}", word(&row[what], since), word(&row[what], "reason")))
        };
        lines.extend(why("disabled", "at").or_else(|| why("failing", "since")));
    }
    lines.join("\n")
}

fn tested(answer: &Value) -> String {
    let word = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let how =
        if answer["delivered"] == json!(true) { "delivered".to_owned() } else { format!("NOT delivered: {}", word("error")) };
    format!("{how}  {} ms  {}\n< {}", answer["duration_ms"], word("webhook_id"), word("answer"))
}
