//! Access: a token from the settings, one that Poster hands over in a webhook, or OAuth's code. It lasts two years and is not renewed.

use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::Value;
use uzel_model::{
    CallError, Client, Outgoing, Refusal, Secret, Timestamp,
    port::{Authorization, Login, Session},
};

use super::{Poster, is_label};
use crate::tree;

const LASTS_DAYS: u32 = 730;
/// Between the parts of the one form that Poster wants as multipart.
const BOUNDARY: &str = "-uzel-form-part-7d1f0c2a9b";

impl Poster {
    pub(super) fn session(&self, access: Secret, now: Timestamp) -> Session {
        let lasts = SignedDuration::from_hours(24 * i64::from(LASTS_DAYS));
        Session { access, refresh: None, expires_at: now.checked_add(lasts).ok() }
    }
}

#[async_trait]
impl Login for Poster {
    async fn renew(&self, _client: &Client<'_>, session: Option<&Session>) -> Result<Session, CallError> {
        match &self.access_token {
            Some(token) if session.is_none_or(|session| session.access.expose() != token.expose()) => {
                Ok(Session { access: token.clone(), refresh: None, expires_at: None })
            }
            Some(_) => Err(CallError::Unauthorized("Poster refused the access token: take a new one in its console".to_owned())),
            None => Err(CallError::Unauthorized(
                "Poster gave no access yet, or it has ended: log in by `uzel connections login`".to_owned(),
            )),
        }
    }

    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        // Poster refuses a token with HTTP 200, so a session is not renewed when another token is set: the set one counts.
        let token = self.access_token.as_ref().unwrap_or(&session.access);
        let join = if outgoing.url.contains('?') { '&' } else { '?' };
        outgoing.url = format!("{}{join}token={}", outgoing.url, token.expose());
    }
}

#[async_trait]
impl Authorization for Poster {
    fn lasts_days(&self) -> Option<u32> {
        Some(LASTS_DAYS)
    }

    fn returns_state(&self) -> bool {
        false
    }

    fn start_url(&self, _state: &str, redirect_url: &str) -> String {
        let id = self.application_id.as_deref().unwrap_or_default();
        let query = [("application_id", id), ("redirect_uri", redirect_url), ("response_type", "code")];
        let query = serde_urlencoded::to_string(query).unwrap_or_default();
        format!("{}/api/auth?{query}", self.base_url.trim_end_matches('/'))
    }

    async fn finish(&self, client: &Client<'_>, query: &[(String, String)], redirect_url: &str) -> Result<Session, CallError> {
        let given = |name: &str| {
            query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let refused = |code: &str, reason: String| CallError::refused(Refusal::Account, code, reason);
        let Some((id, secret)) = self.application() else {
            return Err(CallError::Unauthorized("the application's ID and secret are not set".to_owned()));
        };
        let code = given("code").ok_or_else(|| refused("code", "Poster sent no code: access was not allowed".to_owned()))?;
        let account = given("account").filter(|account| is_label(account));
        let account = account.ok_or_else(|| refused("account", "Poster did not name the account".to_owned()))?;
        if let Some(ours) = self.account.as_deref().filter(|ours| *ours != account) {
            return Err(refused("account", format!("access was given to {account}, but this connection is set up for {ours}")));
        }
        let url = self.account_url.replace("{account}", account);
        let fields = [
            ("application_id", id),
            ("application_secret", secret.expose()),
            ("grant_type", "authorization_code"),
            ("redirect_uri", redirect_url),
            ("code", code),
        ];
        let mut outgoing = Outgoing::new("POST", format!("{}/api/v2/auth/access_token", url.trim_end_matches('/')))
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .logs_in();
        outgoing.body = multipart(&fields).into();
        let reply = client.send(outgoing).await?;
        let answer: Value =
            if reply.status < 300 { reply.json()? } else { serde_json::from_slice(&reply.body).unwrap_or_default() };
        match tree::text(&answer["access_token"]).filter(|_| answer.get("error_type").is_none()) {
            Some(token) => Ok(self.session(Secret::new(token), client.now())),
            None => {
                let said = [&answer["error_message"], &answer["message"], &answer["error"]].into_iter().find_map(tree::text);
                let said = said.unwrap_or_else(|| format!("it answered {}", reply.status));
                Err(CallError::Unauthorized(format!("Poster did not take the code ({said}): begin again")))
            }
        }
    }
}

fn multipart(fields: &[(&str, &str)]) -> String {
    let part = |(name, value): &(&str, &str)| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    format!("{}--{BOUNDARY}--\r\n", fields.iter().map(part).collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    #[tokio::test]
    async fn the_account_that_a_browser_names_is_a_name_and_ours() {
        let poster =
            PROVIDER.open(json!({ "account": "demo-cafe", "application_id": "1234", "application_secret": "s" })).unwrap();
        let script =
            Script::new(&[(200, r#"{"access_token":"700001:5d41402abc4b2a76b9719d911017c592","account_number":"700001"}"#)]);
        let (client, authorization) = (Client::new(&script), poster.authorization().unwrap());
        let redirect = "https://hub.example/oauth/poster/callback";
        assert_eq!(
            authorization.start_url("unused", redirect),
            "https://joinposter.com/api/auth?application_id=1234&redirect_uri=https%3A%2F%2Fhub.example%2Foauth%2Fposter%2Fcallback&response_type=code"
        );
        let finish = async |account: &str| {
            let query = [("code", "c0ffee"), ("account", account)].map(|(name, value)| (name.to_owned(), value.to_owned()));
            authorization.finish(&client, &query, redirect).await
        };
        for account in ["", "evil.example/", "demo-cafe.evil.example#", "DEMO", "other-cafe", "a@b", "кафе"] {
            assert!(matches!(finish(account).await, Err(CallError::Refused { .. })), "{account}");
        }
        let session = finish("demo-cafe").await.unwrap();
        assert_eq!(session.access.expose(), "700001:5d41402abc4b2a76b9719d911017c592");
        let sent = script.sent();
        assert_eq!(sent[0].url, "https://demo-cafe.joinposter.com/api/v2/auth/access_token");
        let body = String::from_utf8(sent[0].body.to_vec()).unwrap();
        assert!(body.contains("name=\"redirect_uri\"\r\n\r\nhttps://hub.example/oauth/poster/callback\r\n"), "{body}");
        let mut call = Outgoing::new("GET", "https://joinposter.com/api/access.getSpots?");
        poster.login().unwrap().apply(&session, &mut call);
        assert!(call.url.ends_with("&token=700001:5d41402abc4b2a76b9719d911017c592"));
    }
}
