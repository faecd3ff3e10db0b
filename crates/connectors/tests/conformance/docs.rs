//! `docs/connectors/` is derived from the connectors. With `WRITE_DOCS=1` this test writes it.

use std::{
    collections::BTreeSet,
    fmt::Write,
    path::{Path, PathBuf},
};

use serde_json::Value;
use uzel_connectors::PROVIDERS;
use uzel_model::{
    Provider,
    words::{HUB_HERE, Language},
};

use crate::sample::{is_secret, properties};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/connectors")
}

/// What a table's cell can hold.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*").replace('\n', " ")
}

fn kind(property: &Value) -> String {
    let words: Vec<&str> = match &property["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let secret = if is_secret(property) { ", secret" } else { "" };
    format!("{}{secret}", words.join(" or "))
}

fn preset(needed: bool, property: &Value) -> String {
    match &property["default"] {
        _ if needed => "needed".to_owned(),
        Value::Null => "none".to_owned(),
        preset => format!("`{preset}`"),
    }
}

fn settings(page: &mut String, provider: &Provider) {
    let schema = provider.schema().to_value();
    let needed: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = properties(provider);
    if properties.is_empty() {
        page.push_str("\nIt has no settings.\n");
        return;
    }
    page.push_str("\n| Setting | What it is | Type | Default | Help |\n|---|---|---|---|---|\n");
    for (name, property) in &properties {
        let text = |word: &str| cell(property[word].as_str().unwrap_or_default());
        let preset = cell(&preset(needed.contains(&name.as_str()), property));
        writeln!(page, "| `{name}` | {} | {} | {preset} | {} |", text("title"), kind(property), text("description")).unwrap();
    }
    for (heading, language) in [("Настройки", "ru"), ("Sozlamalar", "uz")] {
        writeln!(page, "\n<details><summary>{heading}</summary>\n\n| | | |\n|---|---|---|").unwrap();
        for (name, property) in &properties {
            let text = |word: &str| cell(property[word][language].as_str().unwrap_or_default());
            writeln!(page, "| `{name}` | {} | {} |", text("x-title"), text("x-help")).unwrap();
        }
        page.push_str("\n</details>\n");
    }
}

fn page(provider: &Provider) -> String {
    let mut page = format!(
        "<!-- Made of the connector; `WRITE_DOCS=1 cargo test --workspace --test conformance docs` writes it. -->\n\n# {}\n\n`provider = \"{}\"`",
        provider.name, provider.id
    );
    if let Some(hook) = provider.hook(HUB_HERE, None) {
        write!(page, "; webhooks come in at `{hook}`").unwrap();
    }
    page.push_str("\n\n## What the hub can do with it\n\n| | Needs |\n|---|---|\n");
    for view in provider.words().abilities() {
        let sets = view.needs.iter().map(|set| set.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "));
        writeln!(page, "| {} | {} |", view.says.en, sets.collect::<Vec<_>>().join("; or ")).unwrap();
    }
    page.push_str("\n## Settings\n");
    settings(&mut page, provider);
    let steps = provider.steps(HUB_HERE, None);
    let headings = [("Set-up", Language::En), ("Как подключить", Language::Ru), ("Qanday ulanadi", Language::Uz)];
    for (heading, language) in headings {
        writeln!(page, "\n## {heading}\n").unwrap();
        for (number, step) in steps.to(language).iter().enumerate() {
            writeln!(page, "{}. {step}", number + 1).unwrap();
        }
    }
    page
}

#[test]
fn the_pages_of_the_connectors_are_what_is_derived_from_them() {
    let folder = folder();
    let file = |provider: &Provider| folder.join(format!("{}.md", provider.id));
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for provider in PROVIDERS {
            std::fs::write(file(provider), page(provider)).unwrap();
        }
    }
    for provider in PROVIDERS {
        let written = std::fs::read_to_string(file(provider)).unwrap_or_default();
        assert!(written == page(provider), "docs/connectors/{}.md is out of date: WRITE_DOCS=1 writes it", provider.id);
    }
    let there: BTreeSet<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(there, PROVIDERS.iter().map(file).collect(), "a page of no provider, or one that is missing");
}
