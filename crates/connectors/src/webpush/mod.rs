//! Web Push: notices to browsers and installed web applications, by each browser's own push service.
//!
//! Docs: RFC 8030 (the call), 8291 and 8188 (encryption), 8292 (VAPID). There is nobody to sign up with: a key pair of ours is all.
//! The browser subscribes with its public half, so another key ends every subscription. The address of a subscription is a
//! capability and never shown. No service tells what became of a notice; the tag makes a repeat replace what was shown.

mod crypt;
mod subscription;
mod vapid;

use async_trait::async_trait;
use garde::Validate;
use p256::SecretKey;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use uzel_model::{
    CallError, Channel, Client, Connector, Malformed, Outbound, Outgoing, Provider, Reading, Refusal, Reply, Request, Secret,
    connector::Variables,
    port::{Device, Messages, Sent},
};

use self::subscription::Subscription;
use crate::notice;

pub(crate) const PROVIDER: Provider =
    Provider::new::<WebPush>("webpush", "Web Push").with_words(include_str!("words.toml")).with_variables(Variables {
        slug: "push",
        needed: &[("VAPID_PRIVATE_KEY", "vapid_private_key"), ("VAPID_SUBJECT", "vapid_subject")],
        optional: &[],
    });

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebPush {
    /// Our private key, as `uzel keys vapid` prints it. Keep it: with another key no browser that has allowed notices gets any.
    #[garde(skip)]
    vapid_private_key: Secret,
    /// Where a push service can reach you if something is wrong: an e-mail address or the address of a page.
    #[garde(length(chars, min = 1, max = 200))]
    #[schemars(length(min = 1, max = 200), example = "mailto:owner@example.com")]
    vapid_subject: String,
    /// Title of notices that bring none.
    #[serde(default = "title")]
    #[garde(length(chars, min = 1, max = 100))]
    #[schemars(length(min = 1, max = 100))]
    title: String,
    /// Seconds for which a push service keeps a notice while the browser cannot be reached.
    #[serde(default = "ttl_s")]
    #[garde(range(min = 0, max = 2_419_200))]
    #[schemars(range(min = 0, max = 2_419_200))]
    ttl_s: u32,
}

fn title() -> String {
    "Uzel".to_owned()
}

fn ttl_s() -> u32 {
    86_400
}

impl Connector for WebPush {
    /// Push services call nobody.
    fn keyed(&self) -> bool {
        false
    }

    fn parse(&self, _request: &Request) -> Result<Reading, Malformed> {
        Err(Malformed::new("push services tell nothing: nobody is expected to call here"))
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }
}

#[async_trait]
impl Messages for WebPush {
    fn channel(&self) -> Channel {
        Channel::Push
    }

    fn repeatable(&self) -> bool {
        true
    }

    fn tells_delivery(&self) -> bool {
        false
    }

    fn device(&self, given: &str) -> Result<Device, String> {
        Subscription::read(given).map(Subscription::device)
    }

    fn public_key(&self) -> Option<Result<String, CallError>> {
        Some(self.key().map(|key| vapid::public_key(&key)))
    }

    async fn send(&self, client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        let to = Subscription::read(message.device()?)
            .map_err(|reason| CallError::refused(Refusal::NotHere, "subscription", reason))?;
        let content = message.content;
        let title = notice::title(content.subject.as_deref().unwrap_or(&self.title));
        let text = notice::fit(&content.text, |body| {
            json!({ "title": title, "body": body, "link": content.link, "tag": message.key }).to_string().into_bytes()
        });
        let key = self.key()?;
        let mut outgoing = Outgoing::new("POST", &to.endpoint)
            .to_a_stranger()
            .header("ttl", self.ttl_s.to_string())
            .header("urgency", if content.silent { "low" } else { "normal" })
            .header("topic", topic(message.key))
            .header("content-encoding", "aes128gcm")
            .header("content-type", "application/octet-stream")
            .header("authorization", vapid::authorization(&key, &to.origin, &self.subject(), client.now()));
        outgoing.body = crypt::encrypt(&text, &to.key, &to.auth, &random_key(), rand::random()).into();
        answer(&client.send(outgoing).await?, message.key)
    }
}

impl WebPush {
    fn key(&self) -> Result<SecretKey, CallError> {
        vapid::key(self.vapid_private_key.expose()).ok_or_else(|| {
            let reason = "vapid_private_key is no private key of VAPID (32 bytes as base64url): `uzel keys vapid` makes one";
            CallError::refused(Refusal::Account, "vapid_private_key", reason)
        })
    }

    /// People write an address without its scheme.
    fn subject(&self) -> String {
        let subject = self.vapid_subject.trim();
        match subject.contains(':') {
            true => subject.to_owned(),
            false if subject.contains('@') => format!("mailto:{subject}"),
            false => format!("https://{subject}"),
        }
    }
}

/// A new key pair of VAPID as base64url: the private key, and the public one.
pub fn new_vapid_keys() -> (String, String) {
    vapid::new_keys()
}

/// One number in 2³² is no private key.
fn random_key() -> SecretKey {
    loop {
        if let Ok(key) = SecretKey::from_slice(&rand::random::<[u8; 32]>()) {
            return key;
        }
    }
}

/// What a waiting notice is replaced by: its own repeat. A topic has 32 characters at the most.
fn topic(key: &str) -> String {
    let letters: Vec<char> = key.chars().filter(|sign| sign.is_ascii_alphanumeric() || "-_".contains(*sign)).collect();
    letters[letters.len().saturating_sub(32)..].iter().collect()
}

/// What the service says decides nothing: only its status does.
fn answer(reply: &Reply, key: &str) -> Result<Sent, CallError> {
    let refused = |refusal, reason: &str| Err(CallError::refused(refusal, reply.status, reason));
    match reply.status {
        200..=299 if reply.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) => {
            Err(CallError::Unreadable("a page instead of a push service's answer".to_owned()))
        }
        200..=299 => Ok(Sent::new(key)),
        404 | 410 => refused(Refusal::NotHere, "the browser's subscription is gone"),
        403 => refused(
            Refusal::Account,
            "the push service refuses our key: is it the one that browsers subscribed with, and is the clock of this machine right?",
        ),
        413 => refused(Refusal::Command, "the notice is too large for the push service"),
        _ => refused(Refusal::Ours, "the push service does not take our request"),
    }
}

#[cfg(test)]
mod tests {
    use uzel_model::{Address, Content};

    use super::*;
    use crate::testing::Script;

    const KEY: &str = "DbJmMtU4IvRbdE7C6F8tvj63KCf2aktWdK_vNOdPwes";
    const SUBSCRIPTION: &str = include_str!("../../../sandbox/samples/push/webpush_subscription.json");

    fn connector(settings: serde_json::Value) -> Box<dyn Connector> {
        let mut all = json!({ "vapid_private_key": KEY, "vapid_subject": "ops@example.com" });
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        PROVIDER.open(all).unwrap()
    }

    async fn send(script: &Script, connector: &dyn Connector, device: &str) -> Result<Sent, CallError> {
        let to = Address::Device(device.to_owned());
        let content = Content { silent: true, ..Content::text("1 250 000 сум") };
        let message = Outbound { to: &to, content: &content, key: "cmd_01h455vb4pex5vsknk084sn02q" };
        connector.messages().unwrap().send(&Client::new(script), message).await
    }

    #[tokio::test]
    async fn each_answer_of_a_push_service_has_its_class() {
        let connector = connector(json!({}));
        for (status, refusal) in [
            (201, None),
            (200, None),
            (202, None),
            (204, None),
            (400, Some(Refusal::Ours)),
            (403, Some(Refusal::Account)),
            (404, Some(Refusal::NotHere)),
            (410, Some(Refusal::NotHere)),
            (413, Some(Refusal::Command)),
        ] {
            let script = Script::new(&[(status, "whatever")]);
            let got = match send(&script, &*connector, SUBSCRIPTION).await {
                Err(CallError::Refused { refusal, .. }) => Some(refusal),
                other => other.map(|_| None).unwrap(),
            };
            assert_eq!(got, refusal, "{status}");
        }
    }

    #[tokio::test]
    async fn the_headers_are_those_of_the_rfcs_and_the_address_does_not_show() {
        let script = Script::new(&[(201, "")]);
        assert_eq!(send(&script, &*connector(json!({ "ttl_s": 0 })), SUBSCRIPTION).await.unwrap().provider_id.len(), 30);
        let sent = &script.sent()[0];
        let header = |name: &str| &sent.headers.iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!(header("ttl"), "0");
        assert_eq!(header("urgency"), "low");
        assert_eq!(header("topic"), "cmd_01h455vb4pex5vsknk084sn02q");
        assert!(header("authorization").starts_with("vapid t="));
        assert_eq!(
            sent.body.len(),
            103 + r#"{"body":"1 250 000 сум","link":null,"tag":"cmd_01h455vb4pex5vsknk084sn02q","title":"Uzel"}"#.len()
        );
        assert_eq!(format!("{sent:?}"), "POST https://push.example.net/…");
    }

    #[tokio::test]
    async fn a_key_that_is_none_is_the_accounts_fault_and_a_device_that_is_none_is_not_here() {
        let script = Script::new(&[]);
        let wrong = connector(json!({ "vapid_private_key": "no key" }));
        let refusal = |result: Result<Sent, CallError>| match result {
            Err(CallError::Refused { refusal, .. }) => refusal,
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal(send(&script, &*wrong, SUBSCRIPTION).await), Refusal::Account);
        assert!(matches!(wrong.messages().unwrap().public_key(), Some(Err(_))));
        assert_eq!(refusal(send(&script, &*connector(json!({})), "device").await), Refusal::NotHere);
    }
}
