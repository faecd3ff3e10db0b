//! FCM: notices to applications on Android and iOS, by Firebase Cloud Messaging (HTTP v1).
//!
//! Docs: <https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages>. A notice that is taken may never come: nobody
//! tells. Which error it was stands anywhere in `details` (`FcmError`), or nowhere; a 404 without it may be a wrong project. 401 with
//! `THIRD_PARTY_AUTH_ERROR` is about Apple's key in the Firebase project, and not about our token. All values of `data` are texts.

mod account;
mod login;
mod reply;

use async_trait::async_trait;
use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::{
    Address, CallError, Channel, Client, Connector, Content, Malformed, Outbound, Outgoing, Provider, Reading, Refusal, Request,
    Secret,
    connector::Variables,
    port::{Device, Login, Messages, Sent},
};

use self::account::Account;
use crate::notice;

pub(crate) const PROVIDER: Provider =
    Provider::new::<Fcm>("fcm", "Firebase Cloud Messaging").with_words(include_str!("words.toml")).with_variables(Variables {
        slug: "fcm",
        needed: &[("FCM_SERVICE_ACCOUNT_JSON", "service_account")],
        optional: &[("FCM_PROJECT_ID", "project_id"), ("FCM_BASE_URL", "base_url"), ("FCM_TOKEN_URL", "token_url")],
    });

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fcm {
    /// The JSON file of a service account, whole: Firebase console, project settings, "Service accounts".
    #[garde(skip)]
    service_account: Secret,
    /// Id of the Firebase project, if it is not the one in the file.
    #[garde(inner(length(chars, min = 1, max = 100)))]
    #[schemars(length(min = 1, max = 100))]
    project_id: Option<String>,
    /// Title of notices that bring none.
    #[serde(default = "title")]
    #[garde(length(chars, min = 1, max = 100))]
    #[schemars(length(min = 1, max = 100))]
    title: String,
    /// Seconds for which a notice is kept while the device cannot be reached.
    #[serde(default = "ttl_s")]
    #[garde(range(min = 0, max = 2_419_200))]
    #[schemars(range(min = 0, max = 2_419_200))]
    ttl_s: u32,
    /// Where the API lives.
    #[serde(default = "base_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
    /// Where Google gives tokens.
    #[serde(default = "token_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    token_url: String,
}

fn title() -> String {
    "Uzel".to_owned()
}

fn ttl_s() -> u32 {
    86_400
}

fn base_url() -> String {
    "https://fcm.googleapis.com".to_owned()
}

fn token_url() -> String {
    "https://oauth2.googleapis.com/token".to_owned()
}

impl Connector for Fcm {
    /// FCM calls nobody.
    fn keyed(&self) -> bool {
        false
    }

    fn parse(&self, _request: &Request) -> Result<Reading, Malformed> {
        Err(Malformed::new("FCM tells nothing: nobody is expected to call here"))
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }

    fn login(&self) -> Option<&dyn Login> {
        Some(self)
    }
}

#[async_trait]
impl Messages for Fcm {
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
        let token = given.trim();
        if !is_token(token) {
            return Err("a registration token of FCM is 20 to 4,096 letters, digits and `_:.-`".to_owned());
        }
        Ok(Device { address: Address::Device(token.to_owned()), name: token.to_owned(), shown: "FCM".to_owned() })
    }

    async fn send(&self, client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        let token = message.device()?;
        if !is_token(token) {
            return Err(CallError::refused(Refusal::NotHere, "token", "this is no registration token of FCM"));
        }
        let body = notice::fit(&message.content.text, |text| self.message(token, message.content, text, message.key));
        let replied = client.send(self.call(body)?).await;
        let sent = reply::read(&replied.map_err(|error| reply::at_least_a_minute(error, client.now()))?);
        match sent {
            // A bad field and a bad token look alike: a message without anything tells.
            Err(CallError::Refused { refusal: Refusal::Ours, code, reason }) if code == reply::INVALID_ARGUMENT => {
                let trial = json!({ "validate_only": true, "message": { "token": token } }).to_string().into_bytes();
                match reply::read(&client.send(self.call(trial)?).await?) {
                    Err(CallError::Refused { code: again, .. }) if again == code => {
                        Err(CallError::refused(Refusal::NotHere, code, reason))
                    }
                    _ => Err(CallError::refused(Refusal::Ours, code, reason)),
                }
            }
            sent => sent,
        }
    }
}

/// As Firebase's libraries make them.
fn is_token(token: &str) -> bool {
    (20..=4_096).contains(&token.len()) && token.chars().all(|sign| sign.is_ascii_alphanumeric() || "_:.-".contains(sign))
}

impl Fcm {
    fn account(&self) -> Result<Account, CallError> {
        Account::read(self.service_account.expose())
            .map_err(|reason| CallError::refused(Refusal::Account, "service_account", format!("service_account {reason}")))
    }

    fn call(&self, body: Vec<u8>) -> Result<Outgoing, CallError> {
        let account = self.account()?;
        let project = self.project_id.as_ref().or(account.project_id.as_ref()).ok_or_else(|| {
            CallError::refused(Refusal::Account, "project_id", "neither project_id nor the service account names the project")
        })?;
        let url = format!("{}/v1/projects/{project}/messages:send", self.base_url.trim_end_matches('/'));
        let mut outgoing = Outgoing::new("POST", url).header("content-type", "application/json; charset=utf-8");
        outgoing.body = body.into();
        Ok(outgoing)
    }

    fn message(&self, token: &str, content: &Content, text: &str, key: &str) -> Vec<u8> {
        let mut data = json!({ "tag": key });
        if let Some(link) = &content.link {
            data["link"] = json!(link);
        }
        let message: Value = json!({
            "token": token,
            "notification": { "title": notice::title(content.subject.as_deref().unwrap_or(&self.title)), "body": text },
            "data": data,
            "android": {
                "priority": if content.silent { "normal" } else { "high" },
                "ttl": format!("{}s", self.ttl_s),
                "notification": { "tag": key },
            },
            "apns": {
                "headers": { "apns-priority": if content.silent { "5" } else { "10" }, "apns-collapse-id": key },
                "payload": { "aps": if content.silent { json!({}) } else { json!({ "sound": "default" }) } },
            },
        });
        json!({ "message": message }).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    const TOKEN: &str = "cGlZ-Rx0TjC4:APA91bE_test_token_invented";

    async fn send(answers: &[(u16, &str)]) -> (Result<Sent, CallError>, Vec<Outgoing>) {
        let connector = PROVIDER.open(json!({ "service_account": account::tests::sample().to_string() })).unwrap();
        let script = Script::new(answers);
        let to = Address::Device(TOKEN.to_owned());
        let content = Content {
            subject: Some("Выручка за день".to_owned()),
            link: Some("https://hub.example/d".to_owned()),
            ..Content::text("1 250 000 сум")
        };
        let message = Outbound { to: &to, content: &content, key: "cmd_1" };
        let sent = connector.messages().unwrap().send(&Client::new(&script), message).await;
        (sent, script.sent())
    }

    #[tokio::test]
    async fn a_notice_goes_as_fcm_wants_it() {
        let taken = include_str!("../../../sandbox/samples/push/fcm_send_response.json");
        let (sent, calls) = send(&[(200, taken)]).await;
        assert!(sent.unwrap().provider_id.starts_with("projects/hub-demo/messages/0:"));
        assert_eq!(calls[0].url, "https://fcm.googleapis.com/v1/projects/hub-demo/messages:send");
        let body: Value = serde_json::from_slice(&calls[0].body).unwrap();
        insta::assert_json_snapshot!(body);
        assert!(body["message"]["data"].as_object().unwrap().values().all(Value::is_string));
    }

    #[tokio::test]
    async fn a_malformed_token_is_told_from_a_bad_field_by_a_dry_run() {
        let wrong = include_str!("../../../sandbox/samples/push/fcm_error_invalid_token.json");
        let refusal = |sent: Result<Sent, CallError>| match sent {
            Err(CallError::Refused { refusal, .. }) => refusal,
            other => panic!("{other:?}"),
        };
        let (sent, calls) = send(&[(400, wrong), (400, wrong)]).await;
        assert_eq!(refusal(sent), Refusal::NotHere);
        let trial: Value = serde_json::from_slice(&calls[1].body).unwrap();
        assert_eq!(trial, json!({ "validate_only": true, "message": { "token": TOKEN } }));
        let (sent, _) = send(&[(400, wrong), (200, r#"{"name":"projects/hub-demo/messages/fake"}"#)]).await;
        assert_eq!(refusal(sent), Refusal::Ours);
    }
}
