//! Tills through their providers, the platform's settings of a merchant, customers in the API and on the command line.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    binary::Binary,
    loyalty::{Shop, plain, quote},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_tills_provider_passes_everything_on() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-1", 100).await;
    let mut body = quote("", "C-1", "O-1", 100);
    body.as_object_mut().unwrap().remove("mode");
    let quoted = shop.post("/integrations/rkeeper/quote", &body).await;
    assert_eq!(quoted.given(201)["pointsToBurn"], 50, "redeem where nothing is said");
    body["mode"] = json!("EARN");
    body["orderId"] = json!("O-2");
    assert_eq!(shop.post("/integrations/rkeeper/quote", &body).await.given(201)["pointsToEarn"], 5);
    let commit = json!({ "merchantId": "m", "holdId": quoted.body["holdId"], "orderId": "O-1" });
    let key = [("idempotency-key", "c-1")];
    let first = shop.with("/integrations/rkeeper/commit", &key, &commit).await;
    assert_eq!(first.given(201)["redeemApplied"], 50);
    assert_eq!(shop.with("/loyalty/commit", &key, &commit).await.text, first.text, "the key is the same desk's");
    let unknown = json!({ "merchantId": "m", "holdId": "h", "orderId": "O-1" });
    shop.post("/integrations/rkeeper/commit", &unknown).await.refused(400, "Hold not found");
    shop.post("/integrations/nobody/quote", &body).await.refused(404, "no such provider");
    let signed = shop.with("/integrations/rkeeper/commit", &[("x-bridge-signature", "v1,ts=1,sig=x")], &commit).await;
    signed.refused(401, "Invalid bridge signature");

    let page = shop.world.web.get(format!("{}/metrics", shop.world.hub.url())).send().await.unwrap().text().await.unwrap();
    for line in [
        "pos_requests_total{provider=\"RKEEPER\",endpoint=\"quote\",result=\"ok\"} 2",
        "pos_requests_total{provider=\"RKEEPER\",endpoint=\"commit\",result=\"ok\"} 1",
        "pos_requests_total{provider=\"RKEEPER\",endpoint=\"commit\",result=\"error\"} 2",
        "pos_errors_total{provider=\"RKEEPER\",endpoint=\"commit\"} 2",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integration_is_registered_changed_told_of_and_asked_after() {
    let shop = Shop::new(json!({})).await;
    let owner = shop.new_key("n", "owner").await;
    let by = |key: &str| format!("Bearer {key}");
    let owner = by(&owner);
    let head = [("authorization", owner.as_str())];
    let register = async |provider: &str, body: Value| {
        shop.raw(Method::POST, &format!("/integrations/{provider}/register"), &head, body.to_string()).await
    };
    let made = register("evotor", json!({ "merchantId": "n" })).await;
    let id = made.body["integrationId"].clone();
    assert_eq!((made.status, &made.body["success"]), (201, &json!(true)), "{}", made.text);
    assert!(made.body["webhookKey"].is_string(), "{}", made.text);
    let again = register("evotor", json!({ "merchantId": "n", "unknown": 1 })).await;
    assert_eq!((again.status, &again.body), (201, &json!({ "success": true, "integrationId": id })));
    for (provider, body, says) in [
        ("modulkassa", json!({}), "ModulKassa config invalid: #/required must have required property 'apiKey'"),
        ("modulkassa", json!({ "apiKey": 7 }), "ModulKassa config invalid: /apiKey must be string"),
        (
            "poster",
            json!({ "appId": 7 }),
            "Poster config invalid: #/required must have required property 'appSecret'; /appId must be string",
        ),
    ] {
        let mut body = body;
        body["merchantId"] = json!("n");
        register(provider, body).await.refused(400, says);
    }
    for (provider, body) in [
        ("modulkassa", json!({ "merchantId": "n", "apiKey": "user:password" })),
        ("poster", json!({ "merchantId": "n", "appId": "1234", "appSecret": "secret" })),
    ] {
        let made = register(provider, body).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }

    let told = |path: &str, head: &[(&str, &str)]| {
        let path = format!("/integrations/evotor/webhook{path}");
        let head: Vec<(String, String)> = head.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let shop = &shop;
        async move {
            let head: Vec<(&str, &str)> = head.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            shop.raw(Method::POST, &path, &head, r#"{"any":"thing"}"#).await
        }
    };
    let key = made.body["webhookKey"].as_str().unwrap();
    assert_eq!(told(&format!("?key={key}"), &[]).await.given(201), json!({ "ok": true }));
    assert_eq!(told("", &head).await.given(201), json!({ "ok": true }));
    assert_eq!(told("", &[]).await.status, 401);
    let rows = shop.world.api("/api/v1/journal?merchant=n&provider=evotor").await;
    assert_eq!(rows.as_array().unwrap().len(), 2, "one row each: {rows}");

    let health = shop.raw(Method::GET, "/integrations/evotor/health", &head, "").await;
    assert_eq!(health.given(200), json!({ "ok": true }));
    let none = shop.raw(Method::GET, "/integrations/iiko/health", &head, "").await;
    assert_eq!((none.status, &none.body["ok"]), (503, &json!(false)), "{}", none.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_settings_of_a_merchant_are_the_programmes() {
    let shop = Shop::new(json!({})).await;
    let owner = shop.new_key("m", "owner").await;
    let head = [("x-admin-key", owner.as_str())];
    let settings = json!({
        "earnBps": 700, "redeemLimitBps": 4000, "qrTtlSec": 120, "ownField": 1, "redeemDailyCap": 0,
        "requireBridgeSig": true, "pointsTtlDays": 180, "bridgeSecret": "brg_test_secret_0001_long",
        "rulesJson": [{ "if": { "channelIn": ["SMART"], "weekdayIn": [0, 6] }, "then": { "earnBps": 1000 } }],
    });
    let put = shop.raw(Method::PUT, "/merchants/m/settings", &head, settings.to_string()).await;
    assert_eq!(put.status, 200, "{}", put.text);
    assert_eq!(put.body["ignored"], json!(["ownField"]));
    let shown = shop.raw(Method::GET, "/merchants/m/settings", &head, "").await.given(200);
    let wanted = json!({
        "merchantId": "[mer]", "earnBps": 700, "redeemLimitBps": 4000, "qrTtlSec": 120, "redeemCooldownSec": 0, "earnCooldownSec": 0,
        "redeemDailyCap": 0, "earnDailyCap": 0, "requireJwtForQuote": false, "requireBridgeSig": true, "requireStaffKey": false,
        "bridgeSecretIssued": true, "bridgeSecretNextIssued": false, "pointsTtlDays": 180, "earnDelayDays": 0,
        "rulesJson": [{ "if": { "channelIn": ["SMART"], "weekdayIn": [0, 6] }, "then": { "earnBps": 1000 } }], "ignored": [],
        "webhookUrl": null, "webhookKeyId": null, "webhookSecretIssued": false, "webhookKeyIdNext": null,
        "webhookSecretNextIssued": false, "useWebhookNext": false,
    });
    assert_eq!(shown, wanted);
    let public = shop.get("/loyalty/settings/m").await.given(200);
    assert_eq!((&public["qrTtlSec"], &public["merchantId"]), (&json!(120), &json!("[mer]")));
    let outlets = shop.get("/loyalty/outlets/m").await.given(200);
    assert_eq!(outlets[0], json!({ "id": "[out]", "slug": "o", "name": "На Арбате", "posType": "PC_POS" }));

    let short = json!({ "earnBps": 1, "redeemLimitBps": 1, "bridgeSecret": "short" }).to_string();
    assert_eq!(shop.raw(Method::PUT, "/merchants/m/settings", &head, short).await.status, 400);
    let wrong = json!({ "earnBps": 10_001, "redeemLimitBps": 1 }).to_string();
    assert_eq!(shop.raw(Method::PUT, "/merchants/m/settings", &head, wrong).await.status, 400);
    let till = [("x-admin-key", shop.key.as_str())];
    assert_eq!(shop.raw(Method::GET, "/merchants/m/settings", &till, "").await.status, 403);
    assert_eq!(shop.raw(Method::GET, "/merchants", &head, "").await.status, 403, "of the whole hub only");
    let admin = shop.world.hub.owner_key().unwrap();
    let admin = [("x-admin-key", admin.as_str())];
    assert_eq!(shop.raw(Method::GET, "/merchants", &admin, "").await.status, 200);
    let made = shop.raw(Method::POST, "/merchants", &admin, json!({ "slug": "third" }).to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let issued = shop.raw(Method::POST, "/merchants/m/outlets/o/bridge-secret", &head, "{}").await;
    assert!(issued.body["secret"].is_string(), "{}", issued.text);
    assert_eq!(shop.raw(Method::GET, "/api/v1/keys", &admin, "").await.status, 401, "only below /merchants");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_is_set_changed_and_has_a_version() {
    let shop = Shop::new(json!({})).await;
    let whole = format!("Bearer {}", shop.world.hub.owner_key().unwrap());
    let head = [("authorization", whole.as_str())];
    let path = "/api/v1/merchants/m/programme";
    let shown = shop.raw(Method::GET, path, &head, "").await;
    assert_eq!((shown.status, &shown.body["rule"]["unit"]), (200, &json!("rouble")), "{}", shown.text);
    let changed = shop.raw(Method::PATCH, path, &head, json!({ "earn_bps": 1_000 }).to_string()).await;
    assert_eq!((&changed.body["rule"]["earn_bps"], &changed.body["rule"]["unit"]), (&json!(1_000), &json!("rouble")));
    let old = [head[0], ("if-match", shown.header("etag"))];
    assert_eq!(shop.raw(Method::PATCH, path, &old, "{}").await.status, 412);
    let set = shop.raw(Method::PUT, path, &head, json!({ "redeem_limit_bps": 100 }).to_string()).await;
    let rule = &set.body["rule"];
    assert_eq!((&rule["earn_bps"], &rule["unit"], &rule["redeem_limit_bps"]), (&json!(500), &json!("kopeck"), &json!(100)));
    for wrong in [json!({ "earn_bps": -1 }), json!({ "nonsense": 1 }), json!({ "earn_bps": 10_001 })] {
        let refused = shop.raw(Method::PATCH, path, &head, wrong.to_string()).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
    }
    assert_eq!(shop.world.ask("/api/v1/merchants", &json!({ "slug": "third" })).await.0, 201);
    assert_eq!(shop.raw(Method::GET, "/api/v1/merchants/third/programme", &head, "").await.status, 404);
    assert_eq!(shop.raw(Method::PUT, "/api/v1/merchants/third/programme", &head, "{}").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_are_kept_by_people_and_every_point_has_a_cause() {
    let shop = Shop::new(json!({})).await;
    let customer = json!({ "customer": "C-1", "phone": "8 999 123 45 67", "name": "Анна" });
    let (status, made) = shop.world.ask("/api/v1/merchants/m/customers", &customer).await;
    let wanted = json!({
        "id": "[cus]", "merchant": "[mer]", "customer": "C-1", "phone": "+7 999 ***-**-67", "name": "Анна", "level": null, "balance": 0,
        "promised": 0, "receipts": 0, "referred_by": null, "made_at": "[time]",
    });
    let mut plain_made = plain(made.clone());
    assert!(plain_made["phone"].as_str().unwrap().contains('*'), "{made}");
    plain_made["phone"] = wanted["phone"].clone();
    assert_eq!((status, plain_made), (201, wanted));
    assert_eq!(shop.world.ask("/api/v1/merchants/m/customers", &json!({ "customer": "C-1" })).await.0, 409, "once");
    let adjust = async |points: i64, reason: &str| {
        shop.world.ask("/api/v1/merchants/m/customers/C-1/adjust", &json!({ "points": points, "reason": reason })).await
    };
    assert_eq!(adjust(100, "cold coffee").await, (200, json!({ "customer_id": "C-1", "points": 100, "balance": 100 })));
    assert_eq!(adjust(-30, "by mistake").await, (200, json!({ "customer_id": "C-1", "points": -30, "balance": 70 })));
    assert_eq!(adjust(5, " ").await.0, 422);
    let rows = shop.world.api("/api/v1/merchants/m/ledger?customer=C-1").await;
    let row = &rows[0];
    assert_eq!((&row["kind"], &row["points"], &row["balance"]), (&json!("ADJUST"), &json!(30), &json!(70)), "{row}");
    assert_eq!((&row["reason"], row["cause"].as_str().unwrap().starts_with("person/")), (&json!("by mistake"), true), "{row}");
    let seen = shop.world.api("/api/v1/audit?merchant=m").await.to_string();
    assert!(seen.contains("points.adjust") && seen.contains("cold coffee"), "{seen}");
    let reader = shop.new_key("m", "reader").await;
    let shown = shop
        .raw(
            Method::GET,
            "/api/v1/merchants/m/customers/C-1?unmasked=true",
            &[("authorization", &format!("Bearer {reader}"))],
            "",
        )
        .await;
    assert!(shown.body["phone"].as_str().unwrap().contains('*'), "{}", shown.text);
    let whole = shop.world.api("/api/v1/merchants/m/customers/C-1?unmasked=true").await;
    assert_eq!(whole["phone"], "+79991234567");
    shop.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_are_brought_from_a_table_once_and_not_at_all_where_a_line_is_wrong() {
    let shop = Shop::new(json!({})).await;
    let whole = format!("Bearer {}", shop.world.hub.owner_key().unwrap());
    let head = [("authorization", whole.as_str()), ("content-type", "text/csv")];
    let bring = async |text: &str, query: &str| {
        shop.raw(Method::POST, &format!("/api/v1/loyalty/import?merchant=m{query}"), &head, text.to_owned()).await
    };
    let table = "customer;phone;name;balance\nC-1;+79991234567;Анна;150\nC-2;;Борис;0\n";
    let dry = bring(table, "&dry_run=true").await;
    let wanted = |taken: bool, made: u64, same: u64, points: i64| json!({ "taken": taken, "made": made, "changed": 0, "same": same, "points": points, "faults": [], "more_faults": 0 });
    assert_eq!(dry.given(200), wanted(false, 2, 0, 150));
    assert_eq!(shop.world.api("/api/v1/merchants/m/customers").await, json!([]));
    assert_eq!(bring(table, "").await.given(200), wanted(true, 2, 0, 150));
    assert_eq!(bring(table, "").await.given(200), wanted(true, 0, 2, 0), "twice the same is once");
    assert_eq!(shop.balance("C-1").await, 150);
    let wrong = bring("customer;balance;phone\nC-3;1.5;\nC-4;10;\nC-5;1;no phone\n", "").await;
    let faults = wrong.body["faults"].as_array().unwrap();
    assert_eq!((wrong.status, &wrong.body["taken"]), (200, &json!(false)), "{}", wrong.text);
    assert_eq!(
        (&faults[0]["line"], &faults[0]["column"], &faults[1]["line"]),
        (&json!(2), &json!("balance"), &json!(4)),
        "{faults:?}"
    );
    // All that is wrong with one line, and what would be right.
    let wrong = bring("customer;balance;phone;level\n+7;-5;12;Gold\n", "").await;
    let told: Vec<String> =
        wrong.body["faults"].as_array().unwrap().iter().map(|fault| format!("{} {}", fault["line"], fault["column"])).collect();
    assert_eq!(told, ["2 \"customer\"", "2 \"phone\"", "2 \"level\"", "2 \"balance\""], "{}", wrong.text);
    assert!(wrong.text.contains("such as +998901234567"), "{}", wrong.text);
    let many = format!("customer;balance\n{}", "+1;many\n".repeat(600));
    let many = bring(&many, "").await;
    assert_eq!((many.body["faults"].as_array().unwrap().len(), &many.body["more_faults"]), (1_000, &json!(200)));
    assert_eq!(shop.world.api("/api/v1/merchants/m/customers").await.as_array().unwrap().len(), 2);
    shop.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_brings_shows_gives_and_proves() {
    let binary = Binary::new(&[]);
    binary.write(
        "setup.toml",
        "[[merchant]]\nslug = \"m\"\ncountry = \"RU\"\n[[programme]]\nmerchant = \"m\"\nunit = \"rouble\"\n",
    );
    assert_eq!(binary.uzel(&["apply", "setup.toml"]).code, 0);
    binary.write("old.csv", "customer,phone,balance\nC-1,+79991234567,150\nC/2 +,,7\n");
    let dry = binary.uzel(&["loyalty", "import", "old.csv", "--merchant", "m", "--dry-run"]);
    assert_eq!(
        (dry.code, dry.out.trim()),
        (0, "would be brought: 2 new customers, 0 changed, 0 as they were, 157 points"),
        "{}",
        dry.err
    );
    let brought = binary.asked(&["loyalty", "import", "old.csv", "--merchant", "m"]);
    assert_eq!((&brought["taken"], &brought["made"], &brought["points"]), (&json!(true), &json!(2), &json!(157)));
    assert_eq!(binary.asked(&["loyalty", "import", "old.csv", "--merchant", "m"])["same"], 2);
    let given = binary.asked(&["loyalty", "adjust", "--merchant", "m", "C/2 +", "-5", "--reason", "a mistake"]);
    assert_eq!((&given["points"], &given["balance"]), (&json!(-5), &json!(2)));
    let shown = binary.asked(&["loyalty", "customer", "--merchant", "m", "C/2 +"]);
    assert_eq!((&shown["customer"], &shown["balance"]), (&json!("C/2 +"), &json!(2)));
    let ledger = binary.uzel(&["loyalty", "ledger", "--merchant", "m", "--customer", "C-1"]);
    assert!(ledger.code == 0 && ledger.out.contains("150") && ledger.out.contains("import"), "{}{}", ledger.out, ledger.err);
    let proof = binary.uzel(&["loyalty", "audit"]);
    assert_eq!((proof.code, proof.out.trim()), (0, "2 customers, 3 movements: all as it must be"), "{}", proof.err);

    let programme = binary.asked(&["loyalty", "show", "--merchant", "m"]);
    assert_eq!(programme["rule"]["unit"], "rouble", "{programme}");
    binary.write("wrong.csv", "customer,balance,phone\nC-9,1.5,12\n");
    let wrong = binary.uzel(&["loyalty", "import", "wrong.csv", "--merchant", "m"]);
    for said in ["line 2, balance: must be a whole number of points, such as 1200", "line 2, phone: "] {
        assert!(wrong.code == 1 && wrong.out.contains(said), "{}{}", wrong.out, wrong.err);
    }
    let told = binary.uzel(&["loyalty", "import", "wrong.csv", "--merchant", "m", "--json"]).json();
    assert_eq!((told["faults"].as_array().unwrap().len(), &told["more_faults"], &told["taken"]), (2, &json!(0), &json!(false)));
    assert!(wrong.out.contains("nothing was brought"), "{}", wrong.out);
    let missing = binary.uzel(&["loyalty", "customer", "--merchant", "m", "C-9"]);
    assert!(missing.code == 1 && missing.err.contains("no such customer"), "{}", missing.err);
}
