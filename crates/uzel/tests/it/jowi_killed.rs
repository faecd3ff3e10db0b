//! A node that is killed (`kill -9`) while JOWi Club is at work for a till: between a redemption there and its quote here, between a
//! `Release` and its mark, amid an accrual. The stand-in does the work and keeps its answer back until the node is gone.
//!
//! Accounts and calls are counted at the stand-in, which knows nothing of the hub.

use serde_json::{Value, json};
use uzel_sandbox::Sandbox;

use crate::{
    binary::Binary,
    jowi,
    world::{anywhere, database, until},
};

const PHONE: &str = "+998901234567";
/// Of somebody whose till never asks again.
const GONE: &str = "+998901234568";
/// The stand-in answers long after the node is gone.
const LATE_MS: u64 = 20_000;

struct Scene {
    hub: Binary,
    sandbox: Sandbox,
}

impl Scene {
    async fn new() -> Self {
        let sandbox = Sandbox::start(anywhere()).await.unwrap();
        let mut hub = Binary::new(&[("UZEL_CALL_TIMEOUT_MS", "5000"), ("UZEL_LEASE_MARGIN_MS", "3000")]);
        if let Some(url) = database().await {
            hub.set("UZEL_DATABASE", url.expose());
        }
        let mut connection = jowi::connection(&sandbox.url());
        connection.as_object_mut().unwrap().remove("webhook_keys");
        let setup = json!({
            "merchant": [{ "slug": "m", "country": "UZ" }],
            "connection": [connection],
            "programme": [{
                "merchant": "m", "unit": "rouble", "hold_ttl_s": 30, "club": { "connection": "jowi", "patience_ms": 10_000 },
            }],
        });
        hub.serve(&[]).await;
        let apply = hub.web.post(format!("{}/api/v1/apply", hub.url())).bearer_auth(hub.owner_key());
        let applied = apply.json(&json!({ "setup": setup })).send().await.unwrap();
        assert!(applied.status().is_success(), "{}", applied.text().await.unwrap());
        let scene = Self { hub, sandbox };
        let mut other = scene.shown("accounts").await[0].clone();
        let known = other.clone();
        other["account_id"] = json!("acc-000124");
        other["card_number"] = json!("2900001234568");
        other["phone"] = json!(GONE);
        scene.control("accounts", &json!([known, other])).await;
        scene
    }

    async fn control(&self, what: &str, body: &Value) {
        let url = format!("{}/_sandbox/jowi/{what}", self.sandbox.url());
        let answer = self.hub.web.put(url).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{what}: {}", answer.text().await.unwrap());
    }

    async fn shown(&self, what: &str) -> Value {
        let url = format!("{}/_sandbox/jowi/{what}", self.sandbox.url());
        self.hub.web.get(url).send().await.unwrap().json().await.unwrap()
    }

    async fn points(&self, account: usize) -> i64 {
        self.shown("accounts").await[account]["balance"]["points"].as_i64().unwrap()
    }

    /// Operations of a kind that were done there for an account.
    async fn done(&self, kind: &str, account: &str) -> Vec<Value> {
        let all = self.shown("operations").await;
        let fits = |operation: &&Value| operation["type"] == kind && operation["account_id"] == account;
        all.as_array().unwrap().iter().filter(fits).cloned().collect()
    }

    /// Calls that came to a path.
    async fn calls(&self, path: &str) -> usize {
        let all = self.shown("calls").await;
        all.as_array().unwrap().iter().filter(|call| call["path"].as_str().unwrap().starts_with(path)).count()
    }

    fn ask(&self, what: &str, body: Value) -> reqwest::RequestBuilder {
        let mut body = body;
        body["merchantId"] = json!("m");
        self.hub.web.post(format!("{}/loyalty/{what}", self.hub.url())).bearer_auth(self.hub.owner_key()).json(&body)
    }

    async fn answered(&self, what: &str, body: Value) -> Value {
        let answer = self.ask(what, body).send().await.unwrap();
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(status, 201, "{what}: {answer}");
        answer
    }

    /// Kills the node when the next call to this path has come to the stand-in, and starts it again. `asked` is what the till asks
    /// of the node meanwhile, and gets no answer to.
    async fn killed_at(&mut self, path: &str, asked: Option<(&str, Value)>) {
        self.control("faults", &json!({ "kind": "latency", "latency_ms": LATE_MS, "path": path })).await;
        let before = self.calls(path).await;
        let till = asked.map(|(what, body)| tokio::spawn(self.ask(what, body).send()));
        self.killed_after(path, before).await;
        if let Some(till) = till {
            assert!(till.await.unwrap().is_err(), "the till has got no answer");
        }
    }

    async fn killed_after(&mut self, path: &str, calls: usize) {
        until(&format!("a call to {path}"), async || self.calls(path).await > calls).await;
        self.hub.signal("-KILL");
        self.hub.serve(&[]).await;
    }

    async fn open_commands(&self, job: &str) -> usize {
        let url = format!("{}/api/v1/commands?limit=1000", self.hub.url());
        let answer = self.hub.web.get(url).bearer_auth(self.hub.owner_key()).send().await.unwrap();
        let all: Value = answer.json().await.unwrap();
        let open = |command: &&Value| command["state"] == "waiting" || command["state"] == "sending";
        all["items"].as_array().unwrap().iter().filter(open).filter(|command| command.to_string().contains(job)).count()
    }
}

fn quote(phone: &str, order: &str) -> Value {
    json!({ "mode": "redeem", "userToken": phone, "orderId": order, "total": 50_000, "eligibleTotal": 50_000 })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_point_is_lost_or_made_and_a_purchase_is_told_once_whenever_the_node_is_killed() {
    let mut scene = Scene::new().await;
    let redemptions = "/v3/loyalty/redemptions";
    // Taken there, not written here, and nobody asks again.
    scene.killed_at(redemptions, Some(("quote", quote(GONE, "o0")))).await;
    assert_eq!(scene.points(1).await, 400, "they were taken");

    // The same, but the till asks again: the same discount for the same points.
    scene.killed_at(redemptions, Some(("quote", quote(PHONE, "o1")))).await;
    assert_eq!(scene.points(0).await, 400);
    let quoted = scene.answered("quote", quote(PHONE, "o1")).await;
    assert_eq!(
        (&quoted["canRedeem"], &quoted["discountToApply"], &quoted["pointsToBurn"]),
        (&json!(true), &json!(15_000), &json!(15_000))
    );
    assert_eq!(scene.answered("quote", quote(PHONE, "o1")).await, quoted);
    assert_eq!((scene.points(0).await, scene.done("redemption", "acc-000123").await.len()), (400, 1));
    assert_eq!(scene.calls(redemptions).await, 3, "asked for again under the same id");

    // Committed; the purchase is being told of.
    let commit = json!({ "holdId": quoted["holdId"], "orderId": "o1" });
    let accruals = "/v3/loyalty/accruals";
    scene.control("faults", &json!({ "kind": "latency", "latency_ms": LATE_MS, "path": accruals })).await;
    let committed = scene.answered("commit", commit.clone()).await;
    assert_eq!(committed["redeemApplied"], 15_000);
    scene.killed_after(accruals, 0).await;
    let again = scene.answered("commit", commit).await;
    assert_eq!(
        (&again["redeemApplied"], &again["receiptId"], &again["alreadyCommitted"]),
        (&json!(15_000), &committed["receiptId"], &json!(true))
    );
    until("the accrual to be marked", async || scene.open_commands("accru").await == 0).await;
    assert_eq!((scene.points(0).await, scene.done("accrual", "acc-000123").await.len()), (2_150, 1), "35 000 were paid in money");

    // A sale that is called off gives its points back: killed while it is asked what became of them, and while they are given back.
    let cancelled = scene.answered("quote", quote(PHONE, "o2")).await;
    assert_eq!((&cancelled["pointsToBurn"], scene.points(0).await), (&json!(2_150), 0));
    let operations = "/v3/loyalty/operations/";
    scene.killed_at_answered(operations, "cancel", json!({ "holdId": cancelled["holdId"] })).await;
    until("the points to be given back", async || scene.points(0).await == 2_150).await;
    until("it to be marked", async || scene.open_commands("revers").await == 0).await;
    let reversals = scene.done("reversal", "acc-000123").await.len();
    assert_eq!((scene.points(0).await, reversals, scene.done("redemption", "acc-000123").await.len()), (2_150, 1, 2));

    // And what nobody asked for again is given back when its quote is over, by whatever node there is then.
    scene.given_back(1, 15_400).await;
    until("all to be over", async || scene.open_commands("").await == 0).await;
    assert_eq!((scene.points(0).await, scene.points(1).await), (2_150, 15_400));
    assert_eq!(scene.done("accrual", "acc-000124").await, [] as [Value; 0]);
    let audit = scene.hub.asked(&["loyalty", "audit"]);
    assert_eq!(audit["findings"], json!([]), "{audit}");
}

impl Scene {
    /// Asks what is answered at once; then the node is killed at the first call to this path, and once more at the next.
    async fn killed_at_answered(&mut self, path: &str, what: &str, body: Value) {
        let late = json!({ "kind": "latency", "latency_ms": LATE_MS, "path": path });
        self.control("faults", &late).await;
        let before = self.calls(path).await;
        self.answered(what, body).await;
        until("the first call", async || self.calls(path).await > before).await;
        self.hub.signal("-KILL");
        // The question comes again and is answered; what follows from it is not.
        let giving_back =
            json!({ "kind": "latency", "latency_ms": LATE_MS, "path": format!("{path}{}/reverse", self.last_operation().await) });
        self.control("faults", &giving_back).await;
        self.hub.serve(&[]).await;
        self.killed_after(path, before + 2).await;
    }

    async fn last_operation(&self) -> String {
        let operations = self.done("redemption", "acc-000123").await;
        operations.last().unwrap()["operation_id"].as_str().unwrap().to_owned()
    }

    /// The quote's own time and a minute go by.
    async fn given_back(&self, account: usize, points: i64) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(150);
        while self.points(account).await != points {
            assert!(std::time::Instant::now() < deadline, "the points have not come back");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}
