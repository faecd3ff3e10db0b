//! Telegram bot: notices to a merchant's own people, and what they do in the chat with the bot.
//!
//! Docs: <https://core.telegram.org/bots/api>. The token stands in the path of every call. A webhook is not signed: it carries a
//! secret of ours in a header, which is the hub's webhook key unless the settings name another. A bot cannot write first: a person
//! opens the chat, by a link with a code. Numbers of updates may start anew after a quiet week, so they are keys together with the
//! time. The 429's wait stands in `Retry-After` too.

mod messages;
mod updates;
mod wire;

use async_trait::async_trait;
use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::{
    CallError, Client, Connector, Malformed, Provider, Reading, Refusal, Rejection, Request, Secret, Timestamp,
    connector::{Rate, Scope, Variables},
    port::{Invites, Messages, Page, Polls, Subscription},
    signature,
};

const SECRET_HEADER: &str = "x-telegram-bot-api-secret-token";
/// What we ask to be told of; what is not named keeps an earlier setting.
const UPDATES: [&str; 3] = ["message", "callback_query", "my_chat_member"];
/// Updates in one page of a poll.
const PAGE: usize = 100;
/// Telegram allows about 30.
const CALLS_PER_S: u32 = 25;

pub(crate) const PROVIDER: Provider =
    Provider::new::<Telegram>("telegram", "Telegram").with_words(include_str!("words.toml")).with_variables(Variables {
        slug: "telegram",
        needed: &[("TELEGRAM_BOT_TOKEN", "bot_token")],
        optional: &[("TELEGRAM_WEBHOOK_SECRET", "webhook_secret"), ("TELEGRAM_API_URL", "base_url")],
    });

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Telegram {
    /// The bot's token, from @BotFather: `7000000001:AA…`.
    #[garde(skip)]
    bot_token: Secret,
    /// The secret that webhooks carry, 1 to 256 of `A-Z`, `a-z`, `0-9`, `_` and `-`; without it the hub's own webhook key.
    #[garde(skip)]
    webhook_secret: Option<Secret>,
    /// The bot's name, without `@`; without it Telegram is asked for it.
    #[garde(inner(length(chars, min = 1, max = 64)))]
    #[schemars(length(min = 1, max = 64))]
    bot_username: Option<String>,
    /// Ask for updates every so many seconds, where the hub has no public address. Telegram does not allow it beside a webhook.
    #[garde(inner(range(min = 1, max = 3600)))]
    #[schemars(range(min = 1, max = 3600))]
    poll_s: Option<u32>,
    /// Where the API lives: a Bot API server of your own, or a way around a block.
    #[serde(default = "base_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
}

fn base_url() -> String {
    "https://api.telegram.org".to_owned()
}

/// What Telegram takes as a secret.
fn is_secret_token(secret: &str) -> bool {
    let well = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=256).contains(&secret.len()) && secret.bytes().all(well)
}

impl Connector for Telegram {
    fn credential_headers(&self) -> &'static [&'static str] {
        &[SECRET_HEADER]
    }

    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        if request.key.is_some() {
            return Ok(());
        }
        let given = request.header(SECRET_HEADER).ok_or(Rejection::Unsigned)?;
        let own = self.webhook_secret.as_ref().is_some_and(|secret| signature::equal(secret.expose(), given));
        if own { Ok(()) } else { Err(Rejection::Forged) }
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        updates::read(&request.json()?)
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }

    fn invites(&self) -> Option<&dyn Invites> {
        Some(self)
    }

    fn polls(&self) -> Option<&dyn Polls> {
        self.poll_s.map(|_| self as &dyn Polls)
    }

    fn subscription(&self) -> Option<&dyn Subscription> {
        Some(self)
    }

    fn rates(&self) -> Vec<Rate> {
        let account = signature::sha256_hex([self.bot_token.expose().as_bytes()]);
        vec![Rate::per_second(Scope::Account(account), CALLS_PER_S)]
    }
}

#[async_trait]
impl Invites for Telegram {
    async fn link(&self, client: &Client<'_>, code: &str) -> Result<String, CallError> {
        let name = match &self.bot_username {
            Some(name) => name.trim_start_matches('@').to_owned(),
            None => {
                let me = self.reads(client, "getMe", &json!({})).await?;
                let name = me["username"].as_str().filter(|name| is_name(name)).map(str::to_owned);
                name.ok_or_else(|| CallError::Unreadable("getMe tells no username".to_owned()))?
            }
        };
        Ok(format!("https://t.me/{name}?start={code}"))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// For installations without a public address. Telegram refuses it while a webhook is set.
#[async_trait]
impl Polls for Telegram {
    fn every_s(&self) -> u32 {
        self.poll_s.unwrap_or(60)
    }

    async fn poll(&self, client: &Client<'_>, cursor: Option<&str>, _since: Timestamp) -> Result<Page, CallError> {
        let Some(cursor) = cursor else { return Ok(Page { next: "0".to_owned(), ..Page::default() }) };
        let offset: i64 = cursor.parse().unwrap_or_default();
        let asked = json!({ "offset": offset, "limit": PAGE, "timeout": 0, "allowed_updates": UPDATES });
        let told = self.reads(client, "getUpdates", &asked).await?;
        let updates = told.as_array().ok_or_else(|| CallError::Unreadable("getUpdates gives no list".to_owned()))?;
        let ids = updates.iter().filter_map(|update| update["update_id"].as_i64());
        let next = ids.max().map_or(offset, |last| last.saturating_add(1));
        let bodies = updates.iter().map(|update| update.to_string().into()).collect();
        Ok(Page { bodies, next: next.to_string(), more: updates.len() >= PAGE && next != offset })
    }
}

#[async_trait]
impl Subscription for Telegram {
    async fn subscribe(&self, client: &Client<'_>, url: &str) -> Result<(), CallError> {
        let (url, key) = apart(url);
        let secret = self.webhook_secret.as_ref().map(|secret| secret.expose().to_owned()).or(key);
        let Some(secret) = secret else {
            let why = "its address has no `key`, and the settings no webhook_secret: nothing would prove what comes";
            return Err(CallError::refused(Refusal::Ours, "secret", why));
        };
        if !is_secret_token(&secret) {
            let why = "webhook_secret must be 1 to 256 of A-Z, a-z, 0-9, _ and -";
            return Err(CallError::refused(Refusal::Ours, "secret", why));
        }
        let asked = json!({ "url": url, "secret_token": secret, "allowed_updates": UPDATES });
        self.reads(client, "setWebhook", &asked).await.map(drop)
    }

    async fn check(&self, client: &Client<'_>, url: &str) -> Result<Option<String>, CallError> {
        let info = self.reads(client, "getWebhookInfo", &json!({})).await?;
        let known = info["url"].as_str().unwrap_or_default();
        if known.is_empty() {
            return Ok(Some("no webhook is set".to_owned()));
        }
        if known != apart(url).0 {
            return Ok(Some("another address than ours is set: another program uses this bot's token".to_owned()));
        }
        let waiting = info["pending_update_count"].as_i64().unwrap_or_default();
        let failed = info["last_error_message"].as_str().filter(|_| waiting > 0);
        Ok(failed.map(|why| format!("Telegram cannot reach us ({waiting} updates wait): {why}")))
    }
}

/// An address without its key, and the key: Telegram carries it in a header.
fn apart(url: &str) -> (String, Option<String>) {
    let Some((path, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let (keys, others): (Vec<&str>, Vec<&str>) = query.split('&').partition(|pair| pair.starts_with("key="));
    let key = keys.first().map(|pair| pair["key=".len()..].to_owned()).filter(|key| !key.is_empty());
    let url = if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
    (url, key)
}

impl Telegram {
    fn url(&self, method: &str) -> String {
        format!("{}/bot{}/{method}", self.base_url.trim_end_matches('/'), self.bot_token.expose())
    }

    /// A call that may be repeated whatever became of it.
    async fn reads(&self, client: &Client<'_>, method: &str, asked: &Value) -> Result<Value, CallError> {
        let outgoing = uzel_model::Outgoing::new("POST", self.url(method)).json(asked).reads();
        wire::result(&client.send(outgoing).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Script};

    fn open(settings: Value) -> Box<dyn Connector> {
        PROVIDER.open(settings).unwrap()
    }

    #[test]
    fn a_webhook_is_proved_by_the_hub_s_key_or_by_the_secret_of_the_settings() {
        let ours = open(json!({ "bot_token": "7000000001:AAtest", "webhook_secret": "hub_2026-secret" }));
        let with = |secret: Option<&str>, key: Option<&str>| {
            let mut request = testing::post("application/json", "{}");
            request.key = key.map(str::to_owned);
            request.headers.extend(secret.map(|secret| (SECRET_HEADER.to_owned(), secret.to_owned())));
            ours.verify(&request)
        };
        assert_eq!(with(Some("hub_2026-secret"), None), Ok(()));
        assert_eq!(with(None, Some("key_1")), Ok(()));
        assert_eq!(with(Some("hub_2026-secreT"), None), Err(Rejection::Forged));
        assert_eq!(with(Some(""), None), Err(Rejection::Forged));
        assert_eq!(with(None, None), Err(Rejection::Unsigned));
        for wrong in ["", "a b", "ё", &"x".repeat(257)] {
            assert!(!is_secret_token(wrong), "{wrong}");
        }
    }

    #[tokio::test]
    async fn the_webhook_s_address_goes_without_its_key_which_becomes_the_secret() {
        let script = Script::new(&[(200, r#"{"ok":true,"result":true}"#)]);
        let ours = open(json!({ "bot_token": "7000000001:AAtest" }));
        let subscription = ours.subscription().unwrap();
        subscription.subscribe(&Client::new(&script), "https://hub.example/hooks/con_1?key=abc").await.unwrap();
        let body: Value = serde_json::from_slice(&script.sent()[0].body).unwrap();
        assert_eq!((&body["url"], &body["secret_token"]), (&json!("https://hub.example/hooks/con_1"), &json!("abc")));
        let script = Script::new(&[]);
        let unproved = subscription.subscribe(&Client::new(&script), "https://hub.example/hooks/con_1").await;
        assert!(matches!(unproved, Err(CallError::Refused { refusal: Refusal::Ours, .. })), "{unproved:?}");
        for (info, well) in [
            (r#"{"url":"https://hub.example/hooks/con_1","pending_update_count":0}"#, true),
            (r#"{"url":""}"#, false),
            (r#"{"url":"https://other.example/"}"#, false),
            (r#"{"url":"https://hub.example/hooks/con_1","pending_update_count":3,"last_error_message":"x"}"#, false),
        ] {
            let script = Script::new(&[(200, &format!(r#"{{"ok":true,"result":{info}}}"#))]);
            let told = subscription.check(&Client::new(&script), "https://hub.example/hooks/con_1?key=abc").await.unwrap();
            assert_eq!(told.is_none(), well, "{info}: {told:?}");
        }
    }

    #[tokio::test]
    async fn polls_go_on_after_the_last_update() {
        let ours = open(json!({ "bot_token": "7000000001:AAtest", "poll_s": 3 }));
        let polls = ours.polls().unwrap();
        let script = Script::new(&[(200, r#"{"ok":true,"result":[{"update_id":7},{"update_id":9}]}"#)]);
        let client = Client::new(&script);
        let first = polls.poll(&client, None, client.now()).await.unwrap();
        assert_eq!((first.bodies.len(), first.next.as_str()), (0, "0"));
        let page = polls.poll(&client, Some("5"), client.now()).await.unwrap();
        assert_eq!((page.bodies.len(), page.next.as_str(), page.more), (2, "10", false));
    }

    #[tokio::test]
    async fn a_link_names_the_bot_that_telegram_names() {
        let ours = open(json!({ "bot_token": "7000000001:AAtest" }));
        let script = Script::new(&[(200, r#"{"ok":true,"result":{"id":7000000001,"username":"hub_demo_bot"}}"#)]);
        let link = ours.invites().unwrap().link(&Client::new(&script), "c0de").await.unwrap();
        assert_eq!(link, "https://t.me/hub_demo_bot?start=c0de");
        let script = Script::new(&[(200, r#"{"ok":true,"result":{"username":"a/b?c"}}"#)]);
        assert!(ours.invites().unwrap().link(&Client::new(&script), "c0de").await.is_err());
        assert!(!format!("{:?}", script.sent()[0]).contains("AAtest"), "the token is in the path");
    }
}
