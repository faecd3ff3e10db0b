//! `uzel providers`: what the hub can be connected to. But for refusals, no hub has to run for it.

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde_json::{Value, json};
use uzel_model::{
    Provider,
    words::{HUB_HERE, Language},
};

use super::say;
use crate::settings::Settings;

#[derive(Debug, Subcommand)]
pub(super) enum ProvidersCommand {
    /// Providers, and what the hub can do with each.
    List,
    /// Requests that were refused because their key belongs to no connection.
    Refusals {
        provider: String,
        /// Bodies whole.
        #[arg(long)]
        unmasked: bool,
    },
    /// The settings of a provider as JSON Schema.
    Schema { provider: String },
    /// What the merchant does at the provider, step by step.
    Steps {
        provider: String,
        /// ru, uz or en.
        #[arg(long, default_value = "en")]
        language: Language,
    },
}

fn known(id: &str) -> anyhow::Result<&'static Provider> {
    uzel_connectors::provider(id).with_context(|| format!("no provider `{id}`: `uzel providers list` names them"))
}

pub(super) fn list(as_json: bool) -> anyhow::Result<ExitCode> {
    let rows = uzel_connectors::PROVIDERS.iter().map(|provider| (provider, provider.words().abilities()));
    if as_json {
        let list: Vec<Value> = rows
            .map(|(provider, abilities)| json!({ "id": provider.id, "name": provider.name, "abilities": abilities }))
            .collect();
        say(&serde_json::to_string_pretty(&list)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (provider, abilities) in rows {
        let abilities: Vec<String> =
            abilities.iter().map(|view| json!(view.ability).as_str().unwrap_or_default().replace('_', " ")).collect();
        say(&format!("{:<12}{:<32}{}", provider.id, provider.name, abilities.join(", ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn schema(id: &str) -> anyhow::Result<ExitCode> {
    say(&serde_json::to_string_pretty(&known(id)?.schema())?)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn steps(id: &str, language: Language, settings: &Settings, as_json: bool) -> anyhow::Result<ExitCode> {
    let steps = known(id)?.steps(settings.public_url.as_deref().unwrap_or(HUB_HERE), None);
    let steps = steps.to(language);
    say(&if as_json { serde_json::to_string_pretty(steps)? } else { numbered(steps.iter().map(String::as_str)) })?;
    Ok(ExitCode::SUCCESS)
}

fn numbered<'a>(steps: impl Iterator<Item = &'a str>) -> String {
    steps.enumerate().map(|(place, step)| format!("{}. {step}", place + 1)).collect::<Vec<_>>().join("\n")
}

/// The answer of `GET /api/v1/connections/{id}/setup`, for reading.
pub(super) fn setup(answer: &Value, language: Option<Language>) -> String {
    let language = language.map_or_else(|| answer["language"].clone(), |language| json!(language));
    let language = language.as_str().unwrap_or("en");
    let abilities = answer["abilities"].as_array().into_iter().flatten();
    let abilities = abilities.map(|view| {
        let mark = if view["on"] == true { "yes" } else { "no " };
        format!("{mark}  {}{}", view["says"][language].as_str().unwrap_or_default(), missing(view))
    });
    let steps = answer["steps"][language].as_array().into_iter().flatten().filter_map(Value::as_str);
    [abilities.collect::<Vec<_>>().join("\n"), numbered(steps)].join("\n\n")
}

/// The settings that an ability waits for.
fn missing(view: &Value) -> String {
    let sets = view["needs"].as_array().into_iter().flatten().map(|set| {
        let names = set.as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(" + ")
    });
    let sets = sets.collect::<Vec<_>>().join(" / ");
    if view["on"] == true || sets.is_empty() { String::new() } else { format!(" ({sets})") }
}
