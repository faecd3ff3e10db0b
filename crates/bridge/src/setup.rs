//! `setup`: one screen of questions, one file.

use std::{
    io::{BufRead, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use toml::{Table, Value};

use crate::{cli::say, files, place::Place, secret::Secret, settings::Settings, words::Language};

/// What is not given here is asked, or kept as it was.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// The hub's address, for instance https://hub.example.
    #[arg(long)]
    hub: Option<String>,
    /// Id or slug.
    #[arg(long)]
    merchant: Option<String>,
    /// Id or slug.
    #[arg(long)]
    outlet: Option<String>,
    /// The outlet's bridge secret.
    #[arg(long, env = "UZEL_BRIDGE_SECRET", hide_env_values = true)]
    secret: Option<Secret>,
    /// The next one, while secrets are changed; an empty one takes it away.
    #[arg(long, env = "UZEL_BRIDGE_NEXT_SECRET", hide_env_values = true)]
    next_secret: Option<Secret>,
    #[arg(long, env = "UZEL_BRIDGE_STAFF_KEY", hide_env_values = true)]
    staff_key: Option<Secret>,
    /// Of messages to the cashier, and of these questions.
    #[arg(long)]
    language: Option<Language>,
    /// Quotes without the line: refuse or earn.
    #[arg(long, value_parser = ["refuse", "earn"])]
    offline: Option<String>,
    /// Where tills call.
    #[arg(long)]
    listen: Option<String>,
    /// Ask nothing.
    #[arg(long)]
    yes: bool,
}

/// One question: the setting, whether it is secret, and its words.
struct Question {
    name: &'static str,
    is_secret: bool,
    words: [&'static str; 3],
}

const HEAD: [&str; 3] = [
    "Настройки моста Uzel. Enter оставляет то, что в скобках; «-» убирает.",
    "Uzel ko‘prigi sozlamalari. Enter qavsdagini qoldiradi; «-» olib tashlaydi.",
    "Settings of Uzel's bridge. Enter keeps what stands in brackets; \"-\" takes it away.",
];

const QUESTIONS: [Question; 6] = [
    Question { name: "hub", is_secret: false, words: ["Адрес узла", "Hub manzili", "Address of the hub"] },
    Question {
        name: "merchant",
        is_secret: false,
        words: ["Мерчант (id или имя)", "Savdogar (id yoki nomi)", "Merchant (id or slug)"],
    },
    Question {
        name: "outlet", is_secret: false, words: ["Точка (id или имя)", "Do‘kon (id yoki nomi)", "Outlet (id or slug)"]
    },
    Question { name: "secret", is_secret: true, words: ["Секрет моста", "Ko‘prik siri", "Bridge secret"] },
    Question { name: "staff_key", is_secret: true, words: ["Ключ сотрудника", "Xodim kaliti", "Staff key"] },
    Question {
        name: "offline",
        is_secret: false,
        words: [
            "Без связи: refuse (без баллов) или earn (обещать начисление)",
            "Aloqasiz: refuse (ballsiz) yoki earn (ball va’da qilish)",
            "Without the line: refuse (no points) or earn (promise points)",
        ],
    },
];

pub(crate) fn run(place: &Place, args: SetupArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let file = place.settings();
    let name = || file.display().to_string();
    let mut table: Table = match std::fs::read_to_string(&file) {
        Ok(text) => {
            text.parse().map_err(|_| anyhow::anyhow!("{} is there and cannot be read: mend it or move it away", name()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Table::new(),
        Err(error) => return Err(error).with_context(name),
    };
    let shown = |secret: Option<Secret>| secret.map(|secret| secret.expose().to_owned());
    let given = [
        ("hub", args.hub),
        ("merchant", args.merchant),
        ("outlet", args.outlet),
        ("secret", shown(args.secret)),
        ("next_secret", shown(args.next_secret)),
        ("staff_key", shown(args.staff_key)),
        ("language", args.language.map(|language| language.tag().to_owned())),
        ("offline", args.offline),
        ("listen", args.listen),
    ];
    let asks = !args.yes && std::io::stdin().is_terminal();
    for (name, value) in &given {
        if let Some(value) = value {
            put(&mut table, name, value.trim());
        }
    }
    if asks {
        let is_given = |name: &str| given.iter().any(|(known, value)| *known == name && value.is_some());
        ask_all(&mut table, is_given)?;
    }
    for needed in ["hub", "merchant"] {
        if !table.contains_key(needed) {
            bail!("`{needed}` is missing: give --{needed}, or answer the questions at a terminal");
        }
    }
    let text = format!("# Settings of Uzel's bridge: docs/bridge.md. This file holds secrets.\n{}", toml::to_string(&table)?);
    let settings = Settings::read(&text)?;
    files::make_folder(&place.folder).with_context(|| place.folder.display().to_string())?;
    files::replace(&file, text.as_bytes()).with_context(name)?;
    say(&match as_json {
        true => serde_json::to_string_pretty(&json!({
            "file": name(), "hub": settings.hub, "merchant": settings.merchant, "outlet": settings.outlet,
            "secret": settings.secret.is_some(), "staffKey": settings.staff_key.is_some(),
        }))?,
        false => {
            format!("{} is written. `check` looks whether it is right; `install` lets the bridge start with the machine.", name())
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Sets a value, or takes it away where it is empty.
fn put(table: &mut Table, name: &str, value: &str) {
    if name == "offline" {
        let rule = table.entry("offline").or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(rule) = rule {
            rule.insert("quotes".into(), Value::String(value.to_owned()));
        }
    } else if value.is_empty() {
        table.remove(name);
    } else {
        table.insert(name.to_owned(), Value::String(value.to_owned()));
    }
}

fn present(table: &Table, name: &str) -> Option<String> {
    let value = table.get(name)?;
    let value = if name == "offline" { value.get("quotes")? } else { value };
    value.as_str().map(str::to_owned)
}

fn ask_all(table: &mut Table, is_given: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let lines = &mut std::io::stdin().lock().lines();
    if !is_given("language") {
        let now = present(table, "language").unwrap_or_else(|| Language::default().tag().to_owned());
        if let Some(language) = ask(lines, "Язык · Til · Language: ru, uz, en", Some(&now))? {
            put(table, "language", &language);
        }
    }
    let language = present(table, "language").and_then(|tag| Language::of(&tag)).unwrap_or_default();
    say(HEAD[language as usize])?;
    for question in QUESTIONS.iter().filter(|question| !is_given(question.name)) {
        let now = present(table, question.name).or_else(|| (question.name == "offline").then(|| "refuse".to_owned()));
        let shown = now.as_deref().map(|now| if question.is_secret { "***" } else { now });
        match ask(lines, question.words[language as usize], shown)?.as_deref() {
            None => {}
            Some("-") => put(table, question.name, ""),
            Some(value) => put(table, question.name, value),
        }
    }
    Ok(())
}

/// What was typed; `None` where Enter keeps what is there.
fn ask(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    words: &str,
    now: Option<&str>,
) -> anyhow::Result<Option<String>> {
    let mut out = std::io::stdout();
    write!(out, "{words}{}: ", now.map(|now| format!(" [{now}]")).unwrap_or_default())?;
    out.flush()?;
    let line = lines.next().context("the answers ended")??;
    Ok(Some(line.trim().to_owned()).filter(|line| !line.is_empty()))
}
