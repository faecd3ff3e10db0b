//! The door from outside: who is refused, how fast, and what is kept of it.

use serde_json::{Value, json};

use crate::world::{KEY, World, until};

const WRONG: &str = "wrong-key-of-twenty-four-characters";

impl World {
    async fn knock(&self, path: &str, forwarded: Option<&str>) -> reqwest::Response {
        let mut request = self.web.post(format!("{}{path}", self.hub.url())).body("{}");
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        request.send().await.unwrap()
    }

    /// Until so many refusals of this path are kept.
    async fn refusals(&self, path: &str, count: usize) -> Vec<Value> {
        let mut kept = Vec::new();
        until("refusals to be kept", async || {
            kept = self.api(path).await.as_array().unwrap().clone();
            kept.len() >= count
        })
        .await;
        kept
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_key_is_let_in_during_a_flood_of_wrong_ones_from_its_address() {
    let world = World::new(json!({})).await;
    let wrong = format!("/api/webhook/rkeeper?key={WRONG}");
    let mut answers = Vec::new();
    for _ in 0..40 {
        let answer = world.knock(&wrong, None).await;
        let wait = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().parse::<u32>().unwrap());
        answers.push((answer.status().as_u16(), wait));
        let right = world.knock(&format!("/api/webhook/rkeeper?key={KEY}"), None).await;
        assert_eq!(right.status(), 200, "a right key is never refused for its address");
    }
    assert_eq!(answers[..30].iter().filter(|answer| **answer == (401, None)).count(), 30);
    assert!(
        answers.iter().any(|(status, wait)| *status == 429 && wait.is_some_and(|wait| (1..=60).contains(&wait))),
        "{answers:?}"
    );
    let page = world.web.get(format!("{}/metrics", world.hub.url())).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("pos_requests_total{provider=\"RKEEPER\",endpoint=\"webhook\",result=\"limited\"}"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_api_keys_slows_nobody_who_has_a_right_one() {
    let world = World::new(json!({})).await;
    let url = format!("{}/api/v1/connections", world.hub.url());
    let mut last = None;
    for _ in 0..40 {
        last = Some(world.web.get(&url).bearer_auth("uzel_0000wrong").send().await.unwrap());
        assert_eq!(world.web.get(&url).bearer_auth(world.hub.owner_key().unwrap()).send().await.unwrap().status(), 200);
    }
    let last = last.unwrap();
    assert_eq!(last.status(), 429);
    assert!(last.headers().contains_key("retry-after"));
    assert_eq!(last.json::<Value>().await.unwrap()["type"], "/problems/too-many-failures");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_begins_each_key_anew_is_slowed_by_the_address() {
    let world = World::new(json!({})).await;
    let mut limited = 0;
    for guess in 0..400 {
        limited += u32::from(
            world.knock(&format!("/api/webhook/rkeeper?key={guess:09}-guessed-key-of-somebody"), None).await.status() == 429,
        );
    }
    assert!(limited >= 50, "{limited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_x_forwarded_for_changes_nothing_and_a_trusted_proxy_s_does() {
    let wrong = format!("/api/webhook/rkeeper?key={WRONG}");
    let right = format!("/api/webhook/rkeeper?key={KEY}");
    let stranger = World::new(json!({})).await;
    let mut limited = 0;
    for number in 0..40 {
        let forged = format!("198.51.100.{number}");
        limited += u32::from(stranger.knock(&wrong, Some(&forged)).await.status() == 429);
    }
    assert!(limited > 0, "who invents addresses is still one address");
    let kept = stranger.refusals("/api/v1/providers/rkeeper/refusals", 1).await;
    assert_eq!(kept[0]["peer"], "127.0.0.1");

    let behind = World::tuned(|settings| {
        settings.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    })
    .await;
    for number in 0..40 {
        let client = format!("203.0.113.7, 198.51.100.{number}");
        assert_eq!(behind.knock(&wrong, Some(&client)).await.status(), 401, "each client has its own count");
    }
    assert_eq!(behind.knock(&right, Some("203.0.113.7, 198.51.100.1")).await.status(), 200);
    let db = rusqlite::Connection::open(behind.data().join("uzel.db")).unwrap();
    let peer: String = db.query_row("SELECT peer FROM inbox", [], |row| row.get(0)).unwrap();
    assert_eq!(peer, "198.51.100.1", "the journal keeps the client's address and not the proxy's");
    let kept = behind.refusals("/api/v1/providers/rkeeper/refusals", 20).await;
    assert!(kept.iter().all(|refusal| refusal["peer"].as_str().unwrap().starts_with("198.51.100.")), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_kept_for_its_connection_without_any_credential() {
    let world = World::new(json!({})).await;
    let id = world.link("rkeeper").await["id"].as_str().unwrap().to_owned();
    let body = json!({ "order": { "id": 7, "phone": "+79991234567", "note": WRONG } }).to_string();
    let url = format!("{}/hooks/{id}?key={WRONG}&token={WRONG}&shop=1", world.hub.url());
    let request = world.web.post(url).header("authorization", "Bearer another-secret").header("cookie", "session=cookie-secret");
    let answer = request.header("x-secret-sign", "sign-secret").header("token", "token-secret").body(body).send().await.unwrap();
    assert_eq!(answer.status(), 401);

    let path = format!("/api/v1/connections/{id}/refusals");
    let kept = world.refusals(&path, 1).await;
    let text = format!("{}{}", json!(kept), world.api(&format!("{path}?unmasked=true")).await);
    for secret in [WRONG, "another-secret", "cookie-secret", "sign-secret", "token-secret"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    let refusal = &kept[0];
    assert_eq!(refusal["keys"][0]["length"], WRONG.len());
    assert_eq!(refusal["keys"][0]["hash"].as_str().map(str::len), Some(8));
    assert_eq!(refusal["query"], json!(["key", "token", "shop"]));
    assert!(refusal["body"].as_str().unwrap().contains("+7999***4567"), "{refusal}");
    until("the notice", async || {
        let notices = world.api("/api/v1/notices").await;
        notices.as_array().unwrap().iter().any(|notice| notice["kind"] == "refused" && notice["connection"] == id)
    })
    .await;
    // Of what it refused nothing stands in the journal, and in no file of the store a key.
    assert_eq!(world.api("/api/v1/journal").await, json!([]));
    for name in ["uzel.db", "uzel.db-wal"] {
        let bytes = std::fs::read(world.data().join(name)).unwrap();
        assert!(!bytes.windows(WRONG.len()).any(|window| window == WRONG.as_bytes()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_flood_the_last_twenty_are_kept_and_none_is_larger_than_4_kib() {
    let world = World::tuned(|settings| settings.failed_auth_per_minute = 60_000).await;
    let id = world.link("yclients").await["id"].as_str().unwrap().to_owned();
    let body = "\"я\n".repeat(100_000);
    for _ in 0..300 {
        let url = format!("{}/hooks/{id}?key={WRONG}", world.hub.url());
        let answer = world.web.post(url).header("user-agent", "u".repeat(5_000)).body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    }
    let kept = world.refusals(&format!("/api/v1/connections/{id}/refusals"), 20).await;
    assert_eq!(kept.len(), 20);
    for refusal in &kept {
        assert!(refusal.to_string().len() <= 4_096 && refusal["cut"] == true, "{}", refusal.to_string().len());
    }
    assert_eq!(world.api("/api/v1/providers/yclients/refusals").await, json!([]), "they told their connection");
}
