//! YCLIENTS: bookings and clients of a branch, one header for two tokens, webhook addresses replaced as a whole.
//!
//! Any partner token is taken but `wrong`; user tokens are those given out by `auth`, and `utok_example`.

mod records;

use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Provider;
use crate::cases::Case;
use crate::limit::Window;
use crate::token;
use crate::wire::{self, Answer, Call};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The branches there are, beside those of the records and clients that were put.
    companies: Vec<i64>,
    /// Whether 200 calls a minute and 5 a second are all that is answered.
    limits: bool,
    /// Whether an empty list is 404, as in the older methods.
    empty_is_404: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { companies: vec![4564], limits: false, empty_is_404: false }
    }
}

struct State {
    settings: Settings,
    user_tokens: HashSet<String>,
    records: Vec<Value>,
    clients: Vec<Value>,
    hooks: BTreeMap<i64, Value>,
    /// Branches where the application was installed by the marketplace; there the partner token is enough.
    installed: BTreeMap<i64, Value>,
    windows: HashMap<i64, Window>,
}

impl Default for State {
    fn default() -> State {
        let records = include_str!("../../samples/yclients/api_records_changed_after.json");
        let client = include_str!("../../samples/yclients/webhook_client_update.json");
        let client: Value = serde_json::from_str(client).unwrap_or_default();
        let records = wire::sample_body(records);
        State {
            settings: Settings::default(),
            user_tokens: HashSet::from(["utok_example".to_owned()]),
            records: records["data"].as_array().cloned().unwrap_or_default(),
            clients: vec![client["data"].clone()],
            hooks: BTreeMap::new(),
            installed: BTreeMap::new(),
            windows: HashMap::new(),
        }
    }
}

#[derive(Default)]
pub(crate) struct Yclients(Mutex<State>);

/// Status, data and meta; or the status and the meta of a refusal.
type Reply = Result<(u16, Value, Value), (u16, Value)>;

fn refusal(status: u16, message: &str) -> (u16, Value) {
    (status, json!({ "message": message }))
}

fn not_found() -> (u16, Value) {
    refusal(404, "Не найдено")
}

fn fields(name: &str, message: &str) -> (u16, Value) {
    (422, json!({"message": "Произошла ошибка", "errors": {name: [message]}}))
}

fn fine(status: u16, data: Value) -> Reply {
    Ok((status, data, json!([])))
}

fn envelope((status, meta): (u16, Value)) -> Answer {
    Answer::json(status, &json!({"success": false, "data": null, "meta": meta}))
}

const FLAGS: [&str; 14] = [
    "active",
    "salon",
    "service_category",
    "service",
    "good",
    "master",
    "client",
    "record",
    "goods_operations_sale",
    "goods_operations_receipt",
    "goods_operations_consumable",
    "goods_operations_stolen",
    "goods_operations_move",
    "finances_operation",
];

/// Flags are 0 and 1; true and false are taken, too.
fn flag(value: &Value) -> i64 {
    i64::from(value.as_bool().unwrap_or_else(|| wire::number(Some(value)) == Some(1)))
}

fn is(value: &Value, number: i64) -> bool {
    wire::number(Some(value)) == Some(number)
}

impl State {
    fn company(&self, id: &str) -> Result<i64, (u16, Value)> {
        let id: i64 = id.parse().map_err(|_| not_found())?;
        let own = |item: &Value| is(&item["company_id"], id);
        let known = self.settings.companies.contains(&id) || self.records.iter().any(own) || self.clients.iter().any(own);
        if known { Ok(id) } else { Err(refusal(403, "Недостаточно прав")) }
    }

    /// Checks `Bearer partner, User user`: both in one header, with a comma between.
    fn allowed(&self, call: &Call, company: Option<&str>, user: bool) -> Result<(), (u16, Value)> {
        let refused = || refusal(401, "Необходима авторизация");
        let value = call.bearer().ok_or_else(refused)?;
        let (partner, rest) = value.split_once(',').unwrap_or((value, ""));
        if partner.trim().is_empty() || partner.trim() == "wrong" {
            return Err(refused());
        }
        let installed = company.and_then(|id| id.parse().ok()).is_some_and(|id: i64| self.installed.contains_key(&id));
        let given = rest.trim().strip_prefix("User ").map(str::trim);
        match given {
            _ if !user => Ok(()),
            Some(token) if self.user_tokens.contains(token) => Ok(()),
            None if installed => Ok(()),
            _ => Err(refused()),
        }
    }

    fn auth(&mut self, call: &Call) -> Reply {
        let body = call.json().unwrap_or_default();
        // One client puts login and password into the query of the POST.
        let field = |name: &str| {
            let given = body[name].as_str().map(str::to_owned);
            given.or_else(|| call.asked(name)).unwrap_or_default()
        };
        let (login, password) = (field("login"), field("password"));
        if login.is_empty() {
            return Err(fields("login", "Поле обязательно"));
        }
        if password.is_empty() {
            return Err(fields("password", "Поле обязательно"));
        }
        if password == "wrong" {
            return Err(refusal(401, "Неверный логин или пароль"));
        }
        let user = wire::plain_uuid();
        self.user_tokens.insert(user.clone());
        fine(
            201,
            json!({
                "id": 1001, "user_token": user, "name": "Админ", "phone": login, "login": login,
                "email": "", "avatar": "", "is_approved": true,
            }),
        )
    }

    fn hooks(&mut self, call: &Call, company: i64) -> Reply {
        if call.method == "POST" {
            let body = call.json().unwrap_or_default();
            let urls = body["urls"].as_array().cloned().unwrap_or_default();
            check_urls(&urls, "urls")?;
            let mut settings = Map::new();
            settings.insert("urls".to_owned(), json!(urls));
            for name in FLAGS {
                settings.insert(name.to_owned(), json!(flag(&body[name])));
            }
            self.hooks.insert(company, Value::Object(settings.clone()));
            return fine(201, Value::Object(settings));
        }
        let none = || {
            let mut settings: Map<String, Value> = FLAGS.iter().map(|name| ((*name).to_owned(), json!(0))).collect();
            settings.insert("urls".to_owned(), json!([]));
            Value::Object(settings)
        };
        fine(200, self.hooks.get(&company).cloned().unwrap_or_else(none))
    }

    fn install(&mut self, call: &Call) -> Reply {
        let body = call.json().unwrap_or_default();
        let id = |name: &str| wire::number(body.get(name)).ok_or_else(|| fields(name, "Поле обязательно"));
        let (salon, application) = (id("salon_id")?, id("application_id")?);
        let urls = body["webhook_urls"].as_array().cloned().unwrap_or_default();
        check_urls(&urls, "webhook_urls")?;
        self.company(&salon.to_string())?;
        self.installed.insert(salon, json!({"application_id": application, "webhook_urls": urls}));
        Ok((201, Value::Null, json!({})))
    }

    /// Ids and flags are texts here.
    fn installations(&self, application: i64) -> Reply {
        let own = self.installed.iter().filter(|(_, made)| is(&made["application_id"], application));
        let list: Vec<Value> = own
            .map(|(salon, _)| {
                json!({
                    "salon_id": salon.to_string(), "active": "1", "phone": "79990003300",
                    "timezone_name": "Europe/Moscow",
                })
            })
            .collect();
        fine(200, json!(list))
    }

    /// Status and log of one installation. Their form is nowhere shown, so nothing but their being there can be relied on.
    fn installation(&self, salon: i64, application: i64) -> Reply {
        self.installed.get(&salon).filter(|made| is(&made["application_id"], application)).ok_or_else(not_found)?;
        fine(200, json!({"salon_id": salon, "application_id": application, "status": "active", "logs": []}))
    }

    fn marketplace(&mut self, call: &Call, path: &[&str]) -> Reply {
        self.allowed(call, None, false)?;
        match (call.method.as_str(), path) {
            ("POST", ["partner", "callback"]) => self.install(call),
            ("GET", ["application", id, "salons"]) => self.installations(id.parse().map_err(|_| not_found())?),
            ("GET", ["salon", salon, "application", id]) => {
                self.installation(salon.parse().map_err(|_| not_found())?, id.parse().map_err(|_| not_found())?)
            }
            ("POST", ["salon", salon, "application", _, "uninstall"]) => {
                let salon: i64 = salon.parse().map_err(|_| not_found())?;
                self.installed.remove(&salon).ok_or_else(not_found)?;
                fine(200, Value::Null)
            }
            _ => Err(not_found()),
        }
    }

    fn dispatch(&mut self, call: &Call) -> Reply {
        let now = wire::now_ms();
        let fits =
            |windows: &mut HashMap<i64, Window>, within, limit| windows.entry(within).or_default().fits(now, within, limit);
        if self.settings.limits && !(fits(&mut self.windows, 1000, 5) && fits(&mut self.windows, 60_000, 200)) {
            return Err(refusal(429, "Превышен лимит запросов"));
        }
        let query = wire::object(wire::pairs(call.query.as_bytes()));
        let segments = call.segments();
        let path = match segments.as_slice() {
            ["marketplace", path @ ..] => return self.marketplace(call, path),
            ["api", "v1", path @ ..] => path,
            _ => return Err(not_found()),
        };
        if let ["auth"] = path {
            self.allowed(call, None, false)?;
            return self.auth(call);
        }
        self.allowed(call, path.get(1).copied(), true)?;
        match (call.method.as_str(), path) {
            ("GET", ["companies"]) => {
                let list = self.settings.companies.iter();
                fine(200, list.map(|id| branch(*id)).collect())
            }
            ("GET", ["company", id]) => fine(200, branch(self.company(id)?)),
            ("GET", ["records", company]) => self.records(self.company(company)?, &query),
            (_, ["record", company, id]) => self.record(call, self.company(company)?, id),
            ("GET", ["visits", id]) => self.visit(id),
            ("GET", ["client", company, id]) => self.client(self.company(company)?, id),
            ("GET" | "POST", ["hooks_settings", company]) => {
                let company = self.company(company)?;
                self.hooks(call, company)
            }
            _ => Err(not_found()),
        }
    }
}

fn check_urls(urls: &[Value], field: &str) -> Result<(), (u16, Value)> {
    let good = |url: &Value| url.as_str().is_some_and(|url| url.starts_with("http"));
    if urls.len() > 10 || !urls.iter().all(good) {
        return Err(fields(field, "Некорректный адрес"));
    }
    Ok(())
}

fn branch(id: i64) -> Value {
    json!({"id": id, "title": "Салон «Пример»", "timezone": 3, "timezone_name": "Europe/Moscow", "active": 1})
}

impl Provider for Yclients {
    fn answer(&self, call: &Call) -> Answer {
        match self.0.lock().dispatch(call) {
            Ok((204, ..)) => Answer::empty(204),
            // Without the versioned Accept the old form comes, which has no envelope.
            Ok((status, data, _)) if !call.header("accept").contains("application/vnd.") => Answer::json(status, &data),
            Ok((status, data, meta)) => Answer::json(status, &json!({"success": true, "data": data, "meta": meta})),
            Err(refusal) => envelope(refusal),
        }
    }

    fn failure(&self, status: u16) -> Answer {
        envelope(match status {
            401 => refusal(401, "Необходима авторизация"),
            402 => refusal(402, "Истекла лицензия филиала"),
            403 => refusal(403, "Недостаточно прав"),
            404 => not_found(),
            429 => refusal(429, "Превышен лимит запросов"),
            _ => refusal(status, "Произошла ошибка"),
        })
    }

    fn is_token_call(&self, call: &Call) -> bool {
        call.path == "/api/v1/auth"
    }

    fn expire_tokens(&self) {
        self.0.lock().user_tokens.clear();
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        wire::merge(&mut self.0.lock().settings, patch)
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        if what != "records" && what != "clients" {
            return None;
        }
        Some(wire::objects(body).map(|items| {
            let all = json!(items);
            let mut state = self.0.lock();
            match what {
                "records" => state.records = items,
                _ => state.clients = items,
            }
            all
        }))
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        match what {
            "records" => Some(json!(state.records)),
            "clients" => Some(json!(state.clients)),
            "hooks" => Some(json!(state.hooks)),
            "installed" => Some(json!(state.installed)),
            _ => None,
        }
    }

    /// The redirect of a new customer, signed with the partner token over the JSON bytes.
    fn make_cases(&self, name: &str, options: &Value) -> Option<Result<Vec<Case>, String>> {
        let partner = options.get("partner_token").and_then(Value::as_str)?;
        if name != "marketplace_install_redirect" {
            return None;
        }
        let data = options.get("user_data").cloned().unwrap_or_else(|| {
            json!({
                "id": 123_456, "name": "Анна Примерова", "phone": "79990003300",
                "email": "anna@example.com", "salon_name": "Салон «Пример»", "is_approved": true,
            })
        });
        let data = data.to_string();
        let sign = hex::encode(token::hmac_sha256(partner.as_bytes(), data.as_bytes()));
        let salon = wire::number(options.get("salon_id")).unwrap_or(4564);
        let data = wire::encode(&STANDARD.encode(data));
        let query = format!("salon_id={salon}&user_data={data}&user_data_sign={sign}");
        Some(Ok(vec![Case { method: "GET".to_owned(), query, ..Case::default() }]))
    }

    fn destinations(&self) -> Vec<String> {
        let state = self.0.lock();
        let lists = state.hooks.values().map(|hook| &hook["urls"]);
        let lists = lists.chain(state.installed.values().map(|made| &made["webhook_urls"]));
        let urls = lists.flat_map(|urls| urls.as_array().into_iter().flatten());
        urls.filter_map(|url| Some(url.as_str()?.to_owned())).collect()
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
