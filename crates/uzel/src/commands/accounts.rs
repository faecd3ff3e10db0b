//! `connections account`, `connections stop-list` and `connections call-check`: the account at a provider.

use clap::Subcommand;
use serde_json::{Value, json};

use super::ask::Asker;

#[derive(Debug, Subcommand)]
pub(super) enum StopListCommand {
    /// Whom the provider writes to no more.
    List {
        connection: String,
        /// Phones whole.
        #[arg(long)]
        unmasked: bool,
    },
    /// Put a phone on it.
    Add {
        connection: String,
        phone: String,
        /// Why; it stands in the provider's list.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Take a phone off it.
    Remove { connection: String, phone: String },
    /// Take it over: whoever is on it gets no messages of the merchant by any connection.
    Import { connection: String },
}

#[derive(Debug, Subcommand)]
pub(super) enum CallCheckCommand {
    /// Begin; shows the number that the person is to call.
    Begin { connection: String, phone: String },
    /// Whether the call has come.
    Show { connection: String, check: String },
}

pub(super) async fn stop_list(asker: &Asker, what: &StopListCommand) -> anyhow::Result<Value> {
    let path = |connection: &str, rest: &str| format!("/api/v1/connections/{connection}/stop-list{rest}");
    match what {
        StopListCommand::List { connection, unmasked } => asker.list(&path(connection, &format!("?unmasked={unmasked}"))).await,
        StopListCommand::Add { connection, phone, note } => {
            asker.post(&path(connection, ""), &json!({ "phone": phone, "note": note })).await
        }
        StopListCommand::Remove { connection, phone } => {
            asker.post(&path(connection, "/remove"), &json!({ "phone": phone })).await
        }
        StopListCommand::Import { connection } => asker.post(&path(connection, "/import"), &json!({})).await,
    }
}

pub(super) async fn call_check(asker: &Asker, what: &CallCheckCommand) -> anyhow::Result<Value> {
    match what {
        CallCheckCommand::Begin { connection, phone } => {
            asker.post(&format!("/api/v1/connections/{connection}/call-checks"), &json!({ "phone": phone })).await
        }
        CallCheckCommand::Show { connection, check } => {
            asker.get(&format!("/api/v1/connections/{connection}/call-checks/{check}")).await
        }
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

pub(super) fn show_account(answer: &Value) -> String {
    let mut lines = Vec::new();
    if let Some(balance) = answer["balance"].as_str() {
        lines.push(format!("left at the provider: {balance} {}", text(answer, "currency")));
    }
    for limit in answer["limits"].as_array().into_iter().flatten() {
        let total = limit["total"].as_u64().map_or_else(|| "no limit".to_owned(), |total| total.to_string());
        lines.push(format!("{}: {} used of {total}", text(limit, "what").replace('_', " "), limit["used"]));
    }
    let senders: Vec<&str> = answer["senders"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    lines.push(format!("senders: {}", if senders.is_empty() { "none".to_owned() } else { senders.join(", ") }));
    lines.join("\n")
}

pub(super) fn show_stop_list(what: &StopListCommand, answer: &Value) -> String {
    match what {
        StopListCommand::List { .. } => {
            let rows = answer.as_array().into_iter().flatten();
            let lines: Vec<String> =
                rows.map(|row| format!("{}  {}", text(row, "phone"), text(row, "note")).trim_end().to_owned()).collect();
            if lines.is_empty() { "nobody is on it".to_owned() } else { lines.join("\n") }
        }
        StopListCommand::Add { .. } => format!("{} is on the provider's stop list", text(answer, "phone")),
        StopListCommand::Remove { .. } => format!("{} is not on the provider's stop list any more", text(answer, "phone")),
        StopListCommand::Import { .. } => {
            format!("{} people get no messages any more; {} rows are no phone", answer["opted_out"], answer["unreadable"])
        }
    }
}

pub(super) fn show_call_check(what: &CallCheckCommand, answer: &Value) -> String {
    match what {
        CallCheckCommand::Begin { .. } => format!(
            "the person is to call {} within {} s; the call is dropped and costs nothing. Check {}",
            text(answer, "call_pretty"),
            answer["valid_s"],
            text(answer, "id")
        ),
        CallCheckCommand::Show { .. } => text(answer, "state").to_owned(),
    }
}
