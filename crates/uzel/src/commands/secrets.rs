//! `secrets`: which master key is in use, and a new one while the hub works.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uzel_engine::Master;
use uzel_model::Secret;

use super::{ask::Asker, say};
use crate::{
    hub::write_private,
    master::{self, Source, new_beside, read_file, replace, sync_folder},
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(super) enum SecretsCommand {
    /// Tell which master key is in use, by its fingerprint.
    Show,
    /// Change the master key while the hub works. Where it lies in a file, a new key is made and takes the file's place.
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The new master key lies in this file (32 bytes in base64); without it one is made.
    #[arg(long)]
    new_master_key_file: Option<PathBuf>,
    /// The new master key is what this command prints; put it into the settings yourself.
    #[arg(long, conflicts_with = "new_master_key_file")]
    new_master_key_command: Option<String>,
    /// Make new keys for everything below the master key too, and seal every secret anew.
    #[arg(long)]
    data_keys: bool,
}

pub(super) async fn run(settings: &Settings, what: &SecretsCommand, as_json: bool) -> anyhow::Result<ExitCode> {
    let asker = Asker::new(settings).await?;
    let done = match what {
        SecretsCommand::Show => show(&asker, settings, as_json).await,
        SecretsCommand::Rotate(args) => rotate(&asker, settings, args, as_json).await,
    };
    asker.end().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn in_use(asker: &Asker) -> anyhow::Result<String> {
    let answer = asker.get("/api/v1/secrets").await?;
    Ok(answer["master_key"].as_str().context("the hub does not say which master key it uses")?.to_owned())
}

async fn show(asker: &Asker, settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let (fingerprint, source) = (in_use(asker).await?, Source::of(settings, &settings.data));
    if as_json {
        return say(&serde_json::to_string_pretty(&json!({ "master_key": fingerprint }))?);
    }
    let own = match &source {
        Source::File(file) if !file.exists() => format!("{} is not there", file.display()),
        source if source.read().await?.fingerprint() == fingerprint => format!("{} is this key", source.name()),
        source => format!("{} is ANOTHER key: with it the hub will not start again", source.name()),
    };
    say(&format!("The hub works with the master key {fingerprint}; {own}."))
}

/// How the key is changed, by where it lies.
enum Way {
    /// The file of the key is replaced by the one beside it.
    File(PathBuf),
    /// A person sees to it that the hub finds the new key.
    Told(String),
}

async fn rotate(asker: &Asker, settings: &Settings, args: &RotateArgs, as_json: bool) -> anyhow::Result<()> {
    let was = in_use(asker).await?;
    let (key, way) = match (Source::of(settings, &settings.data), &args.new_master_key_file, &args.new_master_key_command) {
        (_, _, Some(command)) => {
            let key = master::run(&["sh", "-c", command].map(str::to_owned)).await?;
            let told = format!(
                "Before the next start of each node name it in the settings, and no other source beside it:\n  master_key_command = {}",
                json!(["sh", "-c", command])
            );
            (key, Way::Told(told))
        }
        (Source::File(file), Some(new), None) if !same_file(&file, new) => (Secret::new(text(new)?), Way::File(file)),
        (Source::File(file), None, None) => match ended_before(&file, &was)? {
            Some(kept) => return tell_ended(&file, kept.as_deref(), as_json),
            None => (Master::make(), Way::File(file)),
        },
        (source, Some(new), None) => {
            let told = match source {
                Source::File(file) => format!("{} holds it already.", file.display()),
                source => format!("Before the next start of each node let {} give what {} holds.", source.name(), new.display()),
            };
            (Secret::new(text(new)?), Way::Told(told))
        }
        (source, None, None) => bail!(
            "the master key comes from {}: put a new one (`openssl rand -base64 32`) into a file or wherever a command gets it, and \
             name it by --new-master-key-file or --new-master-key-command",
            source.name()
        ),
    };
    let fingerprint = Master::new(&key).context("the new master key")?.fingerprint();
    ensure!(fingerprint != was, "this is the master key that is in use already: nothing was changed");
    if let Way::File(file) = &way {
        put_beside(file, &key, &was)?;
    }
    let body = json!({ "new_master_key": key.expose(), "was": was, "data_keys": args.data_keys });
    let done = match asker.post("/api/v1/secrets/rotate", &body).await {
        // The answer may be lost, and not what was done.
        Err(error) => match in_use(asker).await {
            Ok(now) if now == fingerprint => json!({}),
            _ => return Err(error),
        },
        Ok(done) => done,
    };
    let kept = match &way {
        Way::File(file) => replace(file)?,
        Way::Told(_) => None,
    };
    if as_json {
        return say(&serde_json::to_string_pretty(&json!({ "done": done, "old_key": kept }))?);
    }
    tell(&done, &way, kept.as_deref())
}

fn text(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// A change that was cut short behind its middle is ended: the key beside the file is the one in use.
fn ended_before(file: &Path, in_use: &str) -> anyhow::Result<Option<Option<PathBuf>>> {
    let new = new_beside(file);
    if !new.exists() || read_file(&new)?.fingerprint() != in_use {
        return Ok(None);
    }
    replace(file).map(Some)
}

/// Writes the new key beside the file of the old one, which must be the one that is in use.
fn put_beside(file: &Path, key: &Secret, in_use: &str) -> anyhow::Result<()> {
    ensure!(
        read_file(file)?.fingerprint() == in_use,
        "{} is not the key that the hub works with: run this where the hub runs, with its settings. Nothing was changed",
        file.display()
    );
    let new = new_beside(file);
    // Left by a change that was cut short before anything was wrapped by it.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).context(new.display().to_string()),
        _ => {}
    }
    write_private(&new, key.expose().trim()).with_context(|| new.display().to_string())?;
    let (owner, own) = (fs::metadata(file)?, fs::metadata(&new)?);
    // The hub must be able to read it, whoever changes it.
    if (owner.uid(), owner.gid()) != (own.uid(), own.gid()) {
        chown(&new, Some(owner.uid()), Some(owner.gid())).with_context(|| new.display().to_string())?;
    }
    Ok(sync_folder(&new)?)
}

fn tell_ended(file: &Path, kept: Option<&Path>, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return say(&serde_json::to_string_pretty(&json!({ "done": {}, "old_key": kept }))?);
    }
    say(&format!("A change of the master key that was cut short is ended: {} holds the key in use.", file.display()))
}

fn tell(done: &Value, way: &Way, kept: Option<&Path>) -> anyhow::Result<()> {
    let count = |name: &str| done[name].as_u64().unwrap_or_default();
    // Nothing is known of it where only the answer was lost.
    let counted = format!(
        ": {} keys wrapped anew, {} made, {} settings and logins sealed anew",
        count("wrapped"),
        count("made"),
        count("resealed")
    );
    say(&format!("The master key is changed{}.", if done["wrapped"].is_null() { "" } else { &counted }))?;
    match way {
        Way::File(file) => say(&format!("{} holds the new key.", file.display()))?,
        Way::Told(told) => say(told)?,
    }
    if let Some(kept) = kept {
        say(&format!(
            "The old key is kept as {}: copies of the database from before need it. Move it to where they lie.",
            kept.display()
        ))?;
    }
    if count("unopened") > 0 {
        say(&format!("{} settings or logins did not open before and do not now: enter them again.", count("unopened")))?;
    }
    if count("nodes") > 1 {
        say(&format!(
            "{} nodes work on this database. They go on; give each the new key before its next start.",
            count("nodes")
        ))?;
    }
    Ok(())
}
