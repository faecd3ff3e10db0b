//! Where the NATS server is, and who we are there. Passwords stay apart from addresses, so that no error repeats them.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::{ConnectOptions, ServerAddr};
use reqwest::Url;
use serde_json::Value;
use uzel_model::Secret;

use crate::Refused;

/// What the operator sets for NATS.
#[derive(Clone)]
pub struct NatsOptions {
    servers: Vec<ServerAddr>,
    login: Login,
    tls: bool,
    /// How long events stay in a stream that the hub makes.
    pub keep: Duration,
    /// How a refusal is told: documents of problems are made by the HTTP side only.
    pub(crate) problem: fn(&Refused) -> Value,
}

#[derive(Clone)]
enum Login {
    None,
    Password(String, Secret),
    Token(Secret),
    /// A file with a JWT and the seed of a key.
    File(PathBuf),
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<&str> = self.servers.iter().map(ServerAddr::as_url_str).collect();
        f.debug_struct("NatsOptions").field("servers", &servers).field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl NatsOptions {
    /// Of one or several URLs with commas between them: `nats://user:password@host:4222`, `nats://token@host`, `tls://host`.
    pub fn new(urls: &str, file: Option<PathBuf>, keep: Duration, problem: fn(&Refused) -> Value) -> Result<Self, String> {
        let mut options = Self { servers: Vec::new(), login: Login::None, tls: false, keep, problem };
        for text in urls.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            // The text may hold a password: it is not repeated.
            let mut url = Url::parse(text).map_err(|error| format!("is no address: {error}"))?;
            if !matches!(url.scheme(), "nats" | "tls") || url.host_str().is_none() {
                return Err("must look like `nats://host:4222`, or `tls://host:4222`".to_owned());
            }
            options.tls |= url.scheme() == "tls";
            match (decoded(url.username()), url.password().map(decoded)) {
                (user, Some(password)) => options.login = Login::Password(user, Secret::new(password)),
                (token, None) if !token.is_empty() => options.login = Login::Token(Secret::new(token)),
                _ => {}
            }
            if url.set_password(None).and_then(|()| url.set_username("")).is_err() {
                return Err("is no address of a server".to_owned());
            }
            options.servers.push(ServerAddr::from_url(url).map_err(|_| "is no address of a server".to_owned())?);
        }
        if options.servers.is_empty() {
            return Err("names no server".to_owned());
        }
        if let Some(file) = file {
            options.login = Login::File(file);
        }
        Ok(options)
    }

    /// The addresses, without credentials.
    pub fn servers(&self) -> Vec<ServerAddr> {
        self.servers.clone()
    }

    /// The same as text, for people.
    pub fn address(&self) -> String {
        self.servers.iter().map(ServerAddr::as_url_str).collect::<Vec<_>>().join(",")
    }

    /// How the hub's client connects: it never gives up, and does not wait for the first connection.
    pub async fn connect(&self) -> Result<ConnectOptions, String> {
        Ok(self.connect_once().await?.retry_on_initial_connect().reconnect_delay_callback(|tries| {
            let most = Duration::from_millis(50).saturating_mul(1 << tries.min(7)).min(super::PAUSE_MAX);
            most.mul_f64(rand::random_range(0.5..=1.0))
        }))
    }

    /// How a client connects that wants to know why it cannot: it tries each server once.
    pub async fn connect_once(&self) -> Result<ConnectOptions, String> {
        let options = ConnectOptions::new().name("uzel");
        // A server that asks for TLS gets it whatever the scheme is; with `tls://` nothing is said without it.
        let options = options.require_tls(self.tls);
        Ok(match &self.login {
            Login::None => options,
            Login::Password(user, password) => options.user_and_password(user.clone(), password.expose().to_owned()),
            Login::Token(token) => options.token(token.expose().to_owned()),
            Login::File(file) => {
                let told = |error| format!("nats_creds {}: {error}", file.display());
                options.credentials_file(file).await.map_err(told)?
            }
        })
    }
}

/// A part of a URL without its escapes.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(urls: &str) -> Result<NatsOptions, String> {
        NatsOptions::new(urls, None, Duration::from_secs(1), |_| Value::Null)
    }

    #[test]
    fn credentials_are_taken_out_of_the_address_and_never_shown() {
        let options = read("nats://hub:p%40ss-word@one:4222, nats://two").unwrap();
        assert!(matches!(&options.login, Login::Password(user, password) if user == "hub" && password.expose() == "p@ss-word"));
        let shown = format!("{options:?} {}", options.address());
        assert!(!shown.contains("word") && !shown.contains("hub") && shown.contains("nats://one:4222"), "{shown}");
        let options = read("tls://a-token@one").unwrap();
        assert!(options.tls && matches!(&options.login, Login::Token(token) if token.expose() == "a-token"));
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for wrong in ["", ",", "hub:secret@one:4222", "https://hub:secret@one", "nats://", "nats://hub:secret@one:port"] {
            let fault = read(wrong).unwrap_err();
            assert!(!fault.contains("secret"), "{wrong}: {fault}");
        }
    }
}
