//! Logging in: a long-lived token, or OAuth with a refresh token that works once.

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_model::{
    CallError, Client, Outgoing, Refusal, Secret, Timestamp,
    port::{Authorization, Login, Session},
};

use super::Amocrm;
use crate::tree;

/// What stands in a session's refresh secret: amoCRM wants the redirect address told again at every refresh, and an
/// account that moved is called at its new address.
#[derive(Clone, Serialize, Deserialize)]
struct Grant {
    token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redirect_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
}

impl Grant {
    fn of(session: &Session) -> Option<Self> {
        let refresh = session.refresh.as_ref()?.expose();
        // A bare refresh token is as good as one of ours.
        Some(serde_json::from_str(refresh).unwrap_or_else(|_| Self { token: refresh.to_owned(), redirect_url: None, host: None }))
    }
}

#[async_trait]
impl Login for Amocrm {
    async fn renew(&self, client: &Client<'_>, session: Option<&Session>) -> Result<Session, CallError> {
        if let Some(token) = &self.long_lived_token {
            // A session with this very token was refused, or we would not be asked again.
            return match session.is_some_and(|session| session.access.expose() == token.expose()) {
                true => Err(CallError::Unauthorized(
                    "amoCRM refused the long-lived token: make a new one in the integration".to_owned(),
                )),
                false => Ok(Session { access: token.clone(), refresh: None, expires_at: None }),
            };
        }
        let Some((session, grant)) = session.and_then(|session| Some((session, Grant::of(session)?))) else {
            return Err(CallError::Unauthorized("not authorised yet: log in by `uzel connections login`".to_owned()));
        };
        let again = |why: &str| {
            CallError::Unauthorized(format!("amoCRM wants a new authorisation ({why}): log in by `uzel connections login`"))
        };
        match self.refresh(client, &grant).await? {
            Traded::Session(session) => Ok(session),
            Traded::Refused(why) => {
                let Some(host) = self.moved_to(client, session.access.expose(), &grant).await else {
                    return Err(again(&why));
                };
                match self.refresh(client, &Grant { host: Some(host), ..grant }).await? {
                    Traded::Session(session) => Ok(session),
                    Traded::Refused(why) => Err(again(&why)),
                }
            }
        }
    }

    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        outgoing.headers.push(("authorization", format!("Bearer {}", session.access.expose())));
        let moved = if session.refresh.is_some() { Grant::of(session).and_then(|grant| grant.host) } else { None };
        let base = self.base();
        if let Some(path) = moved.as_ref().and(outgoing.url.strip_prefix(&base)) {
            outgoing.url = format!("{}{path}", self.base_at(moved.as_deref()));
        }
    }
}

#[async_trait]
impl Authorization for Amocrm {
    /// A refresh token dies after three months without use.
    fn lasts_days(&self) -> Option<u32> {
        Some(90)
    }

    fn start_url(&self, state: &str, _redirect_url: &str) -> String {
        let client = self.client_id.as_deref().unwrap_or_default();
        let query = serde_urlencoded::to_string([("client_id", client), ("state", state), ("mode", "popup")]).unwrap_or_default();
        format!("{}?{query}", self.oauth_url)
    }

    async fn finish(&self, client: &Client<'_>, query: &[(String, String)], redirect_url: &str) -> Result<Session, CallError> {
        let given = |name: &str| {
            query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let refused = |code: &str, reason: String| CallError::refused(Refusal::Account, code, reason);
        if let Some(error) = given("error") {
            return Err(refused("error", format!("amoCRM gave no access: {error}")));
        }
        let code = given("code").ok_or_else(|| refused("code", "amoCRM sent no code".to_owned()))?;
        if given("client_id").is_some_and(|id| !self.client_id.as_deref().is_some_and(|ours| ours.eq_ignore_ascii_case(id))) {
            return Err(refused("client_id", "the access is for another integration".to_owned()));
        }
        let referer = given("referer").ok_or_else(|| refused("referer", "amoCRM did not name the account".to_owned()))?;
        if !self.trusts(referer) {
            return Err(refused("referer", format!("«{referer}» is not an address of amoCRM")));
        }
        let trusted = self.allowed_hosts.iter().any(|allowed| allowed == referer);
        if let Some(host) = self.host.as_ref().filter(|host| !trusted && !host.eq_ignore_ascii_case(referer)) {
            return Err(refused("referer", format!("access was given to {referer}, but this connection is set up for {host}")));
        }
        let grant = Grant { token: String::new(), redirect_url: Some(redirect_url.to_owned()), host: None };
        match self.trade(client, grant, json!({ "grant_type": "authorization_code", "code": code })).await? {
            Traded::Session(session) => Ok(session),
            Traded::Refused(why) => Err(CallError::Unauthorized(format!("amoCRM did not take the code ({why}): begin again"))),
        }
    }
}

enum Traded {
    Session(Session),
    Refused(String),
}

impl Amocrm {
    fn base_at(&self, host: Option<&str>) -> String {
        match host {
            // A sandbox stays where it is, whatever the account is called.
            Some(host) if self.base_url.is_none() => format!("https://{host}"),
            _ => self.base(),
        }
    }

    async fn refresh(&self, client: &Client<'_>, grant: &Grant) -> Result<Traded, CallError> {
        self.trade(client, grant.clone(), json!({ "grant_type": "refresh_token", "refresh_token": grant.token })).await
    }

    /// Trades a code or refresh token for a session, at the address that the grant names.
    async fn trade(&self, client: &Client<'_>, mut grant: Grant, mut body: Value) -> Result<Traded, CallError> {
        let Some((id, secret)) = self.application() else {
            return Err(CallError::Unauthorized("the integration's ID and secret key are not set".to_owned()));
        };
        body["client_id"] = id.into();
        body["client_secret"] = secret.expose().into();
        if let Some(url) = &grant.redirect_url {
            body["redirect_uri"] = url.as_str().into();
        }
        let url = format!("{}/oauth2/access_token", self.base_at(grant.host.as_deref()));
        let reply = match client.send(Outgoing::new("POST", url).json(&body).logs_in()).await {
            Ok(reply) if reply.status < 300 => reply,
            Ok(reply) if [400, 404].contains(&reply.status) => {
                let problem: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                let why = tree::text(&problem["hint"]).or_else(|| tree::text(&problem["title"]));
                return Ok(Traded::Refused(why.unwrap_or_else(|| format!("status {}", reply.status))));
            }
            Ok(reply) if reply.status == 402 => {
                return Err(CallError::refused(Refusal::Account, 402, "the amoCRM account is not paid"));
            }
            Ok(reply) => {
                return Err(CallError::Later { reason: format!("amoCRM answered {} to a log-in", reply.status), at: None });
            }
            Err(CallError::Unauthorized(why)) => return Ok(Traded::Refused(why)),
            Err(error) => return Err(error),
        };
        let answer: Value = reply.json()?;
        let token = |name: &str| {
            tree::text(&answer[name]).ok_or_else(|| CallError::Unreadable(format!("{name} is missing in the answer")))
        };
        grant.token = token("refresh_token")?;
        let lasts = tree::integer(&answer["expires_in"]).unwrap_or(86_400).clamp(600, 7 * 86_400);
        Ok(Traded::Session(Session {
            access: Secret::new(token("access_token")?),
            refresh: Some(Secret::new(json!(grant).to_string())),
            expires_at: client.now().checked_add(SignedDuration::from_secs(lasts - 300)).ok(),
        }))
    }

    /// Where the account lives now, if its address changed. The access token is asked, unproven, for a host that we then
    /// check; tokens from before August 2024 do not know.
    async fn moved_to(&self, client: &Client<'_>, access: &str, grant: &Grant) -> Option<String> {
        let claims = claims(access)?;
        let api = tree::text(&claims["api_domain"]).filter(|host| self.trusts(host))?;
        let url = format!("{}/oauth2/account/current/subdomain", self.base_at(Some(&api)));
        let reply =
            client.send(Outgoing::new("GET", url).header("x-refresh-token", grant.token.as_str()).logs_in()).await.ok()?;
        let answer: Value = reply.json().ok()?;
        let host = tree::text(&answer["domain"]).filter(|host| self.trusts(host))?.to_ascii_lowercase();
        let known = grant.host.as_deref().or(self.host.as_deref());
        known.is_none_or(|known| !known.eq_ignore_ascii_case(&host)).then_some(host)
    }
}

/// What a token says of itself. It is not proven: nothing secret may hang on it.
fn claims(token: &str) -> Option<Value> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// When a token ends, by its own word.
pub(super) fn ends_at(token: &str) -> Option<Timestamp> {
    Timestamp::from_second(tree::integer(&claims(token)?["exp"])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    fn amocrm() -> Box<dyn uzel_model::Connector> {
        let settings = json!({ "host": "example.amocrm.ru", "client_id": "c", "client_secret": "s" });
        super::super::PROVIDER.open(settings).unwrap()
    }

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn sent(script: &Script, place: usize) -> Value {
        serde_json::from_slice(&script.sent()[place].body).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_code_becomes_a_session_and_the_session_a_new_one() {
        let script = Script::new(&[
            (200, r#"{"access_token":"a1","refresh_token":"r1","expires_in":86400}"#),
            (200, r#"{"access_token":"a2","refresh_token":"r2","expires_in":86400}"#),
        ]);
        let (client, amocrm) = (Client::new(&script), amocrm());
        assert_eq!(
            amocrm.authorization().unwrap().start_url("9f&2c", "https://hub.example/oauth/amocrm"),
            "https://www.amocrm.ru/oauth?client_id=c&state=9f%262c&mode=popup"
        );
        let redirect = query(&[("code", "def"), ("referer", "example.amocrm.ru"), ("client_id", "c")]);
        let first = amocrm.authorization().unwrap().finish(&client, &redirect, "https://hub.example/oauth/amocrm").await.unwrap();
        let second = amocrm.login().unwrap().renew(&client, Some(&first)).await.unwrap();
        assert_eq!(second.access.expose(), "a2");
        assert_eq!(second.expires_at.unwrap().as_second(), 86_100);
        assert_eq!(sent(&script, 0)["code"], "def");
        let wanted = json!({ "client_id": "c", "client_secret": "s", "grant_type": "refresh_token", "refresh_token": "r1",
            "redirect_uri": "https://hub.example/oauth/amocrm" });
        assert_eq!(sent(&script, 1), wanted);
        assert!(script.sent().iter().all(|outgoing| outgoing.login && !outgoing.repeatable));
    }

    #[tokio::test]
    async fn no_code_goes_to_a_strangers_host() {
        let script = Script::new(&[]);
        let (client, amocrm) = (Client::new(&script), amocrm());
        for pairs in [
            &[("code", "def"), ("referer", "evil.example")][..],
            &[("code", "def"), ("referer", "other.amocrm.ru")],
            &[("code", "def"), ("referer", "example.amocrm.ru"), ("client_id", "another")],
            &[("code", "def")],
            &[("error", "access_denied"), ("referer", "example.amocrm.ru")],
        ] {
            let finished =
                amocrm.authorization().unwrap().finish(&client, &query(pairs), "https://hub.example/oauth/amocrm").await;
            assert!(finished.is_err(), "{pairs:?}");
        }
    }

    #[tokio::test]
    async fn an_account_that_moved_is_followed() {
        let script = Script::new(&[
            (401, "revoked"),
            (200, r#"{"subdomain":"newname","domain":"newname.amocrm.ru"}"#),
            (200, r#"{"access_token":"a2","refresh_token":"r2","expires_in":86400}"#),
        ]);
        let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"api_domain":"api-b.amocrm.ru"}"#);
        let old = Session { access: Secret::new(format!("h.{claims}.s")), refresh: Some(Secret::new("r1")), expires_at: None };
        let amocrm = amocrm();
        let login = amocrm.login().unwrap();
        let session = login.renew(&Client::new(&script), Some(&old)).await.unwrap();
        let urls: Vec<String> = script.sent().into_iter().map(|outgoing| outgoing.url).collect();
        assert_eq!(
            urls,
            [
                "https://example.amocrm.ru/oauth2/access_token",
                "https://api-b.amocrm.ru/oauth2/account/current/subdomain",
                "https://newname.amocrm.ru/oauth2/access_token",
            ]
        );
        let mut outgoing = Outgoing::new("GET", "https://example.amocrm.ru/api/v4/account");
        login.apply(&session, &mut outgoing);
        assert_eq!(outgoing.url, "https://newname.amocrm.ru/api/v4/account");
        assert_eq!(outgoing.headers, [("authorization", "Bearer a2".to_owned())]);
    }

    #[tokio::test]
    async fn a_dead_login_asks_for_a_person() {
        let script = Script::new(&[(401, "Token has been revoked")]);
        let (client, amocrm) = (Client::new(&script), amocrm());
        let old = Session { access: Secret::new("a"), refresh: Some(Secret::new("r1")), expires_at: None };
        for session in [None, Some(&old)] {
            let renewed = amocrm.login().unwrap().renew(&client, session).await;
            assert!(matches!(&renewed, Err(CallError::Unauthorized(why)) if why.contains("connections login")), "{renewed:?}");
        }
        let token = super::super::PROVIDER.open(json!({ "host": "example.amocrm.ru", "long_lived_token": "t" })).unwrap();
        let session = token.login().unwrap().renew(&client, None).await.unwrap();
        assert_eq!(session.access.expose(), "t");
        assert!(token.login().unwrap().renew(&client, Some(&session)).await.is_err());
    }
}
