//! amoCRM: OAuth with refresh tokens that work once, deals and contacts of API v4, 204 for what is not there.
//!
//! Any code and client are taken but `wrong`; the token `long-lived` is always good.

mod show;

use std::collections::HashSet;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::show::{contact_fits, find, hal, lead_fits, links, oauth_problem, page, pipelines, problem, validation, with};
use crate::Provider;
use crate::cases::Case;
use crate::limit::Window;
use crate::token::{self, Tokens};
use crate::wire::{self, Answer, Call};

const LONG_LIVED: &str = "long-lived";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    subdomain: String,
    base_domain: String,
    api_domain: String,
    account_id: i64,
    access_seconds: i64,
    /// Answers 429 beyond so many calls in a second; the service's own number is 7.
    limit_per_second: Option<u32>,
    /// After so many refused calls everything answers 403.
    block_after: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            subdomain: "example".to_owned(),
            base_domain: "amocrm.ru".to_owned(),
            api_domain: "api-b.amocrm.ru".to_owned(),
            account_id: 9_931_001,
            access_seconds: 86_400,
            limit_per_second: None,
            block_after: 100,
        }
    }
}

struct State {
    settings: Settings,
    access: Tokens,
    refresh: HashSet<String>,
    codes: HashSet<String>,
    leads: Vec<Value>,
    contacts: Vec<Value>,
    hooks: Vec<Value>,
    notes: Vec<Value>,
    window: Window,
    refused: u32,
    exchanges: u64,
    refreshes: u64,
}

impl Default for State {
    fn default() -> State {
        let lead = include_str!("../../samples/amocrm/api_lead_with_contacts.json");
        let contact = include_str!("../../samples/amocrm/api_contact.json");
        State {
            settings: Settings::default(),
            access: Tokens::default(),
            refresh: HashSet::new(),
            codes: HashSet::new(),
            leads: vec![wire::sample_body(lead)],
            contacts: vec![wire::sample_body(contact)],
            hooks: Vec::new(),
            notes: Vec::new(),
            window: Window::default(),
            refused: 0,
            exchanges: 0,
            refreshes: 0,
        }
    }
}

#[derive(Default)]
pub(crate) struct AmoCrm(Mutex<State>);

impl State {
    fn pair(&mut self, client: &str) -> Answer {
        let now = wire::now();
        let settings = &self.settings;
        let access = token::jwt(&json!({
            "aud": client, "jti": wire::uuid(), "iat": now, "nbf": now, "exp": now + settings.access_seconds,
            "sub": "504141", "account_id": settings.account_id, "base_domain": settings.base_domain,
            "api_domain": settings.api_domain, "scopes": ["crm", "notifications"],
        }));
        let refresh = format!("def50200{}", wire::plain_uuid());
        self.access.add(access.clone(), settings.access_seconds);
        self.refresh.insert(refresh.clone());
        Answer::json(
            200,
            &json!({
                "token_type": "Bearer", "expires_in": self.settings.access_seconds, "server_time": now,
                "access_token": access, "refresh_token": refresh,
            }),
        )
    }

    fn oauth(&mut self, call: &Call) -> Answer {
        let body = call.json().unwrap_or_default();
        let field = |name: &str| body[name].as_str().unwrap_or_default();
        let client = field("client_id");
        if client.is_empty() || field("client_secret").is_empty() || field("redirect_uri").is_empty() {
            return oauth_problem(400, "Check the required parameters");
        }
        if client == "wrong" || field("client_secret") == "wrong" {
            return oauth_problem(401, "Client authentication failed");
        }
        match field("grant_type") {
            "authorization_code" => {
                let code = field("code");
                // A code is good once, like everything here.
                if code.is_empty() || code == "wrong" || !self.codes.insert(code.to_owned()) {
                    return oauth_problem(400, "Authorization code has been revoked");
                }
                self.exchanges += 1;
                self.pair(client)
            }
            "refresh_token" => {
                if !self.refresh.remove(field("refresh_token")) {
                    return oauth_problem(401, "Token has been revoked");
                }
                self.refreshes += 1;
                self.pair(client)
            }
            _ => oauth_problem(400, "Check the `grant_type` parameter"),
        }
    }

    fn subdomain(&self, call: &Call) -> Answer {
        if !self.refresh.contains(call.header("x-refresh-token")) {
            return oauth_problem(401, "Token has been revoked");
        }
        let (name, base) = (&self.settings.subdomain, &self.settings.base_domain);
        let top = base.rsplit('.').next().unwrap_or_default();
        Answer::json(
            200,
            &json!({
                "id": self.settings.account_id, "subdomain": name,
                "domain": format!("{name}.{base}"), "top_level_domain": top,
            }),
        )
    }

    /// The refusal for calling too often, if this call is one too many.
    fn too_fast(&mut self) -> Option<Answer> {
        let limit = self.settings.limit_per_second?;
        if self.refused >= self.settings.block_after {
            return Some(problem(403, "Forbidden", "The integration is blocked for too many requests"));
        }
        if self.window.fits(wire::now_ms(), 1000, limit) {
            return None;
        }
        self.refused += 1;
        Some(problem(429, "Too Many Requests", "Too many requests"))
    }

    fn hooks(&mut self, call: &Call) -> Answer {
        let body = call.json().unwrap_or_default();
        let destination = body["destination"].as_str().unwrap_or_default();
        match call.method.as_str() {
            "GET" => {
                let asked = call.asked("filter[destination]");
                let fits = |hook: &&Value| asked.as_deref().is_none_or(|url| hook["destination"] == json!(url));
                let hooks: Vec<&Value> = self.hooks.iter().filter(fits).collect();
                if hooks.is_empty() {
                    return Answer::empty(204);
                }
                hal(200, &json!({"_total_items": hooks.len(), "_embedded": {"webhooks": hooks}}))
            }
            "POST" => {
                let settings = body["settings"].as_array().filter(|settings| !settings.is_empty());
                let Some(settings) = settings.filter(|_| destination.starts_with("http")) else {
                    return validation("destination");
                };
                let now = wire::now();
                let old = self.hooks.iter().position(|hook| hook["destination"] == json!(destination));
                let old = old.map(|at| self.hooks.remove(at));
                if old.is_none() && self.hooks.len() >= 100 {
                    return validation("destination");
                }
                let kept = |name: &str, new: Value| old.as_ref().map_or(new, |old| old[name].clone());
                let hook = json!({
                    "id": kept("id", json!(839_001 + self.hooks.len())), "destination": destination,
                    "created_at": kept("created_at", json!(now)), "updated_at": now,
                    "account_id": self.settings.account_id, "created_by": 504_141,
                    "sort": body.get("sort").cloned().unwrap_or(json!(10)), "disabled": false,
                    "settings": settings,
                });
                self.hooks.push(hook.clone());
                hal(201, &hook)
            }
            "DELETE" => {
                self.hooks.retain(|hook| hook["destination"] != json!(destination));
                Answer::empty(204)
            }
            _ => problem(405, "Method Not Allowed", "Method not allowed"),
        }
    }

    fn api(&mut self, call: &Call, path: &[&str]) -> Answer {
        let query = wire::object(wire::pairs(call.query.as_bytes()));
        match (call.method.as_str(), path) {
            ("GET", ["account"]) => hal(
                200,
                &json!({
                    "id": self.settings.account_id, "name": "Пример", "subdomain": self.settings.subdomain,
                    "created_at": 1_700_000_000, "current_user_id": 504_141, "country": "RU", "currency": "RUB",
                }),
            ),
            ("GET", ["leads"]) => {
                let fit = self.leads.iter().filter(|lead| lead_fits(lead, &query));
                let leads: Vec<Value> = fit.map(|lead| with(lead.clone(), &query, "contacts")).collect();
                page("leads", &leads, &query)
            }
            ("GET", ["leads", "pipelines"]) => hal(200, &pipelines()),
            ("GET", ["leads", id]) => match find(&self.leads, id) {
                Some(lead) => hal(200, &with(lead, &query, "contacts")),
                None => Answer::empty(204),
            },
            ("GET", ["leads", id, "links"]) => match find(&self.leads, id) {
                Some(lead) => hal(200, &json!({"_embedded": {"links": links(&lead)}})),
                None => Answer::empty(204),
            },
            ("POST", ["leads", "notes"]) => match call.json() {
                Some(Value::Array(notes)) => {
                    self.notes.extend(notes);
                    hal(200, &json!({"_embedded": {"notes": []}}))
                }
                _ => validation("0"),
            },
            ("GET", ["contacts"]) => {
                let fit = self.contacts.iter().filter(|contact| contact_fits(contact, &query));
                let contacts: Vec<Value> = fit.map(|contact| with(contact.clone(), &query, "leads")).collect();
                page("contacts", &contacts, &query)
            }
            ("GET", ["contacts", id]) => match find(&self.contacts, id) {
                Some(contact) => hal(200, &with(contact, &query, "leads")),
                None => Answer::empty(204),
            },
            (_, ["webhooks"]) => self.hooks(call),
            _ => problem(404, "Not Found", "Not found"),
        }
    }
}

impl Provider for AmoCrm {
    fn answer(&self, call: &Call) -> Answer {
        let mut state = self.0.lock();
        match (call.method.as_str(), call.segments().as_slice()) {
            ("POST", ["oauth2", "access_token"]) => state.oauth(call),
            ("GET", ["oauth2", "account", "current", "subdomain"]) => state.subdomain(call),
            (_, ["api", "v4", path @ ..]) => {
                let good = |token: &str| token == LONG_LIVED || state.access.good(token);
                if !call.bearer().is_some_and(good) {
                    return self.failure(401);
                }
                match state.too_fast() {
                    Some(refusal) => refusal,
                    None => state.api(call, path),
                }
            }
            _ => problem(404, "Not Found", "Not found"),
        }
    }

    fn failure(&self, status: u16) -> Answer {
        match status {
            401 => problem(401, "Unauthorized", "Unauthorized"),
            402 => problem(402, "Payment Required", "The account is not paid"),
            403 => problem(403, "Forbidden", "Forbidden"),
            429 => problem(429, "Too Many Requests", "Too many requests"),
            _ => problem(status, "Error", "Something went wrong"),
        }
    }

    fn is_token_call(&self, call: &Call) -> bool {
        call.path.starts_with("/oauth2/")
    }

    fn expire_tokens(&self) {
        self.0.lock().access.clear();
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        let mut state = self.0.lock();
        // New settings lift a block, so that a test can go on.
        state.refused = 0;
        wire::merge(&mut state.settings, patch)
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        if what != "leads" && what != "contacts" && what != "webhooks" {
            return None;
        }
        Some(wire::objects(body).map(|items| {
            let all = json!(items);
            let mut state = self.0.lock();
            match what {
                "leads" => state.leads = items,
                "webhooks" => state.hooks = items,
                _ => state.contacts = items,
            }
            all
        }))
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        match what {
            "leads" => Some(json!(state.leads)),
            "contacts" => Some(json!(state.contacts)),
            "webhooks" => Some(json!(state.hooks)),
            "notes" => Some(json!(state.notes)),
            _ => None,
        }
    }

    fn summary(&self, counts: &mut Map<String, Value>) {
        let state = self.0.lock();
        counts.insert("exchanges".to_owned(), json!(state.exchanges));
        counts.insert("refreshes".to_owned(), json!(state.refreshes));
    }

    fn make_cases(&self, name: &str, options: &Value) -> Option<Result<Vec<Case>, String>> {
        let client = options.get("client_uuid").and_then(Value::as_str);
        if name != "disable_hook" || client.is_none() {
            return None;
        }
        let client = client.unwrap_or_default();
        let Some(secret) = options.get("client_secret").and_then(Value::as_str) else {
            return Some(Err("client_secret is missing".to_owned()));
        };
        let account = wire::number(options.get("account_id"));
        let account = account.unwrap_or_else(|| self.0.lock().settings.account_id);
        let message = format!("{client}|{account}");
        let signature = hex::encode(token::hmac_sha256(secret.as_bytes(), message.as_bytes()));
        let query = format!("account_id={account}&client_uuid={client}&signature={signature}");
        Some(Ok(vec![Case { method: "GET".to_owned(), query, ..Case::default() }]))
    }

    fn destinations(&self) -> Vec<String> {
        let state = self.0.lock();
        let urls = state.hooks.iter().filter_map(|hook| hook["destination"].as_str());
        urls.map(str::to_owned).collect()
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
