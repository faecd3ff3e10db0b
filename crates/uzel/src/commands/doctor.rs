//! `doctor`: what is set up, what answers, and what to do where something is not well. A running hub looks at itself; what lies on
//! this machine is looked at here.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::ExitCode};

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_engine::doctor::{Finding, Verdict};

use super::{DATABASE, ask::Asker, say};
use crate::{hub::SOCKET, master::Source, settings::Settings};

/// With less room on the disk a person should look, and with less still the journal may stop any moment.
const ROOM_MIB: [u64; 2] = [2_048, 256];
/// The door holds so many connections at most, and files of the store come on top.
const FILES_MIN: u64 = 8_192;
const COLUMNS: usize = 80;
/// Where the text begins behind verdict and subject.
const INDENT: usize = 18;

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Ask the providers too whether connections work.
    #[arg(long)]
    calls: bool,
    /// Exit status 2 where there are warnings only.
    #[arg(long)]
    strict: bool,
}

/// A finding as it came over the socket, maybe of another version of the program.
#[derive(Debug, Deserialize)]
struct Told {
    about: String,
    verdict: String,
    found: String,
    advice: Option<String>,
}

pub(super) async fn run(settings: &Settings, file: Option<&Path>, args: &DoctorArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let running = tokio::net::UnixStream::connect(settings.data.join(SOCKET)).await.ok();
    let pid = running.and_then(|socket| socket.peer_cred().ok()).and_then(|peer| peer.pid());
    let mut findings = vec![settings_file(file), folder(settings)];
    findings.extend(secrets(settings));
    findings.extend(pid.and_then(files_limit));
    // What is looked at here goes first: what the hub says of itself may be missing.
    let asked = asked(settings, args.calls).await;
    let version = env!("CARGO_PKG_VERSION");
    let mut told: Vec<Told> = Vec::new();
    match asked {
        Ok(Some(answer)) => {
            let other = answer["version"].as_str().unwrap_or_default();
            let program = match pid {
                Some(_) if other == version => Finding::ok("program", format!("Uzel {version}; a hub of it runs here")),
                Some(_) => {
                    Finding::warn("program", format!("Uzel {version}; the hub that runs is {other}"), "start the hub again")
                }
                None => {
                    Finding::warn("program", format!("Uzel {version}; no hub runs in {}", settings.data.display()), "uzel serve")
                }
            };
            findings.insert(0, program);
            told.extend(Vec::<Told>::deserialize(&answer["findings"])?);
        }
        Ok(None) => findings.insert(
            0,
            Finding::warn(
                "program",
                format!("Uzel {version}; no hub has been started in {}", settings.data.display()),
                "uzel serve",
            ),
        ),
        Err(error) => {
            findings.insert(0, Finding::ok("program", format!("Uzel {version}")));
            findings.push(Finding::fail("hub", format!("{error:#}"), "nothing more can be looked at until this is mended"));
        }
    }
    let mut all = Vec::<Told>::deserialize(json!(findings))?;
    all.extend(told);
    let has = |verdict: &str| all.iter().any(|finding| finding.verdict == verdict);
    let code = match (has("fail"), has("warn")) {
        (true, _) => 1,
        (false, true) if args.strict => 2,
        _ => 0,
    };
    say(&if as_json { serde_json::to_string_pretty(&as_values(&all))? } else { page(&all) })?;
    Ok(ExitCode::from(code))
}

/// Nothing where no hub was ever started.
async fn asked(settings: &Settings, calls: bool) -> anyhow::Result<Option<Value>> {
    let begun = settings.database.is_some() || settings.data.join(DATABASE).exists();
    if !begun && !settings.data.join(SOCKET).exists() {
        return Ok(None);
    }
    let asker = Asker::new(settings).await?;
    let answer = asker.get(&format!("/api/v1/doctor?calls={calls}")).await;
    asker.end().await;
    answer.map(Some)
}

fn settings_file(file: Option<&Path>) -> Finding {
    let file = file.or_else(|| Some(Path::new("uzel.toml")).filter(|file| file.exists()));
    Finding::ok(
        "settings",
        file.map_or("no file; defaults and variables".to_owned(), |file| format!("{}, without a fault", file.display())),
    )
}

fn folder(settings: &Settings) -> Finding {
    let path = settings.data.display();
    let Ok(metadata) = fs::metadata(&settings.data) else {
        return Finding::ok("folder", format!("{path} is not there yet: the first start makes it"));
    };
    let Ok(disk) = rustix::fs::statvfs(&settings.data) else {
        return Finding::warn("folder", format!("{path}: the room on its disk is not known"), "look at it by `df`");
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize) >> 20;
    let found = format!("{path}, {free} MiB free on its disk");
    let mode = metadata.permissions().mode() & 0o777;
    if free < ROOM_MIB[1] {
        Finding::fail("folder", found, "make room: what cannot be written is answered 503")
    } else if mode & 0o077 != 0 {
        Finding::warn("folder", format!("{found}; others may enter it (mode {mode:o})"), format!("chmod 700 {path}"))
    } else if free < ROOM_MIB[0] {
        Finding::warn("folder", found, "make room, or set `keep_days`")
    } else {
        Finding::ok("folder", found)
    }
}

fn secrets(settings: &Settings) -> Vec<Finding> {
    let master = match Source::of(settings, &settings.data) {
        Source::File(file) => Some(file),
        _ => None,
    };
    let files = [master, Some(settings.data.join("owner.key"))];
    let judge = |file: std::path::PathBuf| {
        let mode = fs::metadata(&file).ok()?.permissions().mode() & 0o777;
        let path = file.display();
        Some(match mode & 0o077 {
            0 => Finding::ok("key", format!("{path}, mode {mode:o}")),
            _ => Finding::fail("key", format!("{path} may be read by others (mode {mode:o})"), format!("chmod 600 {path}")),
        })
    };
    files.into_iter().flatten().filter_map(judge).collect()
}

/// How many files the hub's process may open.
fn files_limit(pid: i32) -> Option<Finding> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    let found = format!("the hub may open {soft} files");
    Some(match soft.parse::<u64>() {
        Ok(most) if most < FILES_MIN => {
            Finding::warn("files", found, format!("allow {FILES_MIN} and more: LimitNOFILE= in the unit, or `ulimit -n`"))
        }
        _ => Finding::ok("files", found),
    })
}

fn as_values(findings: &[Told]) -> Value {
    let worst = [Verdict::Fail, Verdict::Warn].into_iter().map(|verdict| json!(verdict));
    let worst = worst.into_iter().find(|verdict| findings.iter().any(|finding| *verdict == *finding.verdict));
    let list = findings.iter().map(|finding| {
        let mut value = json!({ "about": finding.about, "verdict": finding.verdict, "found": finding.found });
        if let Some(advice) = &finding.advice {
            value["advice"] = json!(advice);
        }
        value
    });
    json!({ "worst": worst.unwrap_or(json!(Verdict::Ok)), "findings": list.collect::<Vec<_>>() })
}

fn page(findings: &[Told]) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let head = format!("{:<6}{:<INDENT$}", finding.verdict, finding.about, INDENT = INDENT - 6);
        wrap(&mut lines, &head, &finding.found);
        if let Some(advice) = &finding.advice {
            wrap(&mut lines, &format!("{:>INDENT$}", "-> "), advice);
        }
    }
    let count = |verdict: &str| findings.iter().filter(|finding| finding.verdict == verdict).count();
    lines.push(match (count("fail"), count("warn")) {
        (0, 0) => "All is well.".to_owned(),
        (failed, warned) => format!("Failed: {failed}. To be looked at: {warned}."),
    });
    lines.join("\n")
}

/// Whole words, as many as there is room for; what belongs together stays below its beginning.
fn wrap(lines: &mut Vec<String>, head: &str, text: &str) {
    let mut line = head.to_owned();
    for word in text.split_whitespace() {
        let begun = line.chars().count() > INDENT;
        if begun && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(std::mem::replace(&mut line, format!("{:INDENT$}{word}", "")));
        } else {
            line += if begun { " " } else { "" };
            line += word;
        }
    }
    lines.push(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_a_narrow_terminal() {
        let told = |about: &str, verdict: &str, found: &str, advice: Option<&str>| Told {
            about: about.to_owned(),
            verdict: verdict.to_owned(),
            found: found.to_owned(),
            advice: advice.map(str::to_owned),
        };
        let long = "cafe/texts (smsru): calls fail since 2026-11-25T05:00:00Z: the provider answers nothing at all since then";
        let page = page(&[
            told("program", "ok", "Uzel 0.1.0; a hub of it runs here", None),
            told("connection", "warn", long, Some("uzel connections health con_01h45ytscbebyvny4gc8cr8ma2")),
        ]);
        assert!(page.lines().all(|line| line.chars().count() <= COLUMNS), "{page}");
        insta::assert_snapshot!(page, @r"
        ok    program     Uzel 0.1.0; a hub of it runs here
        warn  connection  cafe/texts (smsru): calls fail since 2026-11-25T05:00:00Z: the
                          provider answers nothing at all since then
                       -> uzel connections health con_01h45ytscbebyvny4gc8cr8ma2
        Failed: 0. To be looked at: 1.
        ");
    }
}
