//! Polls: what no webhook told of, read from the stand-ins on the schedule.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::world::{World, setup, until};

const ORGANIZATION: &str = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9";
const BRANCH: u32 = 4564;

/// A provider that is polled: what it holds, and what it would have told by webhook.
#[derive(Clone, Copy)]
enum Polled {
    Iiko,
    Yclients,
}

impl Polled {
    const ALL: [Self; 2] = [Self::Iiko, Self::Yclients];

    fn provider(self) -> &'static str {
        match self {
            Self::Iiko => "iiko",
            Self::Yclients => "yclients",
        }
    }

    /// Where it is asked for changes.
    fn path(self) -> &'static str {
        match self {
            Self::Iiko => "/api/1/deliveries/by_revision",
            Self::Yclients => "/api/v1/records/",
        }
    }

    fn settings(self, sandbox: &str) -> Value {
        match self {
            Self::Iiko => {
                json!({ "base_url": format!("{sandbox}/iiko"), "api_login": "login-of-the-cafe", "organization_id": ORGANIZATION, "poll_every_s": 30 })
            }
            Self::Yclients => json!({
                "base_url": format!("{sandbox}/yclients/api/v1"), "partner_token": "partner-token", "user_token": "utok_example",
                "company_id": BRANCH, "time_zone": "Europe/Moscow", "poll_every_s": 30, "records_per_page": 2,
            }),
        }
    }

    /// A guest who was served, as the provider keeps it.
    fn served(self, id: u32, at: Timestamp) -> Value {
        let phone = phone(id);
        match self {
            Self::Iiko => json!({
                "id": format!("00000000-0000-4000-8000-{id:012}"), "organizationId": ORGANIZATION, "timestamp": at.as_millisecond(),
                "creationStatus": "Success",
                "order": { "status": "Closed", "phone": phone, "number": id, "customer": { "name": "Анна" },
                    "completeBefore": moscow(at, "%Y-%m-%d %H:%M:%S.000") },
            }),
            Self::Yclients => json!({
                "id": id, "company_id": BRANCH, "visit_id": id + 1_000, "attendance": 1, "visit_attendance": 1, "deleted": false,
                "date": moscow(at, "%Y-%m-%d %H:%M:%S"), "datetime": moscow(at, "%Y-%m-%dT%H:%M:%S+03:00"),
                "last_change_date": moscow(at, "%Y-%m-%dT%H:%M:%S+0300"), "client": { "id": id, "name": "Анна", "phone": phone },
            }),
        }
    }

    fn told(self, kept: &Value) -> Value {
        match self {
            Self::Iiko => json!([{ "eventType": "DeliveryOrderUpdate", "organizationId": ORGANIZATION, "eventInfo": kept }]),
            Self::Yclients => {
                json!({ "company_id": BRANCH, "resource": "record", "resource_id": kept["id"], "status": "update", "data": kept })
            }
        }
    }

    async fn holds(self, world: &World, kept: &[Value]) {
        let collection = match self {
            Self::Iiko => "iiko/orders",
            Self::Yclients => "yclients/records",
        };
        world.control(collection, &json!(kept)).await;
    }

    /// Merchant `m`, with this provider polled.
    async fn set_up(self, world: &World, more: Value, rules: Value) {
        let mut setup = setup(&world.sandbox.url(), &rules);
        let connections = setup["connection"].as_array_mut().unwrap();
        let connection = connections.iter_mut().find(|connection| connection["slug"] == self.provider()).unwrap();
        connection["settings"] = self.settings(&world.sandbox.url());
        connection["poll"] = json!(true);
        connection.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.apply(&setup).await;
    }

    /// The first turn only finds out where "now" is; YCLIENTS need not even be asked for that.
    async fn began(self, world: &World) {
        world.in_time("the first turn", async || !world.calls(self.provider(), self.path()).await.is_empty()).await;
    }

    async fn polled(self, world: &World, times: usize) {
        until("the poll", async || world.calls(self.provider(), self.path()).await.len() >= times).await;
    }

    /// What came in, webhooks and polls alike.
    async fn came(self, world: &World) -> Vec<Value> {
        let rows = world.api(&format!("/api/v1/journal?provider={}&limit=1000", self.provider())).await;
        rows.as_array().unwrap().iter().filter(|row| row["direction"] == "IN").cloned().collect()
    }
}

fn phone(id: u32) -> String {
    format!("+7999222{id:04}")
}

fn moscow(at: Timestamp, format: &str) -> String {
    at.in_tz("Europe/Moscow").unwrap().strftime(format).to_string()
}

async fn phones(world: &World) -> Vec<String> {
    let mut phones: Vec<String> = world.texts().await.into_iter().map(|(phone, _)| format!("+{phone}")).collect();
    phones.sort();
    phones
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_webhook_told_of_gives_its_text_and_what_is_older_gives_none() {
    for polled in Polled::ALL {
        let world = World::bare(Parts::default(), |_| {}).await;
        let old = polled.served(1, world.clock.now() - SignedDuration::from_mins(30));
        polled.holds(&world, std::slice::from_ref(&old)).await;
        polled.set_up(&world, json!({}), json!({})).await;
        polled.began(&world).await;
        let now = world.clock.now();
        let missed: Vec<Value> = [old].into_iter().chain((2..=6).map(|id| polled.served(id, now))).collect();
        polled.holds(&world, &missed).await;
        world.pass(1);
        until("five texts", async || world.texts().await.len() == 5).await;
        assert_eq!(phones(&world).await, (2..=6).map(phone).collect::<Vec<_>>());
        let rows = polled.came(&world).await;
        assert_eq!(rows.len(), 5, "the old one is not even journalled: {rows:?}");
        assert!(rows.iter().all(|row| row["state"] == "read" && row["endpoint"] == "POLL "), "{rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_by_webhook_and_by_poll_gives_one_text() {
    for polled in Polled::ALL {
        let world = World::bare(Parts::default(), |_| {}).await;
        polled.holds(&world, &[]).await;
        polled.set_up(&world, json!({}), json!({})).await;
        polled.began(&world).await;
        let kept = polled.served(1, world.clock.now());
        assert_eq!(world.post(polled.provider(), &polled.told(&kept)).await.status(), 200);
        world.quiet().await;
        polled.holds(&world, std::slice::from_ref(&kept)).await;
        world.pass(1);
        until("the repeat", async || polled.came(&world).await.iter().any(|row| row["state"] == "duplicate")).await;
        world.quiet().await;
        assert_eq!(phones(&world).await, [phone(1)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_start_brings_history_and_no_text_unless_a_flow_asks_for_it() {
    for polled in Polled::ALL {
        for (hours, asked) in [(2, false), (5, false), (2, true)] {
            let world = World::bare(Parts::default(), |_| {}).await;
            let now = world.clock.now();
            let old = polled.served(1, now - SignedDuration::from_mins(60 * hours - 30));
            polled.holds(&world, std::slice::from_ref(&old)).await;
            let since = (now - SignedDuration::from_hours(hours)).to_string();
            polled.set_up(&world, json!({ "since": since }), json!({ "history": asked })).await;
            world.in_time("the old one", async || polled.came(&world).await.len() == 1).await;
            world.quiet().await;
            let entry = world.newest(polled.provider()).await;
            assert_eq!((entry["state"].as_str(), &entry["events"][0]["history"]), (Some("read"), &json!(true)), "{entry}");
            assert_eq!(world.texts().await.len(), usize::from(asked), "{entry}");
            if !asked {
                assert!(entry["notes"].to_string().contains("before the connection was set up"), "{entry}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_stops_between_polls_misses_nothing_and_takes_nothing_twice() {
    for polled in Polled::ALL {
        let world = World::bare(Parts::default(), |_| {}).await;
        polled.holds(&world, &[]).await;
        polled.set_up(&world, json!({}), json!({})).await;
        polled.began(&world).await;
        // Stopped while the answer with the first three is under way: page and cursor are kept, or neither is.
        let first: Vec<Value> = (1..=3).map(|id| polled.served(id, world.clock.now())).collect();
        polled.holds(&world, &first).await;
        let before = world.calls(polled.provider(), polled.path()).await.len();
        world
            .control(
                &format!("{}/faults", polled.provider()),
                &json!({ "kind": "latency", "latency_ms": 700, "path": polled.path() }),
            )
            .await;
        world.pass(1);
        polled.polled(&world, before + 1).await;
        let world = world.restart(async |_, _| {}).await;
        let all: Vec<Value> = first.into_iter().chain((4..=6).map(|id| polled.served(id, world.clock.now()))).collect();
        polled.holds(&world, &all).await;
        let world = world.restart(async |_, clock| clock.advance(SignedDuration::from_mins(2))).await;
        world.in_time("six texts", async || world.texts().await.len() >= 6).await;
        world.quiet().await;
        assert_eq!(phones(&world).await, (1..=6).map(phone).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_fails_raises_one_notice_and_goes_on_later() {
    for polled in Polled::ALL {
        let world = World::bare(Parts::default(), |_| {}).await;
        polled.holds(&world, &[]).await;
        polled.set_up(&world, json!({}), json!({})).await;
        polled.began(&world).await;
        polled.holds(&world, &[polled.served(1, world.clock.now())]).await;
        let faults = json!([{ "kind": "status", "status": 500, "path": polled.path() }, { "kind": "garbage", "path": polled.path() },
            { "kind": "cut_after", "path": polled.path() }]);
        world.control(&format!("{}/faults", polled.provider()), &faults).await;
        let faults = format!("{}/faults", polled.provider());
        world.in_time("three failures", async || world.shown(&faults).await == json!([])).await;
        world.in_time("the text", async || world.texts().await.len() == 1).await;
        let notices = world.notices("poll").await;
        assert_eq!(notices.len(), 1, "{notices:?}");
    }
}
