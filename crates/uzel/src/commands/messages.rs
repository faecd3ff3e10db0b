//! Messages to single people, by a connection or a channel; codes; and what channels there are.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{ask::Asker, batch, places, say, show};

/// The merchant that variables of the environment set up.
const DEFAULT: &str = "default";

/// By which channel a message goes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ChannelName {
    Sms,
    Whatsapp,
    Email,
    Telegram,
    Push,
}

impl ChannelName {
    fn word(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Whatsapp => "whatsapp",
            Self::Email => "email",
            Self::Telegram => "telegram",
            Self::Push => "push",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The channel that it goes by; without it name the connection (--via).
    channel: Option<ChannelName>,
    #[arg(long, default_value = DEFAULT)]
    merchant: String,
    /// The connection that sends; without it the merchant's first of the channel.
    #[arg(long, required_unless_present = "channel")]
    via: Option<String>,
    /// Only by this provider.
    #[arg(long)]
    provider: Option<String>,
    /// A phone, or an e-mail address.
    #[arg(long, required_unless_present = "batch", conflicts_with = "batch")]
    to: Option<String>,
    /// Instead of one person: a CSV file of many; `-` for standard input. Its first line names the columns (to, subject, text, html);
    /// what it has no column for is as the other options say.
    #[arg(long, value_name = "FILE")]
    pub(super) batch: Option<PathBuf>,
    /// Only tell what would become of the file's messages.
    #[arg(long, requires = "batch")]
    pub(super) dry_run: bool,
    #[arg(long, required_unless_present_any = ["html", "template", "batch"], default_value = "")]
    text: String,
    /// The subject of an e-mail.
    #[arg(long)]
    subject: Option<String>,
    /// File with the HTML of an e-mail; `-` for standard input.
    #[arg(long)]
    html: Option<PathBuf>,
    /// File that goes with an e-mail, or a picture by Telegram; may stand several times.
    #[arg(long, value_name = "FILE", conflicts_with = "batch")]
    attach: Vec<PathBuf>,
    /// Name of a message that the provider has approved (WhatsApp).
    #[arg(long, requires = "language")]
    template: Option<String>,
    /// Its language, exactly as it was approved.
    #[arg(long)]
    language: Option<String>,
    /// What stands in its places, as JSON: [{"type":"body","parameters":[{"type":"text","text":"…"}]}].
    #[arg(long, requires = "template")]
    components: Option<String>,
    /// Only if this person has agreed to messages; without it you say that the text is service, not advertising.
    #[arg(long)]
    if_agreed: bool,
    /// A key of your own: with the same key the same text goes once, however often it is asked for within three days. Without it each
    /// time is a new text, but the same file with the same words is not.
    #[arg(long)]
    pub(super) key: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ChannelsArgs {
    #[arg(long, default_value = DEFAULT)]
    merchant: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum CodesCommand {
    /// Send a code to a phone or a mailbox.
    Send {
        /// A phone, or an e-mail address.
        to: String,
        #[arg(long, default_value = DEFAULT)]
        merchant: String,
        /// sms, whatsapp or email.
        #[arg(long)]
        channel: Option<ChannelName>,
        /// Only by this provider.
        #[arg(long)]
        provider: Option<String>,
        /// What it is for.
        #[arg(long, default_value = "login")]
        purpose: String,
        /// ru, uz or en; by default the merchant's.
        #[arg(long)]
        language: Option<String>,
        /// Words of your own, with {{ code }} in them.
        #[arg(long)]
        text: Option<String>,
    },
    /// Check what a person typed; exit status 1 where it is not right.
    Check {
        id: String,
        code: String,
        /// The same as when it was sent.
        #[arg(long, default_value = "login")]
        purpose: String,
        /// The phone or e-mail address that is to be proved.
        #[arg(long)]
        to: Option<String>,
    },
}

/// Queues a message, or those of a file.
pub(super) async fn send(asker: &Asker, args: &SendArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let request = request(args)?;
    if args.batch.is_some() {
        return batch::send(asker, args, &request, as_json).await;
    }
    let key = args.key.clone().unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let queued = asker.post_once("/api/v1/commands", &request, &key).await?;
    say(&if as_json { serde_json::to_string_pretty(&queued)? } else { show::asked(&queued) })?;
    Ok(ExitCode::SUCCESS)
}

/// A file as the API takes it. What it is its name tells.
fn attachment(file: &Path) -> anyhow::Result<Value> {
    let name = file.file_name().and_then(|name| name.to_str()).with_context(|| format!("{} is no file", file.display()))?;
    let content = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let media_type = match name.rsplit_once('.').map(|(_, end)| end.to_lowercase()).as_deref() {
        Some("pdf") => "application/pdf",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("txt") => "text/plain",
        Some("csv") => "text/csv",
        Some("ics") => "text/calendar",
        _ => "application/octet-stream",
    };
    Ok(json!({ "name": name, "media_type": media_type, "content": STANDARD.encode(content) }))
}

fn request(args: &SendArgs) -> anyhow::Result<Value> {
    let html = args.html.as_ref().map(|file| places::text(file)).transpose()?;
    let components = args.components.as_deref().map(serde_json::from_str::<Value>).transpose();
    let components = components.context("--components is no JSON")?.unwrap_or_else(|| json!([]));
    let template =
        args.template.as_ref().map(|name| json!({ "name": name, "language": args.language, "components": components }));
    let ground = if args.if_agreed { "consent" } else { "service" };
    let mut request = json!({ "merchant": args.merchant, "text": args.text, "ground": ground });
    let attachments = args.attach.iter().map(|file| attachment(file)).collect::<anyhow::Result<Vec<_>>>()?;
    let given = [
        ("attachments", (!attachments.is_empty()).then(|| json!(attachments))),
        ("to", args.to.as_ref().map(|to| json!(to))),
        ("channel", args.channel.map(|channel| json!(channel.word()))),
        ("via", args.via.as_ref().map(|via| json!(via))),
        ("provider", args.provider.as_ref().map(|provider| json!(provider))),
        ("subject", args.subject.as_ref().map(|subject| json!(subject))),
        ("html", html.map(|html| json!(html))),
        ("template", template),
    ];
    for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        request[name] = value;
    }
    Ok(request)
}

pub(super) async fn channels(asker: &Asker, args: &ChannelsArgs) -> anyhow::Result<Value> {
    asker.list(&format!("/api/v1/merchants/{}/channels", args.merchant)).await
}

/// Sends a code, or checks one.
pub(super) async fn codes(asker: &Asker, what: &CodesCommand, as_json: bool) -> anyhow::Result<ExitCode> {
    let (answer, words) = match what {
        CodesCommand::Send { to, merchant, channel, provider, purpose, language, text } => {
            let mut request = json!({ "merchant": merchant, "to": to, "purpose": purpose });
            for (name, value) in [("provider", provider), ("language", language), ("text", text)] {
                if let Some(value) = value {
                    request[name] = json!(value);
                }
            }
            if let Some(channel) = channel {
                request["channel"] = json!(channel.word());
            }
            let sent = asker.post("/api/v1/codes", &request).await?;
            let word = |name: &str| sent[name].as_str().unwrap_or_default().to_owned();
            let dev = if sent["dev"] == true { "; NOT sent: the hub's log shows it" } else { "" };
            let words = format!("{}  by {} until {}{dev}", word("id"), word("channel"), word("ends_at"));
            (sent, words)
        }
        CodesCommand::Check { id, code, purpose, to } => {
            let request = json!({ "id": id, "code": code, "purpose": purpose, "to": to });
            let checked = asker.post("/api/v1/codes/check", &request).await?;
            let words = match checked["result"].as_str() {
                Some("ok") => "right".to_owned(),
                Some("wrong") => format!("wrong; checks left: {}", checked["tries_left"]),
                _ => "ended: send another".to_owned(),
            };
            (checked, words)
        }
    };
    say(&if as_json { serde_json::to_string_pretty(&answer)? } else { words })?;
    let is_wrong = answer["result"].as_str().is_some_and(|result| result != "ok");
    Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
