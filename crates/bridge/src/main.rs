//! `uzel-bridge`: the bridge alone, as one file.

use std::process::ExitCode;

use clap::Parser;
use uzel_bridge::BridgeArgs;

/// Uzel's bridge: passes a till's loyalty calls on to the hub, and keeps them while the line is down.
#[derive(Debug, Parser)]
#[command(name = "uzel-bridge", version)]
struct Cli {
    /// Answers as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    bridge: BridgeArgs,
}

fn main() -> ExitCode {
    // One TLS provider for the whole process, chosen here and nowhere else.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    uzel_bridge::run(cli.bridge, cli.json, &[])
}
