//! The commands. What concerns a hub's data is asked of the running hub over its socket; when none runs, the command opens
//! the data folder and asks the same API in its own process.

mod accounts;
mod apply;
mod ask;
mod backup;
mod batch;
mod copy;
mod digest;
mod doctor;
mod endpoints;
mod loyalty;
mod messages;
mod migrate;
mod moment;
mod places;
mod providers;
mod recipients;
mod replay;
mod reviews;
mod secrets;
mod show;

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, bail};
use ask::Asker;
use clap::{Args, CommandFactory, Parser, Subcommand};
pub(crate) use places::line_and_column;
use providers::ProvidersCommand;
use serde_json::{Value, json};
use uzel_model::words::Language;

use crate::{
    bench, demo,
    hub::{Hub, Parts},
    settings::Settings,
};

/// The file of the embedded store in the data folder.
const DATABASE: &str = "uzel.db";

/// Uzel: an integration hub for shops, restaurants and salons.
#[derive(Debug, Parser)]
#[command(name = "uzel", version)]
pub struct Cli {
    /// Settings file; `uzel.toml` here by default.
    #[arg(long, global = true)]
    settings: Option<PathBuf>,
    /// Data folder; `uzel-data` here by default.
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    /// Answers as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub.
    Serve {
        /// Where to listen, for instance 0.0.0.0:8080.
        #[arg(long)]
        listen: Option<SocketAddr>,
        /// Print the texts that no provider is there to send (loopback only).
        #[arg(long)]
        dev: bool,
    },
    /// Play a day of a café, a restaurant, a salon and a shop against stand-ins.
    Demo(demo::Options),
    /// Measure this machine: the hub beside a bare harness.
    Bench(bench::Options),
    /// Run the stand-ins for outside services.
    Sandbox {
        #[arg(long, default_value = "127.0.0.1:8090")]
        listen: SocketAddr,
    },
    /// Set up merchants, outlets, connections, flows, endpoints and recipients by a file.
    Apply {
        file: PathBuf,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
    },
    /// The sync log.
    Journal {
        #[command(subcommand)]
        what: JournalCommand,
    },
    /// Read journalled requests again through today's code.
    Replay(replay::ReplayArgs),
    /// Flows.
    Flows {
        #[command(subcommand)]
        what: FlowsCommand,
    },
    /// Connections.
    Connections {
        #[command(subcommand)]
        what: ConnectionsCommand,
    },
    /// Endpoints: where the merchants' own software receives webhooks.
    Endpoints {
        #[command(subcommand)]
        what: endpoints::EndpointsCommand,
    },
    /// Recipients: the merchants' people who get notices.
    Recipients {
        #[command(subcommand)]
        what: recipients::RecipientsCommand,
    },
    /// Providers.
    Providers {
        #[command(subcommand)]
        what: ProvidersCommand,
    },
    /// What a merchant's messages cost in a month, as far as providers tell.
    Costs {
        #[arg(long)]
        merchant: String,
        /// In UTC, for instance `2026-11`; without it this month.
        #[arg(long)]
        month: Option<String>,
    },
    /// Record that a person agrees to messages, or wants none.
    Consent {
        #[arg(long)]
        merchant: String,
        /// A phone or an e-mail address.
        address: String,
        /// Withdraws it.
        #[arg(long)]
        revoke: bool,
        /// How and where it was given.
        #[arg(long)]
        proof: String,
        /// Only about this channel: sms, whatsapp, email, telegram or push.
        #[arg(long)]
        channel: Option<String>,
        /// marketing or service.
        #[arg(long, default_value = "marketing")]
        purpose: String,
        /// form, till, spoken, import, message, link or provider.
        #[arg(long, default_value = "spoken")]
        how: String,
    },
    /// What people said about messages.
    Consents {
        #[command(subcommand)]
        what: reviews::ConsentsCommand,
    },
    /// Stop lists: whoever wants no messages.
    OptOuts {
        #[command(subcommand)]
        what: reviews::OptOutsCommand,
    },
    /// Reviews that guests left by the links of review requests.
    Reviews {
        #[command(subcommand)]
        what: reviews::ReviewsCommand,
    },
    /// Loyalty: customers, their points, the ledger.
    Loyalty {
        #[command(subcommand)]
        what: loyalty::LoyaltyCommand,
    },
    /// Send a message to one person, or to many (--batch): by a channel (sms, whatsapp, email …) or a connection (--via).
    Send(messages::SendArgs),
    /// By which channels messages can go.
    Channels(messages::ChannelsArgs),
    /// Codes by which people prove a phone or a mailbox.
    Codes {
        #[command(subcommand)]
        what: messages::CodesCommand,
    },
    /// Show the digest of a day or a week.
    Digest(digest::DigestArgs),
    /// Commands: calls that must be made.
    Commands {
        #[command(subcommand)]
        what: CommandsCommand,
    },
    /// Publishing to NATS.
    Nats {
        #[command(subcommand)]
        what: NatsCommand,
    },
    /// Keys of the hub: who may call the API, and as what.
    Keys {
        #[command(subcommand)]
        what: KeysCommand,
    },
    /// Who changed what.
    Audit {
        #[arg(long)]
        merchant: Option<String>,
        /// Id of what was changed.
        #[arg(long)]
        object: Option<String>,
        #[arg(long)]
        before: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Things that a person should look at.
    Notices,
    /// How many rows stand in which state.
    Counts,
    /// Check the store's own laws.
    Fsck {
        /// Mend what can be mended.
        #[arg(long)]
        repair: bool,
    },
    /// Look at everything: what is set up, what answers, and what to do where something is not well.
    Doctor(doctor::DoctorArgs),
    /// Show which steps of the schema the database has, and apply those that it lacks.
    Migrate(migrate::MigrateArgs),
    /// The master key, which seals the keys that seal secrets.
    Secrets {
        #[command(subcommand)]
        what: secrets::SecretsCommand,
    },
    /// Copy the embedded database into a file while the hub works. The master key is not in it.
    Backup { file: PathBuf },
    /// Put a copy of the embedded database back; no hub may work in the folder. What was there is kept under another name.
    Restore { file: PathBuf },
    /// Move a business: copy all that SQLite holds to an empty PostgreSQL database, or back, and read it back. No hub may work on
    /// either meanwhile. The master key is not in it.
    Copy(copy::CopyArgs),
    /// Run beside a till on the shop's own machine: sign its loyalty calls, pass them on, and keep them while the line is down.
    #[cfg(feature = "bridge")]
    Bridge(uzel_bridge::BridgeArgs),
    /// A completion script for a shell.
    Completion { shell: clap_complete::Shell },
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    List {
        #[arg(long)]
        merchant: Option<String>,
    },
    /// Make a key; it is shown once.
    Create {
        /// Without it the key is of the whole hub.
        #[arg(long)]
        merchant: Option<String>,
        /// owner, operator, reader or till; admin for the whole hub.
        #[arg(long)]
        role: String,
        /// What people call it.
        #[arg(long, default_value = "")]
        label: String,
        /// Until when it is good (2027-12-31T00:00:00Z), or the beginning of this day in UTC.
        #[arg(long, value_parser = moment::read)]
        expires: Option<String>,
    },
    /// Take a key away.
    Remove { id: String },
    /// Make a key pair for notices to browsers (Web Push); nothing is kept of it.
    Vapid,
}

#[derive(Debug, Subcommand)]
enum CommandsCommand {
    /// End a command whose outcome is unknown, once you know from the provider what became of it.
    Settle {
        id: String,
        outcome: Outcome,
        /// How it was found out; it stands in the journal.
        #[arg(long)]
        note: String,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Outcome {
    /// The provider did it.
    Done,
    /// The provider did nothing: `uzel replay` may try it again.
    Failed,
}

#[derive(Debug, Subcommand)]
enum NatsCommand {
    /// Keep no events for NATS any more, and forget those that wait; the settings must not name a server.
    Off,
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// The newest rows.
    List(JournalArgs),
    /// All that followed from one entry; any ID of the list will do.
    Show {
        id: String,
        /// Phones and bodies whole.
        #[arg(long)]
        unmasked: bool,
    },
}

#[derive(Debug, Args)]
struct JournalArgs {
    #[arg(long)]
    merchant: Option<String>,
    #[arg(long)]
    provider: Option<String>,
    /// An endpoint: what was sent to it, and what it answered.
    #[arg(long)]
    endpoint: Option<String>,
    #[arg(long)]
    phone: Option<String>,
    /// Order number or provider's id.
    #[arg(long)]
    order: Option<String>,
    /// ok, error, unread, read, duplicate or dead.
    #[arg(long)]
    status: Option<String>,
    /// From this time on (2026-11-24T00:00:00Z), or from the beginning of this day in UTC (2026-11-24).
    #[arg(long, value_parser = moment::read)]
    from: Option<String>,
    /// Until this time, or the beginning of this day in UTC.
    #[arg(long, value_parser = moment::read)]
    to: Option<String>,
    /// Only older than this entry.
    #[arg(long)]
    before: Option<String>,
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(Debug, Subcommand)]
enum FlowsCommand {
    /// What a body or a journal entry would cause, without causing it.
    DryRun {
        #[arg(long, conflicts_with = "connection")]
        entry: Option<String>,
        #[arg(long, requires = "body")]
        connection: Option<String>,
        /// File with the body; `-` for standard input.
        #[arg(long)]
        body: Option<PathBuf>,
        #[arg(long, default_value = "application/json")]
        content_type: String,
    },
    /// Check a setup file.
    Check { file: PathBuf },
}

#[derive(Debug, Subcommand)]
enum ConnectionsCommand {
    List,
    /// Ask the provider whether it works.
    Health {
        connection: String,
    },
    /// Money left at the provider.
    Balance {
        connection: String,
    },
    /// How the account at the provider stands: money, limits, senders.
    Account {
        connection: String,
    },
    /// The provider's own list of phones that it writes to no more.
    StopList {
        #[command(subcommand)]
        what: accounts::StopListCommand,
    },
    /// Prove a phone by a call of its owner.
    CallCheck {
        #[command(subcommand)]
        what: accounts::CallCheckCommand,
    },
    /// Requests to it that were refused.
    Refusals {
        connection: String,
        /// Bodies whole.
        #[arg(long)]
        unmasked: bool,
    },
    /// What is left to do at the provider for it to work, with its address for webhooks.
    Setup {
        connection: String,
        /// ru, uz or en; by default the merchant's.
        #[arg(long)]
        language: Option<Language>,
    },
    /// Give the URL to open in a browser, once, where a provider wants a login.
    Login {
        connection: String,
    },
    /// What a text would cost; nothing is sent.
    Cost {
        connection: String,
        #[arg(long)]
        to: String,
        #[arg(long)]
        text: String,
    },
    /// Make no calls by it for now.
    Pause {
        connection: String,
    },
    /// Make calls by it again.
    Resume {
        connection: String,
    },
    /// Its webhook keys.
    Keys {
        connection: String,
    },
    /// Make one more webhook key, shown once; those from before stay good.
    NewKey {
        connection: String,
    },
    /// Take a webhook key away.
    RemoveKey {
        connection: String,
        id: String,
    },
    /// Register our webhook at the provider.
    Subscribe {
        connection: String,
        #[arg(long)]
        url: Option<String>,
    },
}

impl Cli {
    /// Runs the command: exit status 0 if it did what was asked, 1 if not, 2 if it was asked wrongly.
    pub fn run(self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return report(&anyhow::Error::from(error)),
        };
        match runtime.block_on(self.go()) {
            Ok(code) => code,
            Err(error) => report(&error),
        }
    }

    fn load(&self) -> anyhow::Result<Settings> {
        let mut settings = Settings::load(self.settings.as_deref(), crate::settings::variables())?;
        if let Some(data) = &self.data {
            settings.data.clone_from(data);
        }
        Ok(settings)
    }

    async fn go(self) -> anyhow::Result<ExitCode> {
        #[cfg(feature = "bridge")]
        if let Command::Bridge(args) = self.command {
            return uzel_bridge::go(args, self.json, &["bridge"]).await;
        }
        match &self.command {
            Command::Serve { listen, dev } => {
                let mut settings = self.load()?;
                settings.listen = listen.unwrap_or(settings.listen);
                settings.dev |= *dev;
                if settings.dev && !settings.listen.ip().is_loopback() {
                    bail!("--dev works only while the hub listens on loopback");
                }
                logging(settings.log_json);
                keep_panics_quiet();
                serve(&settings).await
            }
            Command::Demo(options) => demo::run(options, self.json).await,
            Command::Bench(options) => bench::run(options, self.json).await,
            Command::Sandbox { listen } => {
                logging(false);
                let sandbox =
                    uzel_sandbox::Sandbox::start(*listen).await.with_context(|| format!("cannot listen on {listen}"))?;
                say(&format!("The stand-ins answer on {}", sandbox.url()))?;
                stop_signal().await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Completion { shell } => {
                clap_complete::generate(*shell, &mut Self::command(), "uzel", &mut std::io::stdout());
                Ok(ExitCode::SUCCESS)
            }
            Command::Doctor(args) => doctor::run(&self.load()?, self.settings.as_deref(), args, self.json).await,
            Command::Migrate(args) => migrate::run(&self.load()?, args, self.json).await,
            Command::Secrets { what } => secrets::run(&self.load()?, what, self.json).await,
            Command::Keys { what: KeysCommand::Vapid } => keys_of_vapid(self.json),
            Command::Backup { file } => backup::backup(&self.load()?, file, self.json),
            Command::Copy(args) => copy::run(&self.load()?, args, self.json).await,
            Command::Restore { file } => backup::restore(&self.load()?, file, self.json),
            Command::Providers { what: ProvidersCommand::List } => providers::list(self.json),
            Command::Providers { what: ProvidersCommand::Schema { provider } } => providers::schema(provider),
            Command::Providers { what: ProvidersCommand::Steps { provider, language } } => {
                providers::steps(provider, *language, &self.load()?, self.json)
            }
            _ => self.ask().await,
        }
    }

    /// The commands that ask a hub.
    async fn ask(&self) -> anyhow::Result<ExitCode> {
        let settings = self.load()?;
        match &self.command {
            Command::Apply { file, dry_run } => return apply::run(&settings, file, *dry_run, self.json).await,
            Command::Flows { what: FlowsCommand::Check { file } } => return apply::run(&settings, file, true, self.json).await,
            _ => {}
        }
        let asker = Asker::new(&settings).await?;
        let outcome = self.ask_with(&asker).await;
        asker.end().await;
        outcome
    }

    async fn ask_with(&self, asker: &Asker) -> anyhow::Result<ExitCode> {
        let answer = match &self.command {
            Command::Replay(args) => return replay::run(asker, args, self.json).await,
            Command::Digest(args) => return digest::run(asker, args, self.json).await,
            Command::Send(args) => return messages::send(asker, args, self.json).await,
            Command::Recipients { what } => return recipients::run(asker, what, self.json).await,
            Command::Endpoints { what } => return endpoints::run(asker, what, self.json).await,
            Command::Loyalty { what } => return loyalty::run(asker, what, self.json).await,
            Command::Reviews { what } => return reviews::reviews(asker, what, self.json).await,
            Command::OptOuts { what } => return reviews::opt_outs(asker, what, self.json).await,
            Command::Consents { what } => return reviews::consents(asker, what, self.json).await,
            Command::Journal { what: JournalCommand::List(args) } => {
                let pairs = [
                    ("merchant", &args.merchant),
                    ("provider", &args.provider),
                    ("endpoint", &args.endpoint),
                    ("phone", &args.phone),
                    ("order", &args.order),
                    ("status", &args.status),
                    ("from", &args.from),
                    ("to", &args.to),
                    ("before", &args.before),
                    ("limit", &Some(args.limit.to_string())),
                ];
                let given: Vec<(&str, &String)> =
                    pairs.iter().filter_map(|(name, value)| value.as_ref().map(|value| (*name, value))).collect();
                asker.list(&format!("/api/v1/journal?{}", serde_urlencoded::to_string(given)?)).await?
            }
            Command::Journal { what: JournalCommand::Show { id, unmasked } } => {
                asker.get(&format!("/api/v1/journal/{id}?unmasked={unmasked}")).await?
            }
            Command::Flows { what: FlowsCommand::DryRun { entry, connection, body, content_type } } => {
                let body = body.as_ref().map(|file| places::text(file)).transpose()?;
                let request = json!({ "entry": entry, "connection": connection, "body": body, "content_type": content_type });
                asker.post("/api/v1/flows/dry-run", &request).await?
            }
            Command::Connections { what: ConnectionsCommand::List } => asker.list("/api/v1/connections").await?,
            Command::Connections { what: ConnectionsCommand::Health { connection } } => {
                let health = asker.get(&format!("/api/v1/connections/{connection}/health")).await?;
                self.print(&health)?;
                return Ok(if health["healthy"] == json!(true) { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            Command::Connections { what: ConnectionsCommand::Setup { connection, .. } } => {
                asker.get(&format!("/api/v1/connections/{connection}/setup")).await?
            }
            Command::Connections { what: ConnectionsCommand::Balance { connection } } => {
                asker.get(&format!("/api/v1/connections/{connection}/balance")).await?
            }
            Command::Connections { what: ConnectionsCommand::Account { connection } } => {
                asker.get(&format!("/api/v1/connections/{connection}/account")).await?
            }
            Command::Connections { what: ConnectionsCommand::StopList { what } } => accounts::stop_list(asker, what).await?,
            Command::Connections { what: ConnectionsCommand::CallCheck { what } } => accounts::call_check(asker, what).await?,
            Command::Connections { what: ConnectionsCommand::Refusals { connection, unmasked } } => {
                asker.list(&format!("/api/v1/connections/{connection}/refusals?unmasked={unmasked}")).await?
            }
            Command::Providers { what: ProvidersCommand::Refusals { provider, unmasked } } => {
                asker.list(&format!("/api/v1/providers/{provider}/refusals?unmasked={unmasked}")).await?
            }
            Command::Connections { what: ConnectionsCommand::Login { connection } } => {
                if matches!(asker, Asker::Own { .. }) {
                    bail!("a login ends at a running hub: start it with `uzel serve` first");
                }
                asker.post(&format!("/api/v1/connections/{connection}/login"), &json!({})).await?
            }
            Command::Connections { what: ConnectionsCommand::Cost { connection, to, text } } => {
                asker.post(&format!("/api/v1/connections/{connection}/cost"), &json!({ "phone": to, "text": text })).await?
            }
            Command::Connections { what: ConnectionsCommand::Subscribe { connection, url } } => {
                asker.post(&format!("/api/v1/connections/{connection}/subscribe"), &json!({ "url": url })).await?
            }
            Command::Costs { merchant, month } => {
                let query = month.as_ref().map(|month| serde_urlencoded::to_string([("month", month)])).transpose()?;
                asker.get(&format!("/api/v1/merchants/{merchant}/costs?{}", query.unwrap_or_default())).await?
            }
            Command::Consent { merchant, address, revoke, proof, channel, purpose, how } => {
                let field = if address.contains('@') { "email" } else { "phone" };
                let request = json!({
                    "merchant": merchant, field: address, "granted": !revoke, "proof": proof, "channel": channel,
                    "purpose": purpose, "how": how,
                });
                asker.post("/api/v1/consents", &request).await?
            }
            Command::Channels(args) => messages::channels(asker, args).await?,
            Command::Codes { what } => return messages::codes(asker, what, self.json).await,
            Command::Connections { what: ConnectionsCommand::Pause { connection } } => {
                asker.post(&format!("/api/v1/connections/{connection}/pause"), &json!({})).await?
            }
            Command::Connections { what: ConnectionsCommand::Resume { connection } } => {
                asker.post(&format!("/api/v1/connections/{connection}/resume"), &json!({})).await?
            }
            Command::Connections { what: ConnectionsCommand::Keys { connection } } => {
                asker.list(&format!("/api/v1/connections/{connection}/webhook-keys")).await?
            }
            Command::Connections { what: ConnectionsCommand::NewKey { connection } } => {
                asker.post(&format!("/api/v1/connections/{connection}/webhook-keys"), &json!({})).await?
            }
            Command::Connections { what: ConnectionsCommand::RemoveKey { connection, id } } => {
                asker.delete(&format!("/api/v1/connections/{connection}/webhook-keys/{id}")).await?
            }
            Command::Keys { what: KeysCommand::List { merchant } } => {
                let given: Vec<(&str, &String)> = merchant.iter().map(|merchant| ("merchant", merchant)).collect();
                asker.list(&format!("/api/v1/keys?{}", serde_urlencoded::to_string(given)?)).await?
            }
            Command::Keys { what: KeysCommand::Create { merchant, role, label, expires } } => {
                let request = json!({ "merchant": merchant, "role": role, "label": label, "expires_at": expires });
                asker.post("/api/v1/keys", &request).await?
            }
            Command::Keys { what: KeysCommand::Remove { id } } => asker.delete(&format!("/api/v1/keys/{id}")).await?,
            Command::Audit { merchant, object, before, limit } => {
                let pairs = [("merchant", merchant), ("object", object), ("before", before), ("limit", &Some(limit.to_string()))];
                let given: Vec<(&str, &String)> =
                    pairs.iter().filter_map(|(name, value)| value.as_ref().map(|value| (*name, value))).collect();
                asker.list(&format!("/api/v1/audit?{}", serde_urlencoded::to_string(given)?)).await?
            }
            Command::Commands { what: CommandsCommand::Settle { id, outcome, note } } => {
                let outcome = match outcome {
                    Outcome::Done => "done",
                    Outcome::Failed => "failed",
                };
                asker.post(&format!("/api/v1/commands/{id}/settle"), &json!({ "outcome": outcome, "note": note })).await?
            }
            Command::Nats { what: NatsCommand::Off } => asker.post("/api/v1/nats", &json!({ "publish": false })).await?,
            Command::Notices => asker.list("/api/v1/notices").await?,
            Command::Counts => asker.get("/api/v1/counts").await?,
            Command::Fsck { repair } => {
                let found = asker.post("/api/v1/fsck", &json!({ "repair": repair })).await?;
                self.print(&found)?;
                // What was mended is no fault any more; what only a person can mend stays one.
                let fine = |line: &Value| *repair && line.as_str().is_some_and(|line| line.ends_with("(mended)"));
                let clean = found["found"].as_array().is_some_and(|lines| lines.iter().all(fine));
                return Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            other => bail!("{other:?} asks no hub"),
        };
        self.print(&answer)?;
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, answer: &Value) -> anyhow::Result<()> {
        if self.json {
            return say(&serde_json::to_string_pretty(answer)?);
        }
        let text = match &self.command {
            Command::Journal { what: JournalCommand::List(_) } => show::journal(answer),
            Command::Journal { what: JournalCommand::Show { .. } } => show::timeline(answer),
            Command::Fsck { .. } => show::fsck(answer),
            Command::Connections { what: ConnectionsCommand::List } => show::connections(answer),
            Command::Connections { what: ConnectionsCommand::Health { .. } } => show::health(answer),
            Command::Connections { what: ConnectionsCommand::Setup { language, .. } } => providers::setup(answer, *language),
            Command::Connections { what: ConnectionsCommand::Refusals { .. } }
            | Command::Providers { what: ProvidersCommand::Refusals { .. } } => show::refusals(answer),
            Command::Connections { what: ConnectionsCommand::Login { .. } } => show::login(answer),
            Command::Connections { what: ConnectionsCommand::Balance { .. } } => show::balance(answer),
            Command::Connections { what: ConnectionsCommand::Cost { .. } } => show::cost(answer),
            Command::Connections { what: ConnectionsCommand::Account { .. } } => accounts::show_account(answer),
            Command::Connections { what: ConnectionsCommand::StopList { what } } => accounts::show_stop_list(what, answer),
            Command::Connections { what: ConnectionsCommand::CallCheck { what } } => accounts::show_call_check(what, answer),
            Command::Connections { what: ConnectionsCommand::Subscribe { .. } } => show::subscribed(answer),
            Command::Costs { .. } => show::costs(answer),
            Command::Consent { .. } => show::consent(answer),
            Command::Commands { .. } => show::asked(answer),
            Command::Channels(_) => show::channels(answer),
            Command::Nats { .. } => show::unpublished(answer),
            Command::Keys { what: KeysCommand::List { .. } } | Command::Connections { what: ConnectionsCommand::Keys { .. } } => {
                show::keys(answer)
            }
            Command::Keys { what: KeysCommand::Create { .. } }
            | Command::Connections { what: ConnectionsCommand::NewKey { .. } } => show::new_key(answer),
            Command::Keys { what: KeysCommand::Remove { .. } }
            | Command::Connections { what: ConnectionsCommand::RemoveKey { .. } } => {
                "it is gone: nobody is let in by it".to_owned()
            }
            Command::Connections { what: ConnectionsCommand::Pause { .. } | ConnectionsCommand::Resume { .. } } => {
                show::paused(answer)
            }
            Command::Audit { .. } => show::audit(answer),
            Command::Notices => show::notices(answer),
            Command::Counts => show::counts(answer),
            _ => serde_json::to_string_pretty(answer)?,
        };
        say(&text)
    }
}

async fn serve(settings: &Settings) -> anyhow::Result<ExitCode> {
    let hub = Hub::start(settings, Parts::default()).await?;
    tracing::info!(address = %hub.address, data = %settings.data.display(), "the hub answers");
    if settings.variables.is_empty()
        && hub.engine.world().links.values().all(|link| link.connector.messages().is_none() || link.provider.id == "log")
    {
        tracing::warn!("no SMS key is set (SMSRU_API_KEY): texts go to the journal and are not sent");
    }
    stop_signal().await?;
    tracing::info!("stopping: calls under way are ended first");
    hub.stop().await?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn keys_of_vapid(as_json: bool) -> anyhow::Result<ExitCode> {
    let (private, public) = uzel_connectors::new_vapid_keys();
    say(&match as_json {
        true => serde_json::to_string_pretty(&json!({ "private_key": private, "public_key": public }))?,
        false => format!(
            "VAPID_PRIVATE_KEY={private}\n\nKeep it: with another one, no browser that has allowed notices gets any.\nBrowsers subscribe with the public \
             key: {public}"
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Until somebody asks the process to stop.
pub(crate) async fn stop_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

pub fn logging(json: bool) {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,async_nats=off"));
    // Colours are for a person at a terminal; in a file they would stand between a field and its value.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // Twice set is no fault: the first one stays.
    drop(if json { log.json().try_init() } else { log.with_target(false).try_init() });
}

/// Where a part of the hub fails inside stands in the log; what it says of it does not: it may repeat what was being read.
pub fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            place,
            "a part of the hub failed inside (a fault of the hub): what it was about is a dead letter, or unknown"
        );
    }));
}

/// A line for the person who asked.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn report(error: &anyhow::Error) -> ExitCode {
    // The last words of the process; if even they cannot be said, the exit status says it.
    drop(writeln!(std::io::stderr(), "uzel: {error:#}"));
    ExitCode::FAILURE
}
