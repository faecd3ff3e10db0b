//! The account at SMS.ru from outside: limits and senders, its stop list and its way into our opt-outs, calls that prove a phone.

use serde_json::{Value, json};

use crate::{
    binary::Binary,
    world::{World, setup},
};

const STOP_LIST: &str = "/api/v1/connections/smsru/stop-list";

async fn told_by_callback(world: &World, options: &Value) {
    let hook = format!("{}{}", world.hub.url(), world.link("smsru").await["hook"].as_str().unwrap());
    let mut options = options.clone();
    options["url"] = json!(hook);
    assert_eq!(world.told_by("smsru", "callback", &options).await["body"], "100");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_is_told_in_one_look() {
    let world = World::new(json!({})).await;
    world.control("smsru/settings", &json!({ "balance": 4762.58, "daily_limit": 500, "senders": ["Kofeynya"] })).await;
    let account = world.api("/api/v1/connections/smsru/account").await;
    let limits = json!([
        { "what": "messages_a_day", "total": 500, "used": 0 }, { "what": "free_messages_a_day", "total": 5, "used": 0 }
    ]);
    assert_eq!(account, json!({ "balance": "4762.58", "currency": "RUB", "limits": limits, "senders": ["Kofeynya"] }));
    // Whoever has no such account says so, and a provider that answers nonsense is told of as such.
    assert_eq!(world.api("/api/v1/connections/iiko/account").await["detail"], "this provider tells nothing of the account");
    for fault in ["garbage", "cut_after", "rate_limit"] {
        world.control("smsru/faults", &json!({ "kind": fault, "path": "/my/senders" })).await;
        assert_eq!(world.api("/api/v1/connections/smsru/account").await["status"], 502, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_list_is_kept_at_smsru_and_shown_masked() {
    let world = World::new(json!({})).await;
    assert_eq!(world.api(STOP_LIST).await, json!([]));
    let (status, added) = world.ask(STOP_LIST, &json!({ "phone": "8 999 000-55-66", "note": "asked us, +79990005566" })).await;
    assert_eq!((status, added), (200, json!({ "phone": "+7999***5566", "stopped": true })));
    assert_eq!(world.api(STOP_LIST).await, json!([{ "phone": "7999***5566", "note": "asked us, +7999***5566" }]));
    let whole = world.api(&format!("{STOP_LIST}?unmasked=true")).await;
    assert_eq!(whole, json!([{ "phone": "79990005566", "note": "asked us, +79990005566" }]));
    let removed = world.ask(&format!("{STOP_LIST}/remove"), &json!({ "phone": "+79990005566" })).await;
    assert_eq!(removed, (200, json!({ "phone": "+7999***5566", "stopped": false })));
    assert_eq!(world.api(STOP_LIST).await, json!([]));
    for (body, place) in [
        (json!({}), "/phone"),
        (json!({ "phone": "no phone" }), "/phone"),
        (json!({ "phone": 79_990_005_566_i64 }), "/phone"),
        (json!({ "phone": ["+79990005566"] }), "/phone"),
        (json!({ "phone": "+79990005566", "note": "ы".repeat(201) }), "/note"),
    ] {
        let (status, problem) = world.ask(STOP_LIST, &body).await;
        assert!((400..500).contains(&status) && problem["errors"][0]["pointer"] == place, "{body}: {status} {problem}");
    }
    let audit = world.api("/api/v1/audit").await.to_string();
    assert!(audit.contains("stop_list.add") && audit.contains("stop_list.remove") && !audit.contains("79990005566"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_on_the_list_gets_nothing_by_any_connection_after_an_import() {
    let world = World::new(json!({})).await;
    let mut setup = setup(&world.sandbox.url(), &json!({ "via": "other" }));
    let other = json!({ "merchant": "m", "slug": "other", "provider": "log", "settings": {} });
    setup["connection"].as_array_mut().unwrap().push(other);
    world.apply(&setup).await;
    for place in 0..70 {
        let phone = format!("+7999000{place:04}");
        assert_eq!(world.ask(STOP_LIST, &json!({ "phone": phone })).await.0, 200);
    }
    let form = [("api_id", "k"), ("json", "1"), ("stoplist_phone", "12"), ("stoplist_text", "")];
    world.web.post(format!("{}/smsru/stoplist/add", world.sandbox.url())).form(&form).send().await.unwrap();
    // Twice the same is the same.
    for _ in 0..2 {
        let imported = world.ask(&format!("{STOP_LIST}/import"), &json!({})).await;
        assert_eq!(imported, (200, json!({ "opted_out": 70, "unreadable": 1 })));
    }
    let served = |id: u32, phone: &str| json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone } } });
    for (id, phone) in [(1, "+79990000000"), (2, "+79990000069"), (3, "+79990000070")] {
        world.post("rkeeper", &served(id, phone)).await;
    }
    world.quiet().await;
    assert_eq!(world.api("/api/v1/counts").await["held"], json!([["opt_out", 2]]));
    assert_eq!(world.commands("done").await, 1);
    let proofs = world.texts_of("SELECT DISTINCT proof FROM contact WHERE proof IS NOT NULL").await;
    assert_eq!(proofs, ["stop list of SMS.ru"]);
    // A list that cannot be had changes nothing and says so.
    world.control("smsru/faults", &json!({ "kind": "garbage", "path": "/stoplist/get" })).await;
    assert_eq!(world.ask(&format!("{STOP_LIST}/import"), &json!({})).await.0, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_is_proved_by_a_call_and_the_news_of_it_is_an_event() {
    let world = World::new(json!({})).await;
    let checks = "/api/v1/connections/smsru/call-checks";
    let (status, check) = world.ask(checks, &json!({ "phone": "8 (999) 000-11-22" })).await;
    let wanted = json!({ "id": "202647-542", "call": "+78005008275", "call_pretty": "+7 (800) 500-8275", "valid_s": 300 });
    assert_eq!((status, &check), (200, &wanted));
    let state = async || world.api(&format!("{checks}/202647-542")).await["state"].clone();
    assert_eq!(state().await, "waiting");
    world.control("smsru/checks", &json!({ "202647-542": 401 })).await;
    assert_eq!(state().await, "confirmed");
    assert_eq!(world.api(&format!("{checks}/202647-9")).await["state"], "ended", "an id that nobody knows");
    assert_eq!(world.ask(checks, &json!({ "phone": "+7999" })).await.0, 400);

    // The same news twice is one event; another end of the same check is another.
    for (status, times) in [(401, 2), (402, 1)] {
        for _ in 0..times {
            told_by_callback(&world, &json!({ "check_id": "202647-542", "check_status": status })).await;
        }
    }
    told_by_callback(&world, &json!({ "check_id": "202647-542", "check_status": 400 })).await;
    let events = world.api("/api/v1/events?type=call_check.ended").await;
    let told: Vec<_> = events.as_array().unwrap().iter().map(|event| event["data"]["details"].clone()).collect();
    assert_eq!(told, [json!({ "check": "202647-542", "confirmed": false }), json!({ "check": "202647-542", "confirmed": true })]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_tells_the_account_and_keeps_the_stop_list() {
    let sandbox = uzel_sandbox::Sandbox::start(crate::world::anywhere()).await.unwrap();
    let mut binary = Binary::new(&[("UZEL_ALLOW_NETWORKS", "127.0.0.0/8")]);
    let settings = format!("settings = {{ api_id = 'k', base_url = '{}/smsru' }}", sandbox.url());
    binary.write(
        "setup.toml",
        &format!("[[merchant]]\nslug = 'm'\n[[connection]]\nmerchant = 'm'\nslug = 'texts'\nprovider = 'smsru'\n{settings}\n"),
    );
    let applied = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(applied.code, 0, "{}{}", applied.out, applied.err);
    binary.serve(&[]).await;
    for (arguments, words) in [
        (
            &["account", "texts"][..],
            "RUB\nmessages a day: 0 used of 1000000000\nfree messages a day: 0 used of 5\nsenders: Kofeynya, ",
        ),
        (&["stop-list", "list", "texts"], "nobody is on it"),
        (&["stop-list", "add", "texts", "+79990005566", "--note", "asked us"], "+7999***5566 is on the provider's stop list"),
        (&["stop-list", "list", "texts"], "7999***5566  asked us"),
        (&["stop-list", "import", "texts"], "1 people get no messages any more; 0 rows are no phone"),
        (&["stop-list", "remove", "texts", "+79990005566"], "+7999***5566 is not on the provider's stop list any more"),
        (&["call-check", "begin", "texts", "+79990001122"], "to call +7 (800) 500-8275 within 300 s"),
        (&["call-check", "show", "texts", "202647-542"], "waiting"),
    ] {
        let told = binary.uzel(&[&["connections"], arguments].concat());
        assert!(told.code == 0 && told.out.contains(words), "{arguments:?}: {}{}", told.out, told.err);
    }
    assert_eq!(binary.uzel(&["connections", "stop-list", "add", "texts", "no phone"]).code, 1);
}
