//! `install` and `uninstall`: the bridge starts with the machine. The files are those of `deploy/bridge/`.

use std::{path::Path, process::Command, process::ExitCode};

use anyhow::{Context, bail, ensure};
use serde_json::json;

use crate::{cli::say, files, place::Place};

const UNIT: &str = include_str!("../../../deploy/bridge/uzel-bridge.service");
const UNIT_FILE: &str = "/etc/systemd/system/uzel-bridge.service";
const UNIT_NAME: &str = "uzel-bridge.service";
/// Where the unit keeps the folder; it names it itself.
const UNIT_FOLDER: &str = "/var/lib/uzel-bridge";
const TASK: &str = include_str!("../../../deploy/bridge/uzel-bridge-task.xml");
const TASK_NAME: &str = "Uzel bridge";

/// A file to write and commands to run after it.
struct Steps {
    file: String,
    content: Vec<u8>,
    commands: Vec<Vec<String>>,
}

pub(crate) fn install(place: &Place, words: &[&str], print: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("where this program lies")?;
    let steps = if cfg!(windows) { windows(place, &program, words)? } else { linux(place, &program, words)? };
    if !print {
        ensure!(place.settings().exists(), "{} is not there yet: run `setup` first", place.settings().display());
        files::replace(Path::new(&steps.file), &steps.content).with_context(|| steps.file.clone())?;
        run_all(&steps.commands)?;
    }
    let shown: Vec<String> = steps.commands.iter().map(|command| command.join(" ")).collect();
    say(&match (as_json, print) {
        (true, _) => serde_json::to_string_pretty(&json!({ "file": steps.file, "commands": shown, "done": !print }))?,
        (false, true) => format!("{}:\n{}\n\n{}", steps.file, text(&steps.content), shown.join("\n")),
        (false, false) => "The bridge runs, and starts with the machine. `check` looks at it.".to_owned(),
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn uninstall(print: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let commands = if cfg!(windows) {
        vec![words(&["schtasks", "/End", "/TN", TASK_NAME]), words(&["schtasks", "/Delete", "/F", "/TN", TASK_NAME])]
    } else {
        vec![
            words(&["systemctl", "disable", "--now", UNIT_NAME]),
            words(&["rm", UNIT_FILE]),
            words(&["systemctl", "daemon-reload"]),
        ]
    };
    if !print {
        run_all(&commands)?;
    }
    let shown: Vec<String> = commands.iter().map(|command| command.join(" ")).collect();
    say(&match (as_json, print) {
        (true, _) => serde_json::to_string_pretty(&json!({ "commands": shown, "done": !print }))?,
        (false, true) => shown.join("\n"),
        (false, false) => "The bridge starts no more. Its folder is as it was: what waits in it was not sent.".to_owned(),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn linux(place: &Place, program: &Path, words_before: &[&str]) -> anyhow::Result<Steps> {
    let program = program.display().to_string();
    ensure!(
        !["/home/", "/root/", "/tmp/"].iter().any(|from| program.starts_with(from)),
        "a service does not see {program}: copy it to /usr/local/bin and install that"
    );
    ensure!(
        place.folder == Path::new(UNIT_FOLDER),
        "the service keeps its folder in {UNIT_FOLDER}: run `setup` and `install` with --folder {UNIT_FOLDER}"
    );
    ensure!(!program.contains(char::is_whitespace), "{program} has a space in its name: move it");
    let run = [&[program.as_str()], words_before, &["run"]].concat().join(" ");
    let line = |line: &str| if line.starts_with("ExecStart=") { format!("ExecStart={run}\n") } else { format!("{line}\n") };
    let content: String = UNIT.lines().map(line).collect();
    Ok(Steps {
        file: UNIT_FILE.to_owned(),
        content: content.into_bytes(),
        commands: vec![words(&["systemctl", "daemon-reload"]), words(&["systemctl", "enable", "--now", UNIT_NAME])],
    })
}

/// A task at the machine's start, as the user who installs it: the folder lies in that user's profile, where others do not look.
fn windows(place: &Place, program: &Path, words_before: &[&str]) -> anyhow::Result<Steps> {
    let part = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default();
    let user = format!("{}\\{}", part("USERDOMAIN"), part("USERNAME"));
    let folder = place.folder.display().to_string();
    ensure!(!folder.contains('"'), "the folder has a quotation mark in its name");
    let arguments = format!("{} run --log-file --folder \"{folder}\"", words_before.join(" "));
    let filled = [("USER", user.as_str()), ("PROGRAM", &program.display().to_string()), ("ARGUMENTS", arguments.trim())]
        .iter()
        .fold(TASK.to_owned(), |task, (name, value)| task.replace(&format!("{{{name}}}"), &escaped(value)));
    // The task scheduler reads UTF-16.
    let content = std::iter::once(0xfeff).chain(filled.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let file = place.folder.join("uzel-bridge-task.xml").display().to_string();
    let commands = vec![
        words(&["schtasks", "/Create", "/F", "/TN", TASK_NAME, "/XML", &file]),
        words(&["schtasks", "/Run", "/TN", TASK_NAME]),
    ];
    Ok(Steps { file, content, commands })
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn text(content: &[u8]) -> String {
    match content {
        [0xff, 0xfe, rest @ ..] => {
            let units: Vec<u16> = rest.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
            String::from_utf16_lossy(&units)
        }
        other => String::from_utf8_lossy(other).into_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn run_all(commands: &[Vec<String>]) -> anyhow::Result<()> {
    for command in commands {
        let Some((program, arguments)) = command.split_first() else { continue };
        let status = Command::new(program).args(arguments).status().with_context(|| program.clone())?;
        if !status.success() {
            bail!("`{}` ended with {status}: it needs an administrator", command.join(" "));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_run_this_program_in_its_folder() {
        let place = Place { folder: UNIT_FOLDER.into() };
        let steps = linux(&place, Path::new("/usr/local/bin/uzel"), &["bridge"]).unwrap();
        let unit = text(&steps.content);
        assert!(unit.contains("\nExecStart=/usr/local/bin/uzel bridge run\n"), "{unit}");
        assert!(unit.contains(&format!("UZEL_BRIDGE={UNIT_FOLDER}\n")), "{unit}");
        assert!(linux(&place, Path::new("/home/anna/uzel"), &[]).is_err());

        let place = Place { folder: r"C:\Users\Анна & Co\AppData\Local\uzel-bridge".into() };
        let steps = windows(&place, Path::new(r"C:\Uzel\uzel-bridge.exe"), &[]).unwrap();
        let task = text(&steps.content);
        assert!(task.contains(r"<Command>C:\Uzel\uzel-bridge.exe</Command>"), "{task}");
        assert!(task.contains(r"--folder &quot;C:\Users\Анна &amp; Co\AppData\Local\uzel-bridge&quot;</Arguments>"), "{task}");
        assert!(!task.contains('{'), "{task}");
    }
}
