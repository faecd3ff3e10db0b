//! `uzel`: the command line.

use clap::Parser;

fn main() -> std::process::ExitCode {
    // One TLS provider for the whole process, chosen here and nowhere else.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return std::process::ExitCode::FAILURE;
    }
    uzel::commands::Cli::parse().run()
}
