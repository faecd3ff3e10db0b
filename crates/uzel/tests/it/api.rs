//! The API from outside: who may do what, what belongs to whom, once means once, and nobody overwrites another's change.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{World, until};

/// One caller with a key.
struct Client<'a> {
    world: &'a World,
    key: String,
}

/// What was answered.
struct Answer {
    status: u16,
    head: reqwest::header::HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.head.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    #[track_caller]
    fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.body);
        self.body
    }
}

impl Client<'_> {
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>, head: &[(&str, &str)]) -> Answer {
        let mut request = self.world.web.request(method, format!("{}{path}", self.world.hub.url())).bearer_auth(&self.key);
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let (status, head) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) };
        Answer { status, head, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None, &[]).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(Method::POST, path, Some(body), &[]).await
    }

    async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.ask(Method::PATCH, path, Some(body), &[]).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, None, &[]).await
    }
}

fn admin(world: &World) -> Client<'_> {
    Client { world, key: world.hub.owner_key().unwrap() }
}

/// A caller with a new key of a merchant.
async fn with_role<'a>(world: &'a World, merchant: &str, role: &str) -> Client<'a> {
    let made = admin(world).post("/api/v1/keys", &json!({ "merchant": merchant, "role": role, "label": role })).await.ok();
    Client { world, key: made["key"].as_str().unwrap().to_owned() }
}

/// A second merchant with one of each thing.
async fn neighbour(world: &World) -> BTreeMap<&'static str, String> {
    let admin = admin(world);
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let merchant = admin.post("/api/v1/merchants", &json!({ "slug": "neighbour", "country": "UZ" })).await.ok();
    let outlet = json!({ "slug": "centre", "zone": "Asia/Tashkent" });
    let outlet = admin.post("/api/v1/merchants/neighbour/outlets", &outlet).await.ok();
    let link = json!({ "merchant": "neighbour", "slug": "till", "provider": "rkeeper", "settings": {} });
    let link = admin.post("/api/v1/connections", &link).await.ok();
    let texts = json!({ "merchant": "neighbour", "slug": "texts", "provider": "log", "settings": {} });
    admin.post("/api/v1/connections", &texts).await.ok();
    let flow = json!({
        "merchant": "neighbour", "slug": "thanks", "on": ["order.completed"], "ground": "service", "ground_by": "the test",
        "via": "texts", "text": "Thank you"
    });
    let flow = admin.post("/api/v1/flows", &flow).await.ok();
    let key = admin.post("/api/v1/keys", &json!({ "merchant": "neighbour", "role": "reader" })).await.ok();
    let webhook_key = admin.post("/api/v1/connections/texts/webhook-keys", &json!({})).await;
    let command = json!({ "merchant": "neighbour", "via": "texts", "to": "+998901234567", "text": "Hi", "ground": "service" });
    let command = admin.ask(Method::POST, "/api/v1/commands", Some(&command), &[("idempotency-key", "n")]).await.ok();
    BTreeMap::from([
        ("merchants", id(&merchant)),
        ("outlets", id(&outlet)),
        ("connections", id(&link)),
        ("flows", id(&flow)),
        ("keys", id(&key)),
        ("webhook-keys", id(&webhook_key.ok())),
        ("commands", id(&command)),
    ])
}

async fn operations(world: &World) -> Vec<(Method, String, Vec<String>, Value)> {
    let document: Value = world.web.get(format!("{}/openapi.json", world.hub.url())).send().await.unwrap().json().await.unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let roles = operation["x-roles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap().to_owned()).collect();
            operations.push((method.to_uppercase().parse().unwrap(), path.clone(), roles, operation.clone()));
        }
    }
    assert!(operations.len() > 40);
    operations
}

/// A path of something that belongs to nobody, or to somebody else.
fn filled(path: &str, things: &BTreeMap<&'static str, String>) -> String {
    let mut filled = Vec::new();
    let mut subject = "";
    for part in path.split('/') {
        let value = match part {
            "{id}" if subject == "providers" => "iiko".to_owned(),
            "{id}" | "{outlet}" | "{key}" => {
                things.get(subject).cloned().unwrap_or_else(|| "inb_00000000000000000000000000".to_owned())
            }
            "{version}" => "1".to_owned(),
            other => {
                subject = match other {
                    "journal" => "journal",
                    _ => things.keys().find(|name| **name == other).copied().unwrap_or(if other == "providers" {
                        "providers"
                    } else {
                        subject
                    }),
                };
                other.to_owned()
            }
        };
        filled.push(value);
    }
    filled.join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_in_the_roles_of_the_table_and_no_other() {
    let world = World::new(json!({})).await;
    let own = BTreeMap::new();
    let mut clients = vec![("admin", admin(&world))];
    for role in ["owner", "operator", "reader", "till"] {
        clients.push((role, with_role(&world, "m", role).await));
    }
    let mut table = Vec::new();
    for (method, path, roles, _) in operations(&world).await {
        let at = filled(&path, &own);
        let stranger = world.web.request(method.clone(), format!("{}{at}", world.hub.url())).send().await.unwrap();
        assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED, "{method} {path} without a key");
        for (role, client) in &clients {
            // What nobody could mean: nothing is changed by it.
            let answer = client.ask(method.clone(), &at, Some(&json!([])), &[("idempotency-key", "walk")]).await;
            let may = roles.iter().any(|known| known == role);
            assert_eq!(answer.status != 403, may, "{method} {path} as {role}: {} {}", answer.status, answer.body);
            assert!(
                answer.status != 401 && answer.status < 500 || answer.status == 502,
                "{method} {path} as {role}: {}",
                answer.body
            );
        }
        table.push(format!("{method} {path}: {}", roles.join(", ")));
    }
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../../../fixtures/snapshots", omit_expression => true }, {
        insta::assert_snapshot!("roles", table.join("\n"));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_another_merchant_is_shown_changed_or_told_from_what_is_not_there() {
    let world = World::new(json!({})).await;
    let theirs = neighbour(&world).await;
    let owner = with_role(&world, "m", "owner").await;
    let nobodys: BTreeMap<&'static str, String> = theirs
        .iter()
        .map(|(name, id)| (*name, id.split('_').next().map(|prefix| format!("{prefix}_01k0000000e9nbx7t9cvx2exkg")).unwrap()))
        .collect();
    let mut walked = 0;
    for (method, path, roles, operation) in operations(&world).await {
        let open = ["/providers/", "/commands/"].iter().any(|part| path.contains(part)) && !path.contains("/commands/");
        if !path.contains('{') || open || !roles.iter().any(|role| role == "owner") {
            continue;
        }
        walked += 1;
        let body = operation["requestBody"].is_object().then(|| json!({}));
        let there = owner.ask(method.clone(), &filled(&path, &theirs), body.as_ref(), &[]).await;
        let nowhere = owner.ask(method.clone(), &filled(&path, &nobodys), body.as_ref(), &[]).await;
        // The platform's form repeats what was asked, and when.
        let told = |mut answer: Value| {
            let own = |name: &String| !["path", "requestId", "timestamp"].contains(&name.as_str());
            answer.as_object_mut().into_iter().for_each(|fields| fields.retain(|name, _| own(name)));
            answer
        };
        assert_eq!((there.status, told(there.body.clone())), (nowhere.status, told(nowhere.body)), "{method} {path}");
        let faults = if path.starts_with("/api/") { 422 } else { 400 };
        assert!([404, faults].contains(&there.status), "{method} {path}: {} {}", there.status, there.body);
    }
    assert!(walked > 20, "{walked}");
    // Lists show their own only, also where the other's name is given.
    for path in ["merchants", "connections", "flows", "keys", "audit", "journal", "dead-letters", "notices"] {
        let listed = owner.get(&format!("/api/v1/{path}")).await.ok().to_string();
        for (thing, id) in &theirs {
            assert!(!listed.contains(id.as_str()), "{path} shows {thing}");
        }
    }
    for path in ["connections", "flows", "keys", "audit", "journal"] {
        assert_eq!(owner.get(&format!("/api/v1/{path}?merchant=neighbour")).await.status, 404, "{path}");
    }
    // Bodies that name the other look as if it were not there.
    let link = |merchant: &str| json!({ "merchant": merchant, "slug": "x", "provider": "log", "settings": {} });
    for merchant in ["neighbour", "nobody"] {
        let refused = owner.post("/api/v1/connections", &link(merchant)).await;
        assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (422, &json!("/merchant")));
        let refused = owner.post("/api/v1/keys", &json!({ "merchant": merchant, "role": "owner" })).await;
        assert_eq!(refused.status, 422);
    }
    let refused = owner.post("/api/v1/keys", &json!({ "role": "admin" })).await;
    assert_eq!(refused.status, 422, "nobody makes a key of the whole hub out of one merchant's");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_one_key_the_same_is_done_once_however_often_and_at_once_it_is_asked_for() {
    let world = World::new(json!({})).await;
    let admin = admin(&world);
    let body = json!({ "slug": "once", "name": "Once" });
    let ask = || admin.ask(Method::POST, "/api/v1/merchants", Some(&body), &[("Idempotency-Key", "key-1")]);
    let answers = futures::future::join_all((0..12).map(|_| ask())).await;
    let made: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(!made.is_empty());
    assert!(made.iter().all(|answer| answer.body == made[0].body));
    assert_eq!(made.iter().filter(|answer| answer.header("idempotency-replayed").is_empty()).count(), 1);
    for other in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((other.status, &other.body["type"]), (409, &json!("/problems/in-progress")));
    }
    let again = ask().await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"));
    assert!(again.header("location").starts_with("/api/v1/merchants/mer_"), "{:?}", again.head);
    assert_eq!(again.body, made[0].body);

    let other =
        admin.ask(Method::POST, "/api/v1/merchants", Some(&json!({ "slug": "other" })), &[("Idempotency-Key", "key-1")]).await;
    assert_eq!((other.status, &other.body["errors"][0]["pointer"]), (422, &json!("Idempotency-Key")));
    // Another route, or another caller, has keys of its own.
    let key = json!({ "merchant": "once", "role": "owner" });
    let made = admin.ask(Method::POST, "/api/v1/keys", Some(&key), &[("Idempotency-Key", "key-1")]).await.ok();
    let again = admin.ask(Method::POST, "/api/v1/keys", Some(&key), &[("Idempotency-Key", "key-1")]).await.ok();
    assert_eq!(made, again, "the same key is shown again to who made it");
    let owner = Client { world: &world, key: made["key"].as_str().unwrap().to_owned() };
    let own = owner.ask(Method::POST, "/api/v1/keys", Some(&key), &[("Idempotency-Key", "key-1")]).await.ok();
    assert_ne!(own["id"], made["id"]);
    // What failed changed nothing, so that its key may be used for what is right.
    let wrong =
        admin.ask(Method::POST, "/api/v1/merchants", Some(&json!({ "slug": "No!" })), &[("Idempotency-Key", "key-2")]).await;
    assert_eq!(wrong.status, 422);
    let right =
        admin.ask(Method::POST, "/api/v1/merchants", Some(&json!({ "slug": "yes" })), &[("Idempotency-Key", "key-2")]).await;
    assert_eq!(right.status, 201);
    for wrong in ["", &"k".repeat(256)] {
        let refused =
            admin.ask(Method::POST, "/api/v1/merchants", Some(&json!({ "slug": "z" })), &[("Idempotency-Key", wrong)]).await;
        assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (400, &json!("Idempotency-Key")));
    }
    // After three days it is a new one.
    world.pass(73 * 60);
    let late = ask().await;
    assert_eq!((late.status, &late.body["errors"][0]["pointer"]), (422, &json!("/slug")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_what_somebody_else_has_changed_meanwhile_is_told() {
    let world = World::new(json!({})).await;
    let owner = with_role(&world, "m", "owner").await;
    let read = owner.get("/api/v1/connections/smsru").await;
    let version = read.header("etag").to_owned();
    assert_eq!(version, format!("\"{}\"", read.body["version"]));
    let change = |name: &str| json!({ "settings": { "from": name } });
    let first = owner.ask(Method::PATCH, "/api/v1/connections/smsru", Some(&change("Cafe")), &[("If-Match", &version)]).await;
    assert_eq!((first.status, &first.body["settings"]["from"]), (200, &json!("Cafe")));
    let second = owner.ask(Method::PATCH, "/api/v1/connections/smsru", Some(&change("Bar")), &[("If-Match", &version)]).await;
    assert_eq!((second.status, &second.body["type"]), (412, &json!("/problems/changed-meanwhile")));
    let gone = owner.ask(Method::DELETE, "/api/v1/connections/iiko", None, &[("If-Match", "\"7\"")]).await;
    assert_eq!(gone.status, 412);
    let wrong = owner.ask(Method::DELETE, "/api/v1/connections/iiko", None, &[("If-Match", "seven")]).await;
    assert_eq!((wrong.status, &wrong.body["errors"][0]["pointer"]), (400, &json!("If-Match")));
    let now = owner.get("/api/v1/connections/smsru").await;
    assert_eq!((&now.body["settings"]["from"], now.header("etag")), (&json!("Cafe"), first.header("etag")));
    // The same again is no change, and no version.
    let same = owner.patch("/api/v1/connections/smsru", &change("Cafe")).await;
    assert_eq!(same.header("etag"), first.header("etag"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_not_changed_or_taken_away_over_somebody_elses_change() {
    let world = World::new(json!({})).await;
    let owner = with_role(&world, "m", "owner").await;
    let made = owner.post("/api/v1/endpoints", &json!({ "slug": "shop", "url": "https://shop.example/hooks" })).await;
    let version = made.header("etag").to_owned();
    let pause = json!({ "paused": true });
    let first = owner.ask(Method::PATCH, "/api/v1/endpoints/shop", Some(&pause), &[("If-Match", &version)]).await;
    assert_eq!(first.status, 200, "{}", first.body);
    for method in [Method::PATCH, Method::DELETE] {
        let body = (method == Method::PATCH).then_some(&pause);
        let late = owner.ask(method.clone(), "/api/v1/endpoints/shop", body, &[("If-Match", &version)]).await;
        assert_eq!((late.status, &late.body["type"]), (412, &json!("/problems/changed-meanwhile")), "{method}");
    }
    let now = owner.get("/api/v1/endpoints/shop").await.header("etag").to_owned();
    assert_eq!(now, first.header("etag"));
    assert_eq!(owner.ask(Method::DELETE, "/api/v1/endpoints/shop", None, &[("If-Match", &now)]).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_connection_keeps_its_secrets_unless_it_is_pointed_elsewhere() {
    let world = World::new(json!({})).await;
    let owner = with_role(&world, "m", "owner").await;
    let shown = owner.get("/api/v1/connections/smsru").await.ok();
    assert_eq!(shown["secrets"], json!(["api_id"]));
    assert!(!shown.to_string().contains("A1B2C3D4"), "{shown}");
    owner.patch("/api/v1/connections/smsru", &json!({ "settings": { "from": "Cafe" } })).await.ok();
    assert_eq!(owner.get("/api/v1/connections/smsru/health").await.ok()["healthy"], true, "the key is still there");
    let elsewhere = owner.patch("/api/v1/connections/smsru", &json!({ "settings": { "base_url": "https://example.org" } })).await;
    assert_eq!((elsewhere.status, &elsewhere.body["errors"][0]["pointer"]), (422, &json!("/settings/api_id")));
    let renamed = owner.patch("/api/v1/connections/smsru", &json!({ "slug": "sms", "provider": "log" })).await;
    assert_eq!(renamed.body["errors"].as_array().unwrap().len(), 2, "{}", renamed.body);
    let wrong = owner.patch("/api/v1/connections/smsru", &json!({ "settings": { "from": 5, "frm": "x" } })).await;
    let places: Vec<&Value> = wrong.body["errors"].as_array().unwrap().iter().map(|fault| &fault["pointer"]).collect();
    assert_eq!(places, ["/settings/frm", "/settings/from"], "every fault, in its place");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_can_be_read_changed_and_taken_away_when_nothing_needs_it() {
    let world = World::new(json!({})).await;
    let things = neighbour(&world).await;
    let admin = admin(&world);
    let made = admin.post("/api/v1/merchants/neighbour/outlets", &json!({ "slug": "north", "zone": "Asia/Tashkent" })).await;
    let place = made.header("location").to_owned();
    assert_eq!(admin.get(&place).await.ok(), made.body);
    let taken = admin.post("/api/v1/merchants", &json!({ "slug": "neighbour" })).await;
    assert_eq!((taken.status, &taken.body["errors"][0]["pointer"]), (422, &json!("/slug")));
    let named = admin.patch("/api/v1/merchants/neighbour", &json!({ "name": "The neighbour", "keep_days": 30 })).await.ok();
    assert_eq!((&named["name"], &named["keep_days"], &named["country"]), (&json!("The neighbour"), &json!(30), &json!("UZ")));
    let forgot = admin.patch("/api/v1/merchants/neighbour", &json!({ "keep_days": null })).await.ok();
    assert_eq!((&forgot["name"], &forgot["keep_days"]), (&json!("The neighbour"), &Value::Null));

    for (path, needs) in [("merchants/neighbour", "still needs it"), ("connections/texts", "flow `thanks`")] {
        let refused = admin.delete(&format!("/api/v1/{path}")).await;
        assert_eq!(refused.status, 409, "{path}: {}", refused.body);
        assert!(refused.body["detail"].as_str().unwrap().contains(needs), "{}", refused.body);
    }
    for path in ["flows/thanks", "connections/texts", "connections/till"] {
        assert_eq!(admin.delete(&format!("/api/v1/{path}")).await.status, 204, "{path}");
        assert_eq!(admin.delete(&format!("/api/v1/{path}")).await.status, 404, "{path}");
    }
    assert_eq!(admin.delete(&place).await.status, 204);
    assert_eq!(admin.delete(&format!("/api/v1/merchants/neighbour/outlets/{}", things["outlets"])).await.status, 204);
    assert_eq!(admin.delete("/api/v1/merchants/neighbour").await.status, 204);
    assert_eq!(admin.get("/api/v1/merchants/neighbour").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_is_made_what_it_was_before() {
    let world = World::new(json!({})).await;
    let owner = with_role(&world, "m", "owner").await;
    let before = owner.get("/api/v1/flows/review").await.ok();
    let misspelt = json!({ "merchant": "m", "slug": "x", "on": [], "ground": "service", "vai": "smsru", "text": "Hi" });
    let misspelt = owner.post("/api/v1/flows", &misspelt).await;
    let places: Vec<&Value> = misspelt.body["errors"].as_array().unwrap().iter().map(|fault| &fault["pointer"]).collect();
    assert!(misspelt.status == 422 && places.contains(&&json!("/vai")) && places.contains(&&json!("/via")), "{}", misspelt.body);
    let wrong = owner.patch("/api/v1/flows/review", &json!({ "text": "{{ name | nothing }}" })).await;
    assert_eq!((wrong.status, &wrong.body["errors"][0]["pointer"]), (422, &json!("/text")));
    owner.patch("/api/v1/flows/review", &json!({ "text": "Second", "delay": "2h" })).await.ok();
    let third = owner.patch("/api/v1/flows/review", &json!({ "text": "Third" })).await.ok();
    let versions = owner.get("/api/v1/flows/review/versions").await.ok();
    let texts: Vec<&Value> = versions["items"].as_array().unwrap().iter().map(|version| &version["doc"]["text"]).collect();
    assert!(texts.contains(&&json!("Second")), "{versions}");
    let first = before["version"].as_i64().unwrap();
    let restored = owner.post(&format!("/api/v1/flows/review/versions/{first}/restore"), &json!({})).await.ok();
    assert_eq!(restored["rule"], before["rule"]);
    assert!(restored["version"].as_i64() > third["version"].as_i64());
    assert_eq!(owner.post("/api/v1/flows/review/versions/99/restore", &json!({})).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_expires_and_is_good_no_more_once_it_is_taken_away() {
    let world = World::new(json!({})).await;
    let admin = admin(&world);
    let soon = (world.clock.now() + jiff::SignedDuration::from_hours(1)).to_string();
    let made =
        admin.post("/api/v1/keys", &json!({ "merchant": "m", "role": "reader", "label": "till 2", "expires_at": soon })).await;
    let (id, place) = (made.body["id"].as_str().unwrap().to_owned(), made.header("location").to_owned());
    let reader = Client { world: &world, key: made.body["key"].as_str().unwrap().to_owned() };
    assert_eq!(reader.get("/api/v1/me").await.ok()["role"], "reader");
    let shown = admin.get(&place).await.ok();
    assert_eq!((&shown["label"], &shown["key"]), (&json!("till 2"), &Value::Null), "never again");
    world.pass(61);
    let expired = reader.get("/api/v1/me").await;
    assert_eq!((expired.status, expired.header("www-authenticate")), (401, "Bearer"));
    assert!(expired.body["detail"].as_str().unwrap().contains("expired"));
    for wrong in [
        json!({ "role": "owner" }),
        json!({ "merchant": "m", "role": "admin" }),
        json!({ "merchant": "m", "role": "owner", "expires_at": "2020-01-01T00:00:00Z" }),
    ] {
        assert_eq!(admin.post("/api/v1/keys", &wrong).await.status, 422, "{wrong}");
    }
    assert_eq!(admin.delete(&place).await.status, 204);
    assert_eq!(admin.get(&place).await.status, 404);
    let last = admin.get("/api/v1/me").await.ok()["key"].as_str().unwrap().to_owned();
    assert_eq!(admin.delete(&format!("/api/v1/keys/{last}")).await.status, 409, "nobody locks everybody out");
    let log = admin.get(&format!("/api/v1/audit?object={id}")).await.ok();
    let actions: Vec<&Value> = log["items"].as_array().unwrap().iter().map(|row| &row["action"]).collect();
    assert_eq!(actions, ["key.remove", "key.create"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_webhook_keys_are_good_while_a_provider_is_moved_from_one_to_the_other() {
    let world = World::new(json!({})).await;
    let owner = with_role(&world, "m", "owner").await;
    let hook = async |key: &str| {
        let url = format!("{}/api/webhook/iiko?key={key}", world.hub.url());
        world.web.post(url).json(&json!([])).send().await.unwrap().status().as_u16()
    };
    let made = owner.post("/api/v1/connections/iiko/webhook-keys", &json!({})).await.ok();
    let new = made["key"].as_str().unwrap();
    assert_eq!((hook(new).await, hook(crate::world::KEY).await), (200, 200));
    let keys = owner.get("/api/v1/connections/iiko/webhook-keys").await.ok();
    for key in keys["items"].as_array().unwrap().iter().filter(|key| key["id"] != made["id"]) {
        owner.delete(&format!("/api/v1/connections/iiko/webhook-keys/{}", key["id"].as_str().unwrap())).await.ok();
    }
    assert_eq!((hook(new).await, hook(crate::world::KEY).await), (200, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outlet_has_the_paths_of_the_requirement_and_its_secrets_are_shown_once() {
    let world = World::new(json!({})).await;
    let owner = with_role(&world, "m", "owner").await;
    let at = "/merchants/m/outlets/o";
    let pos = owner.ask(Method::PUT, &format!("{at}/pos"), Some(&json!({ "posType": "smart" })), &[]).await.ok();
    assert_eq!(pos["posType"], "SMART");
    let wrong = owner.ask(Method::PUT, &format!("{at}/pos"), Some(&json!({ "posType": "TABLET" })), &[]).await;
    assert_eq!((wrong.status, &wrong.body["statusCode"]), (400, &json!(400)));
    assert!(wrong.body["message"].as_str().unwrap().starts_with("posType Invalid posType"), "{}", wrong.body);
    let cleared = owner.ask(Method::PUT, &format!("{at}/pos"), Some(&json!({ "posType": null })), &[]).await.ok();
    assert_eq!(cleared["posType"], "VIRTUAL");
    // Heard of once, it can be changed all the same, and is not forgotten.
    let heard = json!({ "posType": "SMART", "posLastSeenAt": "2026-11-01T10:00:00Z" });
    owner.ask(Method::PUT, &format!("{at}/pos"), Some(&heard), &[]).await.ok();
    let named = owner.patch("/api/v1/merchants/m/outlets/o", &json!({ "name": "The corner" })).await.ok();
    assert_eq!((&named["name"], &named["posLastSeenAt"]), (&json!("The corner"), &heard["posLastSeenAt"]));

    let first = owner.post(&format!("{at}/bridge-secret"), &json!({})).await.ok();
    let next = owner.post(&format!("{at}/bridge-secret/next"), &json!({})).await.ok();
    assert_ne!(first["secret"], next["secret"]);
    let shown = owner.get("/api/v1/merchants/m/outlets/o").await.ok();
    assert_eq!((&shown["bridgeSecretIssued"], &shown["bridgeSecretNextIssued"]), (&json!(true), &json!(true)));
    assert!(!shown.to_string().contains(first["secret"].as_str().unwrap()));
    let promoted = owner.post(&format!("{at}/bridge-secret/promote"), &json!({})).await.ok();
    assert_eq!((&promoted["bridgeSecretIssued"], &promoted["bridgeSecretNextIssued"]), (&json!(true), &json!(false)));
    assert_eq!(owner.post(&format!("{at}/bridge-secret/promote"), &json!({})).await.status, 409);
    // A setup that is applied again says nothing of secrets, and takes none away.
    world.apply(&crate::world::setup(&world.sandbox.url(), &json!({}))).await;
    assert_eq!(owner.get("/api/v1/merchants/m/outlets/o").await.ok()["bridgeSecretIssued"], true);
    assert_eq!(owner.delete(&format!("{at}/bridge-secret")).await.ok(), json!({ "ok": true }));
    assert_eq!(owner.get("/api/v1/merchants/m/outlets/o").await.ok()["bridgeSecretIssued"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asks_too_fast_is_slowed_and_told_and_another_is_not() {
    let world = World::tuned(|settings| settings.api_calls_per_minute = 20).await;
    let reader = with_role(&world, "m", "reader").await;
    let mut last = reader.get("/api/v1/me").await;
    assert_eq!(last.header("ratelimit-policy"), "\"key\";q=20;w=60");
    until("the budget to be spent", async || {
        last = reader.get("/api/v1/me").await;
        last.status == 429
    })
    .await;
    assert_eq!(last.body["type"], "/problems/too-many-requests");
    assert!((1..=3).contains(&last.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(admin(&world).get("/api/v1/me").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_journal_lose_and_repeat_nothing_while_more_comes() {
    let world = World::new(json!({ "when": "false" })).await;
    let admin = admin(&world);
    let post = async |number: usize| {
        let body =
            json!({ "order": { "id": number, "status": "Выполнен", "sum": "640.50", "customer": { "phone": "+79991234567" } } });
        assert_eq!(world.post("rkeeper", &body).await.status(), 200);
    };
    for number in 0..30 {
        post(number).await;
    }
    let all: Vec<String> = ids(&admin.get("/api/v1/journal?limit=1000").await.ok());
    let mut walked = Vec::new();
    let mut path = "/api/v1/journal?limit=7".to_owned();
    let mut number = 30;
    loop {
        let page = admin.get(&path).await.ok();
        walked.extend(ids(&page));
        post(number).await;
        number += 1;
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/journal?limit=7&before={next}");
    }
    assert_eq!(walked, all);
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}
