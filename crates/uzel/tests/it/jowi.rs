//! JOWi Club from outside: questions of a till within its patience, purchases told later and once, redemptions that are unclear.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uzel::hub::Parts;
use uzel_engine::loyalty::{
    club::{Heard, Silence},
    club_jobs::Later,
};
use uzel_model::{
    Id,
    id::Kind,
    port::loyalty::{Account, AccountKey, Accrual, Operation, Redemption, Reversal, Why, operation_id},
};

use crate::{
    conformance,
    world::{FIXTURE_KEY, World, until},
};

const PHONE: &str = "+998901234567";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ACCRUALS: &str = "/v3/loyalty/accruals";
const REDEMPTIONS: &str = "/v3/loyalty/redemptions";

pub(crate) fn connection(sandbox: &str) -> Value {
    let settings = conformance::settings(uzel_connectors::provider("jowi").unwrap(), sandbox);
    json!({ "merchant": "m", "slug": "jowi", "provider": "jowi", "settings": settings, "webhook_keys": [FIXTURE_KEY] })
}

async fn world() -> World {
    let world = World::bare(Parts::default(), |_| {}).await;
    world
        .apply(&json!({ "merchant": [{ "slug": "m", "country": "UZ" }], "connection": [connection(&world.sandbox.url())] }))
        .await;
    world
}

impl World {
    fn jowi(&self) -> std::sync::Arc<uzel_engine::Link> {
        self.hub.engine.world().connection("jowi").unwrap().clone()
    }

    async fn heard(&self, by: AccountKey, patience_ms: u64) -> Heard<Account> {
        let until = tokio::time::Instant::now() + Duration::from_millis(patience_ms);
        self.hub.engine.club_account(&self.jowi(), by, TRACE, until).await
    }

    async fn account_heard(&self, patience_ms: u64) -> Heard<Account> {
        self.heard(AccountKey::Phone(PHONE.to_owned()), patience_ms).await
    }

    async fn redeemed(&self, redemption: Redemption) -> Heard<Operation> {
        let until = tokio::time::Instant::now() + Duration::from_millis(800);
        self.hub.engine.club_redeem(&self.jowi(), redemption, TRACE, until).await
    }

    async fn later(&self, later: Later) -> String {
        self.hub.engine.club_later(&self.jowi(), later, TRACE).await.unwrap().to_string()
    }

    async fn points(&self) -> i64 {
        self.shown("jowi/accounts").await[0]["balance"]["points"].as_i64().unwrap()
    }

    async fn ended(&self, id: &str) -> Value {
        let mut command = Value::Null;
        until("the command to end", async || {
            command = self.api(&format!("/api/v1/commands/{id}")).await;
            ["done", "dead", "unknown"].iter().any(|state| command["state"] == *state)
        })
        .await;
        command
    }
}

pub(crate) fn accrual(receipt: &str) -> Accrual {
    Accrual {
        operation: operation_id("accrual", receipt.as_bytes()),
        account: "acc-000123".to_owned(),
        by: None,
        receipt: receipt.to_owned(),
        sum_minor: 8_000_000,
        by_points_minor: 0,
        at: "2026-01-05T09:35:00Z".parse().unwrap(),
        lines: Vec::new(),
    }
}

pub(crate) fn redemption(receipt: &str, points: i64) -> Redemption {
    Redemption {
        operation: operation_id("redemption", receipt.as_bytes()),
        account: "acc-000123".to_owned(),
        receipt: receipt.to_owned(),
        points,
        worth_minor: points * 100,
        sum_minor: 5_000_000,
        confirmation: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_asked_for_by_phone_card_or_code_and_nothing_that_signs_is_kept() {
    let world = world().await;
    for numbers_as_text in [false, true] {
        world.control("jowi/settings", &json!({ "numbers_as_text": numbers_as_text })).await;
        for by in [
            AccountKey::Phone(PHONE.to_owned()),
            AccountKey::Card("2900001234567".to_owned()),
            AccountKey::Code("481516".to_owned()),
        ] {
            let Heard::Yes(account) = world.heard(by.clone(), 800).await else { panic!("{by:?}") };
            assert_eq!((account.id.as_str(), account.available, account.point_minor), ("acc-000123", 15_400, 100), "{by:?}");
            assert_eq!((account.accrual_bps, account.redeem_max_bps), (500, 3_000));
        }
    }
    let nobody = world.heard(AccountKey::Card("1".to_owned()), 800).await;
    assert!(matches!(nobody, Heard::No(declined) if declined.why == Why::NotFound));
    world.later(Later::Accrue(accrual("r1"))).await;
    until("the accrual", async || world.commands("done").await == 1).await;
    until("eight exchanges", async || world.api("/api/v1/journal?provider=jowi").await.as_array().unwrap().len() == 8).await;
    let called = world.shown("jowi/calls").await.to_string();
    assert!(called.contains("c57a33f2e70595a"), "it did go out");
    for row in world.api("/api/v1/journal?provider=jowi").await.as_array().unwrap() {
        let whole = world.api(&format!("/api/v1/journal/{}?unmasked=true", row["id"].as_str().unwrap())).await.to_string()
            + &row.to_string();
        for secret in ["c57a33f2e70595a", "demo-api-key-0001", "demo-api-secret-0001", "901234567&"] {
            assert!(!whole.contains(secret), "{secret}: {whole}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_programme_does_a_till_is_answered_within_its_patience() {
    let world = world().await;
    let status = |status: u16| json!({ "kind": "status", "status": status });
    let kind = |kind: &str| json!({ "kind": kind });
    let silent = |silence: Silence| move |heard: &Heard<Account>| *heard == Heard::Nothing(silence);
    type Right = Box<dyn Fn(&Heard<Account>) -> bool>;
    let cases: Vec<(&str, Value, Value, Right)> = vec![
        ("slow", json!({ "kind": "latency", "latency_ms": 2_000 }), json!({}), Box::new(silent(Silence::Slow))),
        ("500", status(500), json!({}), Box::new(silent(Silence::Down))),
        ("503", status(503), json!({}), Box::new(silent(Silence::Down))),
        ("429", status(429), json!({}), Box::new(silent(Silence::Down))),
        ("401", status(401), json!({}), Box::new(silent(Silence::Unauthorized))),
        ("cut", kind("cut_before"), json!({}), Box::new(silent(Silence::Down))),
        ("HTML", kind("garbage"), json!({}), Box::new(silent(Silence::Unreadable))),
        ("another's account", json!([]), json!({ "lie": "account" }), Box::new(silent(Silence::Unreadable))),
        ("status 1 and nothing", json!([]), json!({ "lie": "empty" }), Box::new(silent(Silence::Unreadable))),
        ("404", status(404), json!({}), Box::new(|heard| matches!(heard, Heard::No(no) if no.why == Why::NotFound))),
        ("423", status(423), json!({}), Box::new(|heard| matches!(heard, Heard::No(no) if no.why == Why::Blocked))),
        ("status 0", status(200), json!({}), Box::new(|heard| matches!(heard, Heard::No(no) if no.why == Why::Other))),
    ];
    for (what, fault, settings, right) in cases {
        world.control("jowi/settings", &json!({ "lie": "none" })).await;
        world.control("jowi/settings", &settings).await;
        world.control("jowi/faults", &json!([])).await;
        world.control("jowi/faults", &fault).await;
        let began = Instant::now();
        let heard = world.account_heard(800).await;
        assert!(right(&heard), "{what}: {heard:?}");
        assert!(began.elapsed() < Duration::from_millis(950), "{what}: {:?}", began.elapsed());
        world.control("jowi/settings", &json!({ "lie": "none" })).await;
        world.control("jowi/faults", &json!([])).await;
        until("an answer again", async || matches!(world.account_heard(3_000).await, Heard::Yes(_))).await;
    }
    // The slow call went on to its end, and is journalled.
    until("all exchanges", async || world.api("/api/v1/journal?provider=jowi&limit=1000").await.as_array().unwrap().len() >= 24)
        .await;
    assert_eq!(world.notices("unauthorized").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_that_is_silent_three_times_is_left_alone_and_the_till_is_told_at_once() {
    let world = world().await;
    world.control("jowi/faults", &json!({ "kind": "latency", "latency_ms": 1_500, "for_ms": 600_000 })).await;
    for _ in 0..3 {
        assert_eq!(world.account_heard(100).await, Heard::Nothing(Silence::Slow));
    }
    let calls = world.calls("jowi", "/v3/loyalty/accounts").await.len();
    let began = Instant::now();
    assert_eq!(world.account_heard(5_000).await, Heard::Nothing(Silence::LeftAlone));
    assert!(began.elapsed() < Duration::from_millis(100));
    assert_eq!(world.calls("jowi", "/v3/loyalty/accounts").await.len(), calls);
    let page =
        world.web.get(format!("{}/metrics", world.hub.url())).bearer_auth(world.hub.owner_key().unwrap()).send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains(r#"uzel_loyalty_outside_asked_total{provider="jowi",result="slow"} 3"#), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accrual_whose_answer_is_lost_is_told_again_and_counts_once() {
    for repeats in ["as_good", "as409", "bare409"] {
        for http_errors in [false, true] {
            let world = world().await;
            world.control("jowi/settings", &json!({ "repeats": repeats, "http_errors": http_errors })).await;
            let lost = json!({ "kind": "cut_after", "path": ACCRUALS });
            world.control("jowi/faults", &json!([lost, { "kind": "status", "status": 500, "path": ACCRUALS }])).await;
            let id = world.later(Later::Accrue(accrual("r1"))).await;
            let command = world.ended(&id).await;
            assert_eq!((&command["state"], &command["provider_id"]), (&json!("done"), &json!("op-9001")), "{repeats}: {command}");
            assert_eq!(world.points().await, 19_400, "{repeats}");
            assert_eq!(world.calls("jowi", ACCRUALS).await.len(), 3);
            // The same purchase queued once more is the same to the programme.
            world.ended(&world.later(Later::Accrue(accrual("r1"))).await).await;
            assert_eq!((world.points().await, world.shown("jowi/operations").await.as_array().unwrap().len()), (19_400, 1));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accrual_waits_for_a_programme_that_is_down_or_undecided() {
    let world = world().await;
    world.control("jowi/faults", &json!({ "kind": "status", "status": 503, "for_ms": 600_000 })).await;
    let id = world.later(Later::Accrue(accrual("r1"))).await;
    until("some tries", async || world.calls("jowi", ACCRUALS).await.len() >= 2).await;
    assert_eq!(world.commands("dead").await, 0);
    world.control("jowi/faults", &json!([])).await;
    world.control("jowi/settings", &json!({ "pending": true })).await;
    world
        .in_time("a try that is not decided", async || {
            world.api(&format!("/api/v1/commands/{id}")).await["reason"] == "the programme has not decided it yet"
        })
        .await;
    world.control("jowi/settings", &json!({ "pending": false })).await;
    world.in_time("the accrual", async || world.commands("done").await == 1).await;
    assert_eq!(world.points().await, 19_400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accrual_that_is_refused_or_never_taken_is_a_person_s_to_do() {
    let world = world().await;
    let unknown = Accrual { account: "acc-nobody".to_owned(), ..accrual("r1") };
    let command = world.ended(&world.later(Later::Accrue(unknown)).await).await;
    assert!(command["state"] == "dead" && command["reason"].as_str().unwrap().contains("404"), "{command}");
    assert!(world.notices("loyalty").await[0]["text"].as_str().unwrap().contains("receipt r1"));
    world.pass(25 * 60);
    world.control("jowi/faults", &json!({ "kind": "garbage", "for_ms": 600_000 })).await;
    let id = world.later(Later::Accrue(accrual("r2"))).await;
    world
        .in_steps(jiff::SignedDuration::from_hours(3), "it to be given up", async || {
            world.api(&format!("/api/v1/commands/{id}")).await["state"] == "dead"
        })
        .await;
    assert_eq!(world.points().await, 15_400);
    assert_eq!(world.notices("loyalty").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_redemption_is_no_discount_and_its_points_are_given_back() {
    let world = world().await;
    for (round, fault) in [
        json!({ "kind": "cut_after", "path": REDEMPTIONS }),
        json!({ "kind": "latency", "latency_ms": 1_500, "path": REDEMPTIONS }),
        json!({ "kind": "garbage", "path": REDEMPTIONS }),
        json!({ "kind": "cut_before", "path": REDEMPTIONS }),
        json!([]),
    ]
    .iter()
    .enumerate()
    {
        let done_there = round < 2;
        let redemption = redemption(&format!("r{round}"), 10_000);
        let operation = redemption.operation.clone();
        let due_at = world.clock.now() + jiff::SignedDuration::from_mins(5);
        let id = world.later(Later::Release { operation: operation.clone(), hold: None, due_at }).await;
        if round == 4 {
            world.control("jowi/settings", &json!({ "lie": "points" })).await;
        } else {
            world.control("jowi/faults", fault).await;
        }
        let heard = world.redeemed(redemption).await;
        assert!(matches!(heard, Heard::Nothing(_)), "{round}: {heard:?}");
        world.control("jowi/settings", &json!({ "lie": "none" })).await;
        assert_eq!(world.points().await, if done_there || round == 4 { 5_400 } else { 15_400 }, "{round}");
        world.pass(6);
        if done_there || round == 4 {
            world.ended(&id).await;
        } else {
            // It may still arrive: that it is not there now says nothing yet.
            until("a look", async || {
                world.api(&format!("/api/v1/commands/{id}")).await["reason"] == "the programme knows nothing of it yet"
            })
            .await;
            world.in_time("it to be left", async || world.api(&format!("/api/v1/commands/{id}")).await["state"] == "done").await;
        }
        world.quiet().await;
        assert_eq!(world.points().await, 15_400, "{round}");
        let reversal = Reversal::of(&operation, "").operation;
        let reversed =
            world.shown("jowi/operations").await.as_array().unwrap().iter().any(|done| done["operation_id"] == reversal);
        assert_eq!(reversed, done_there || round == 4, "{round}");
        assert!(matches!(world.account_heard(3_000).await, Heard::Yes(_)));
    }
}

fn settle(receipt: &str, points: i64) -> Later {
    Later::Settle { redemption: redemption(receipt, points), command: Id::new(Kind::Command) }
}

#[tokio::test(flavor = "multi_thread")]
async fn points_given_without_a_connection_are_settled_and_what_is_not_there_is_shown_as_a_loss() {
    let world = world().await;
    world.ended(&world.later(settle("r1", 1_000)).await).await;
    assert_eq!(world.points().await, 14_400);
    let command = world.ended(&world.later(settle("r2", 15_000)).await).await;
    assert_eq!(command["state"], "dead");
    let notice = world.notices("loyalty").await[0]["text"].as_str().unwrap().to_owned();
    assert!(notice.contains("a loss of 15000:"), "{notice}");
    let page =
        world.web.get(format!("{}/metrics", world.hub.url())).bearer_auth(world.hub.owner_key().unwrap()).send().await.unwrap();
    let page = page.text().await.unwrap();
    for line in [
        r#"uzel_loyalty_offline_minor_total{provider="jowi",result="settled"} 100000"#,
        r#"uzel_loyalty_offline_minor_total{provider="jowi",result="lost"} 1500000"#,
    ] {
        assert!(page.contains(line), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_by_oauth_is_renewed_when_it_ends_and_health_says_how_it_stands() {
    let world = world().await;
    let health = world.api("/api/v1/connections/jowi/health").await.to_string();
    assert!(health.contains("the programme answers"), "{health}");
    let mut connection = connection(&world.sandbox.url());
    let settings = connection["settings"].as_object_mut().unwrap();
    settings.remove("api_key");
    settings.remove("api_secret");
    settings.extend(json!({ "client_id": "demo-client", "client_secret": "demo-client-secret" }).as_object().unwrap().clone());
    world.apply(&json!({ "connection": [connection] })).await;
    for _ in 0..2 {
        assert!(matches!(world.account_heard(3_000).await, Heard::Yes(_)));
        world.control("jowi/faults", &json!({ "kind": "token_expiry" })).await;
    }
    assert!(matches!(world.account_heard(3_000).await, Heard::Yes(_)));
    assert_eq!(world.calls("jowi", "/oauth/token").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_a_hint_that_counts_once_and_its_proof_is_not_kept() {
    let world = world().await;
    let hub = world.hub.url();
    let tell = async |path: &str, replace: Value| {
        let options = json!({ "url": format!("{hub}{path}"), "replace": replace });
        let told = world.told_by("jowi", "event", &options).await;
        (told["status"].as_u64().unwrap(), told["body"].as_str().unwrap().to_owned())
    };
    for path in ["/hooks/jowi/demo-key", "/hooks/jowi/demo-key", "/hooks/jowi?key=demo-key", "/api/webhook/jowi?key=demo-key"] {
        assert_eq!(tell(path, json!({})).await, (200, r#"{"status":1}"#.to_owned()), "{path}");
    }
    for path in ["/hooks/jowi/c0ffee", "/hooks/jowi", "/hooks/jowi/demo-key/more"] {
        assert_eq!(tell(path, json!({})).await.0, 401, "{path}");
    }
    let forged = json!({ "c57a33f2e70595a": "c57a33f2e70595b" });
    assert_eq!(tell("/hooks/jowi/demo-key", forged).await.0, 401);
    until("it to be read", async || world.api("/api/v1/journal?status=unread").await == json!([])).await;
    let events = world.api("/api/v1/events").await;
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    assert_eq!(events[0]["type"], "loyalty.account_changed");
    let kept = world.api("/api/v1/journal?provider=jowi").await;
    for row in kept.as_array().unwrap() {
        let whole = world.api(&format!("/api/v1/journal/{}?unmasked=true", row["id"].as_str().unwrap())).await.to_string();
        for secret in ["c57a33f2e70595a", "demo-api-key-0001", "hooks/jowi/demo-key"] {
            assert!(!whole.contains(secret), "{secret}: {whole}");
        }
    }
    until("the refusals", async || {
        world.api("/api/v1/connections/jowi/refusals").await.as_array().is_some_and(|kept| kept.len() == 4)
    })
    .await;
    let refusals = world.api("/api/v1/connections/jowi/refusals").await.to_string();
    for secret in ["c57a33f2e70595", "demo-api-key-0001", "demo-key", "c0ffee"] {
        assert!(!refusals.contains(secret), "{secret}: {refusals}");
    }
}
