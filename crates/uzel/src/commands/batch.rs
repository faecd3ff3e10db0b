//! Messages to many people out of a CSV file: looked at whole before the first one goes.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use uzel_engine::csv;
use uzel_model::signature::sha256_hex;

use super::{
    ask::Asker,
    messages::SendArgs,
    places::{self, dotted},
    say,
};

/// What one batch takes.
const MESSAGES_MAX: usize = 100;
/// Below what a request may have, with room for what stands around the messages.
const BYTES_MAX: usize = 900 << 10;
/// Names of the columns, as people call them.
const COLUMNS: [(&str, &[&str]); 4] = [
    ("to", &["to", "email", "e-mail", "mail", "phone", "address", "почта", "телефон", "адрес", "telefon", "manzil"]),
    ("subject", &["subject", "тема", "mavzu"]),
    ("text", &["text", "текст", "matn"]),
    ("html", &["html"]),
];

/// A row of the file: in which line it begins, and its message.
struct Row {
    line: usize,
    message: Value,
}

/// Sends what a file holds, or only tells what would become of it.
pub(super) async fn send(asker: &Asker, args: &SendArgs, request: &Value, as_json: bool) -> anyhow::Result<ExitCode> {
    let file = args.batch.as_ref().context("no file is named")?;
    let text = places::text(file)?;
    let rows = rows(&text, request)?;
    let mut frame = request.clone();
    for (name, _) in COLUMNS {
        frame.as_object_mut().context("a request is an object")?.remove(name);
    }
    let template = frame.as_object_mut().and_then(|frame| frame.remove("template"));
    let requests: Vec<(&[Row], Value)> = portions(&rows)
        .into_iter()
        .map(|rows| {
            let messages = rows.iter().map(|row| match &template {
                Some(template) => with(&row.message, template),
                None => row.message.clone(),
            });
            let mut request = frame.clone();
            request["messages"] = messages.collect();
            (rows, request)
        })
        .collect();
    // All of it is looked at before anything goes.
    let (mut looked, mut faults) = (Vec::new(), Vec::new());
    for (rows, request) in &requests {
        match asker.try_post("/api/v1/commands/batch/dry-run", request).await? {
            Ok(answer) => looked.push(answer),
            Err(problem) => faults.extend(told(rows, &problem)),
        }
    }
    if !faults.is_empty() {
        faults.dedup();
        bail!("nothing was sent:\n{}", faults.join("\n"));
    }
    let mut answers = looked;
    if !args.dry_run {
        // The same file again is the same request, and sends nothing twice.
        let own =
            sha256_hex(requests.iter().map(|(_, request)| request.to_string()).collect::<Vec<_>>().iter().map(String::as_bytes));
        let key = args.key.as_deref().unwrap_or(&own);
        answers.clear();
        for (number, (_, request)) in requests.iter().enumerate() {
            let sent = asker.post_once("/api/v1/commands/batch", request, &format!("{key}-{number}")).await;
            answers.push(sent.with_context(|| format!("batch {} of {}", number + 1, requests.len()))?);
        }
    }
    let page =
        if as_json { serde_json::to_string_pretty(&json!({ "batches": answers }))? } else { page(&rows, &answers, args.dry_run) };
    say(&page)?;
    Ok(ExitCode::SUCCESS)
}

fn with(message: &Value, template: &Value) -> Value {
    let mut message = message.clone();
    message["template"] = template.clone();
    message
}

/// The rows of a file. What it has no column for is as `request` says for all.
fn rows(text: &str, request: &Value) -> anyhow::Result<Vec<Row>> {
    let records = records(text.trim_start_matches('\u{feff}'))?;
    let Some((_, first)) = records.first() else { bail!("the file is empty") };
    let separator = csv::separator(first.lines().next().unwrap_or_default());
    let names: Vec<String> = csv::fields(first, separator).iter().map(|name| name.trim().to_lowercase()).collect();
    let known = |name: &String| COLUMNS.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(column, _)| *column);
    let has_head = names.iter().any(|name| known(name) == Some("to"));
    let columns: Vec<&str> = if has_head {
        let found = names
            .iter()
            .map(|name| known(name).with_context(|| format!("column `{name}`: there are to, subject, text and html")));
        found.collect::<anyhow::Result<_>>()?
    } else if names.len() == 1 {
        vec!["to"]
    } else {
        bail!("line 1: names no column `to`");
    };
    let mut rows = Vec::new();
    for (line, record) in records.iter().skip(usize::from(has_head)) {
        let fields = csv::fields(record, separator);
        if fields.len() > columns.len() {
            bail!("line {line}: has {} fields, and there are {} columns", fields.len(), columns.len());
        }
        let mut message = json!({});
        for (name, _) in COLUMNS {
            let of_all = Some(&request[name]).filter(|given| given.is_string()).cloned();
            let own = columns.iter().zip(&fields).find(|(column, field)| **column == name && !field.trim().is_empty());
            if let Some(value) = own.map(|(_, field)| json!(field.trim())).or(of_all) {
                message[name] = value;
            }
        }
        if message["to"].is_null() {
            bail!("line {line}: says not to whom");
        }
        rows.push(Row { line: *line, message });
    }
    if rows.is_empty() {
        bail!("the file names nobody");
    }
    Ok(rows)
}

/// Its records with the lines in which they begin: a field in quotes may go over several lines. Empty lines are left out.
fn records(text: &str) -> anyhow::Result<Vec<(usize, String)>> {
    let mut records: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        match records.last_mut().filter(|_| open) {
            Some((_, record)) => {
                record.push('\n');
                record.push_str(line);
            }
            None if line.trim().is_empty() => continue,
            None => records.push((number + 1, line.to_owned())),
        }
        open ^= line.matches('"').count() % 2 == 1;
    }
    match records.last() {
        Some((line, _)) if open => bail!("line {line}: a quote is not closed"),
        _ => Ok(records),
    }
}

/// Cut so that each portion is one request.
fn portions(rows: &[Row]) -> Vec<&[Row]> {
    let (mut portions, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (place, row) in rows.iter().enumerate() {
        let size = row.message.to_string().len();
        if place > start && (place - start == MESSAGES_MAX || bytes + size > BYTES_MAX) {
            portions.push(&rows[start..place]);
            (start, bytes) = (place, 0);
        }
        bytes += size;
    }
    portions.push(&rows[start..]);
    portions
}

/// The faults of a request, each with its line of the file.
fn told(rows: &[Row], problem: &Value) -> Vec<String> {
    let faults = problem["errors"].as_array().into_iter().flatten();
    faults
        .map(|fault| {
            let (pointer, detail) = (fault["pointer"].as_str().unwrap_or_default(), fault["detail"].as_str().unwrap_or_default());
            let of_row = pointer.strip_prefix("/messages/").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
            let row = of_row.and_then(|(place, field)| Some((rows.get(place.parse::<usize>().ok()?)?, field)));
            match row {
                Some((row, field)) => format!("line {}: {field}: {detail}", row.line),
                None => format!("{}: {detail}", dotted(pointer)),
            }
        })
        .collect()
}

fn page(rows: &[Row], answers: &[Value], only_looked: bool) -> String {
    let messages: Vec<&Value> = answers.iter().flat_map(|answer| answer["messages"].as_array().into_iter().flatten()).collect();
    let word = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (mut page, mut held) = (Vec::new(), 0);
    for (row, message) in rows.iter().zip(&messages) {
        if message["state"] == "held" {
            held += 1;
            page.push(format!("line {}  {}  does not go: {}", row.line, word(message, "to"), word(message, "reason")));
        }
    }
    let ways = answers.iter().map(|answer| if answer["one_call"] == true { "in one call" } else { "each by itself" });
    page.extend(answers.iter().zip(ways).filter_map(|(answer, way)| Some(format!("{}  {way}", answer["id"].as_str()?))));
    let verb = if only_looked { "would go" } else { "go" };
    page.push(format!("{} {verb}, {held} do not", messages.len() - held));
    if answers.iter().any(|answer| answer["dev"] == true) {
        page.push("NOT sent to anybody: only the journal stands for a provider".to_owned());
    }
    page.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Value>, String> {
        let request = json!({ "subject": "For all", "text": "" });
        rows(text, &request).map(|rows| rows.into_iter().map(|row| row.message).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_has_columns_by_name_or_is_a_list_of_addresses() {
        let two = read("\u{feff}Email;Тема;html\na@b.example;Own;\"<p>\nsay \"\"yes\"\"; now</p>\"\n\nc@d.example\n").unwrap();
        assert_eq!(two[0], json!({ "to": "a@b.example", "subject": "Own", "text": "", "html": "<p>\nsay \"yes\"; now</p>" }));
        assert_eq!(two[1], json!({ "to": "c@d.example", "subject": "For all", "text": "" }));
        assert_eq!(read("a@b.example\nc@d.example").unwrap().len(), 2);
        for (text, wrong) in [
            ("", "the file is empty"),
            ("to,subject\n", "the file names nobody"),
            ("a@b.example,Hello\n", "line 1: names no column `to`"),
            ("to,subjekt\na@b.example,x\n", "column `subjekt`: there are to, subject, text and html"),
            ("to,subject\na@b.example,x,y\n", "line 2: has 3 fields, and there are 2 columns"),
            ("to,subject\n,x\n", "line 2: says not to whom"),
            ("to,subject\na@b.example,\"x\n", "line 2: a quote is not closed"),
        ] {
            assert_eq!(read(text).unwrap_err(), wrong, "{text}");
        }
    }

    #[test]
    fn a_file_is_cut_into_requests_by_number_and_by_size() {
        let row = |text: &str| Row { line: 1, message: json!({ "text": text }) };
        let many: Vec<Row> = (0..250).map(|_| row("x")).collect();
        assert_eq!(portions(&many).iter().map(|portion| portion.len()).collect::<Vec<_>>(), [100, 100, 50]);
        let large: Vec<Row> = (0..5).map(|_| row(&"x".repeat(400 << 10))).collect();
        assert_eq!(portions(&large).iter().map(|portion| portion.len()).collect::<Vec<_>>(), [2, 2, 1]);
    }
}
