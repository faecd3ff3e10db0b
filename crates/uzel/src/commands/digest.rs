//! The digest of a day or a week, and its picture as a file.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use uzel_model::words::Language;

use super::{ask::Asker, say};

#[derive(Debug, Args)]
pub(super) struct DigestArgs {
    #[arg(long)]
    merchant: String,
    /// The day, for instance 2026-11-27, in the zone of the merchant's first outlet; by default yesterday.
    #[arg(long)]
    day: Option<String>,
    /// The week in which the day is.
    #[arg(long)]
    week: bool,
    /// ru, uz or en; by default the merchant's.
    #[arg(long)]
    language: Option<Language>,
    /// Put the picture into this file.
    #[arg(long)]
    png: Option<PathBuf>,
}

pub(super) async fn run(asker: &Asker, args: &DigestArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let language = args.language.map(serde_json::to_value).transpose()?;
    let pairs = [
        ("day", args.day.clone()),
        ("span", Some(if args.week { "week" } else { "day" }.to_owned())),
        ("language", language.and_then(|language| language.as_str().map(str::to_owned))),
        ("picture", Some(args.png.is_some().to_string())),
    ];
    let given: Vec<(&str, String)> = pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let query = serde_urlencoded::to_string(given)?;
    let mut digest = asker.get(&format!("/api/v1/merchants/{}/digest?{query}", args.merchant)).await?;
    if let Some(file) = &args.png {
        let picture = digest["picture"].take();
        let png = STANDARD.decode(picture.as_str().context("the answer holds no picture")?)?;
        std::fs::write(file, png).with_context(|| format!("cannot write {}", file.display()))?;
    }
    say(&match as_json {
        true => serde_json::to_string_pretty(&digest)?,
        false => digest["text"].as_str().unwrap_or_default().to_owned(),
    })?;
    Ok(ExitCode::SUCCESS)
}
