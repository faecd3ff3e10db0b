//! `uzel loyalty`: programmes, customers, points given by a person, the ledger and its proof, customers brought from elsewhere.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::{ask::Asker, say};

/// So many lines of a file are sent at once.
const PORTION: usize = 2_000;
/// So much of what is wrong with a file is told.
const FAULTS_MAX: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum LoyaltyCommand {
    /// A merchant's programme.
    Show {
        #[arg(long)]
        merchant: String,
    },
    /// Hold every balance against the ledger, and say where they differ.
    Audit {
        /// Only of this merchant.
        #[arg(long)]
        merchant: Option<String>,
    },
    /// Bring customers and their points from elsewhere: a CSV file in UTF-8 whose first line names the columns (customer, phone,
    /// name, balance, level). What was brought before is not brought twice.
    Import {
        file: PathBuf,
        #[arg(long)]
        merchant: String,
        /// Only tell what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// A customer: by the merchant's own id, a phone with +, or the hub's id.
    Customer {
        #[arg(long)]
        merchant: String,
        customer: String,
        /// The phone whole.
        #[arg(long)]
        unmasked: bool,
    },
    /// Give points, or take them (below none), with a reason.
    Adjust {
        #[arg(long)]
        merchant: String,
        customer: String,
        #[arg(allow_negative_numbers = true)]
        points: i64,
        #[arg(long)]
        reason: String,
    },
    /// Movements of points, newest first.
    Ledger {
        #[arg(long)]
        merchant: String,
        /// Only of this customer.
        #[arg(long)]
        customer: Option<String>,
        /// Only older than this movement.
        #[arg(long)]
        before: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
}

pub(super) async fn run(asker: &Asker, what: &LoyaltyCommand, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let (answer, text) = match what {
        LoyaltyCommand::Show { merchant } => {
            let answer = asker.get(&of(merchant, "programme")?).await?;
            let text = serde_json::to_string_pretty(&answer)?;
            (answer, text)
        }
        LoyaltyCommand::Audit { merchant } => {
            let answer = asker.post("/api/v1/loyalty/audit", &json!({ "merchant": merchant })).await?;
            if answer["findings"].as_array().is_some_and(|findings| !findings.is_empty()) {
                code = ExitCode::FAILURE;
            }
            let text = proved(&answer);
            (answer, text)
        }
        LoyaltyCommand::Import { file, merchant, dry_run } => {
            let answer = import(asker, file, merchant, *dry_run, as_json).await?;
            if answer["faults"].as_array().is_some_and(|faults| !faults.is_empty()) {
                code = ExitCode::FAILURE;
            }
            let text = imported(&answer, *dry_run);
            (answer, text)
        }
        LoyaltyCommand::Customer { merchant, customer, unmasked } => {
            let path = of(merchant, &format!("customers/{}?unmasked={unmasked}", part(customer)?))?;
            let answer = asker.get(&path).await?;
            let text = row(&answer);
            (answer, text)
        }
        LoyaltyCommand::Adjust { merchant, customer, points, reason } => {
            let path = of(merchant, &format!("customers/{}/adjust", part(customer)?))?;
            let answer = asker.post(&path, &json!({ "points": points, "reason": reason })).await?;
            let text = format!("{} points; the balance is {}", answer["points"], answer["balance"]);
            (answer, text)
        }
        LoyaltyCommand::Ledger { merchant, customer, before, limit } => {
            let pairs = [("customer", customer.clone()), ("before", before.clone()), ("limit", Some(limit.to_string()))];
            let given: Vec<(&str, String)> = pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let answer = asker.list(&of(merchant, &format!("ledger?{}", serde_urlencoded::to_string(given)?))?).await?;
            let rows: Vec<String> = answer.as_array().into_iter().flatten().map(movement).collect();
            let text = rows.join("\n");
            (answer, text)
        }
    };
    say(&if as_json { serde_json::to_string_pretty(&answer)? } else { text })?;
    Ok(code)
}

/// A part of a path, whatever signs it has.
fn part(text: &str) -> anyhow::Result<String> {
    let pair = serde_urlencoded::to_string([("", text)])?;
    Ok(pair.trim_start_matches('=').replace('+', "%20"))
}

fn of(merchant: &str, rest: &str) -> anyhow::Result<String> {
    Ok(format!("/api/v1/merchants/{}/{rest}", part(merchant)?))
}

/// The whole file is looked at before any of it is brought.
async fn import(asker: &Asker, file: &PathBuf, merchant: &str, dry: bool, quiet: bool) -> anyhow::Result<Value> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let Ok(text) = String::from_utf8(text) else { bail!("{} is no text in UTF-8: save it as CSV in UTF-8", file.display()) };
    let portions = portions(&text);
    let passes: &[bool] = if dry { &[true] } else { &[true, false] };
    let bar = ProgressBar::new((portions.len() * passes.len()) as u64);
    if quiet || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.set_style(ProgressStyle::with_template("{bar:30} {percent}% {elapsed}")?);
    let none = json!({ "taken": false, "made": 0, "changed": 0, "same": 0, "points": 0, "faults": [], "more_faults": 0 });
    let mut whole = none.clone();
    for pass in passes {
        let mut sum = none.clone();
        sum["taken"] = json!(!pass);
        for (lines_before, portion) in &portions {
            let query = serde_urlencoded::to_string([("merchant", merchant), ("dry_run", pass.to_string().as_str())])?;
            let path = format!("/api/v1/loyalty/import?{query}");
            let answer = asker.post_csv(&path, portion.clone().into_bytes()).await?;
            add(&mut sum, &answer, *lines_before);
            bar.inc(1);
        }
        whole = sum;
        if whole["faults"].as_array().is_some_and(|faults| !faults.is_empty()) {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(whole)
}

/// The file in parts, each below its first line, with how many of its lines stand before them.
fn portions(text: &str) -> Vec<(u64, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let lines: Vec<&str> = lines.collect();
    let portions = lines.chunks(PORTION).enumerate();
    let all: Vec<(u64, String)> =
        portions.map(|(place, lines)| ((place * PORTION) as u64, format!("{head}\n{}\n", lines.join("\n")))).collect();
    if all.is_empty() { vec![(0, head.to_owned())] } else { all }
}

fn add(sum: &mut Value, answer: &Value, lines_before: u64) {
    for name in ["made", "changed", "same", "points", "more_faults"] {
        sum[name] = json!(sum[name].as_i64().unwrap_or_default() + answer[name].as_i64().unwrap_or_default());
    }
    let faults = answer["faults"].as_array().cloned().unwrap_or_default();
    let faults = faults.into_iter().map(|mut fault| {
        let line = fault["line"].as_u64().unwrap_or_default();
        fault["line"] = json!(if line > 1 { line + lines_before } else { line });
        fault
    });
    let Some(all) = sum["faults"].as_array_mut() else { return };
    all.extend(faults);
    let left_out = all.len().saturating_sub(FAULTS_MAX);
    all.truncate(FAULTS_MAX);
    sum["more_faults"] = json!(sum["more_faults"].as_u64().unwrap_or_default() + left_out as u64);
}

fn word<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

fn row(customer: &Value) -> String {
    let mut lines = vec![format!(
        "{}  {}  {}  {}",
        word(customer, "id"),
        word(customer, "customer"),
        word(customer, "phone"),
        word(customer, "name")
    )];
    let level = customer["level"].as_str().map_or(String::new(), |level| format!(", level {level}"));
    lines.push(format!(
        "    {} points, {} promised, {} receipts{level}",
        customer["balance"], customer["promised"], customer["receipts"]
    ));
    lines.join("\n")
}

fn movement(row: &Value) -> String {
    let reason = row["reason"].as_str().map_or(String::new(), |reason| format!("  {reason}"));
    format!(
        "{}  {:<9}{:>10}  {} → {}  balance {}  {}  {}{reason}",
        word(row, "at"),
        word(row, "kind"),
        row["points"],
        word(row, "from"),
        word(row, "to"),
        row["balance"],
        word(row, "customer"),
        word(row, "cause")
    )
}

fn proved(answer: &Value) -> String {
    let findings = answer["findings"].as_array().cloned().unwrap_or_default();
    let mut lines: Vec<String> =
        findings.iter().map(|finding| format!("{}  {}", word(finding, "customer"), word(finding, "why"))).collect();
    let how = if findings.is_empty() { "all as it must be" } else { "NOT as it must be" };
    lines.push(format!("{} customers, {} movements: {how}", answer["customers"], answer["movements"]));
    lines.join("\n")
}

fn imported(answer: &Value, dry: bool) -> String {
    let faults = answer["faults"].as_array().cloned().unwrap_or_default();
    let mut lines: Vec<String> = faults
        .iter()
        .map(|fault| {
            let column = fault["column"].as_str().map_or(String::new(), |column| format!(", {column}"));
            format!("line {}{column}: {}", fault["line"], word(fault, "why"))
        })
        .collect();
    if let Some(more @ 1..) = answer["more_faults"].as_u64() {
        lines.push(format!("and {more} more faults"));
    }
    let how = match (faults.is_empty(), dry) {
        (false, _) => "nothing was brought",
        (true, true) => "would be brought",
        (true, false) => "brought",
    };
    lines.push(format!(
        "{how}: {} new customers, {} changed, {} as they were, {} points",
        answer["made"], answer["changed"], answer["same"], answer["points"]
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_sent_in_parts_below_its_first_line_and_faults_keep_their_lines() {
        let text = format!("customer;balance\n{}", "C;1\n".repeat(PORTION + 1));
        let parts = portions(&text);
        assert_eq!(parts.iter().map(|(before, _)| *before).collect::<Vec<_>>(), [0, PORTION as u64]);
        assert_eq!(parts[1].1, "customer;balance\nC;1\n");
        let mut sum = json!({ "made": 1, "faults": [] });
        add(&mut sum, &json!({ "made": 2, "faults": [{ "line": 2 }] }), PORTION as u64);
        assert_eq!((&sum["made"], &sum["faults"][0]["line"]), (&json!(3), &json!(PORTION + 2)));
        assert_eq!(portions(""), [(0, String::new())]);
        assert_eq!(part("+7 999/1").unwrap(), "%2B7%20999%2F1");
    }
}
