//! What the requirement names of figures: by these names and labels, with what they mean.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use crate::{
    loyalty::{Shop, quote},
    receiver::{self, Receiver},
    world::until,
};

impl Shop {
    async fn figures(&self) -> String {
        self.world.web.get(format!("{}/metrics", self.world.hub.url())).send().await.unwrap().text().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_stand_under_the_names_of_the_requirement() {
    let shop = Shop::new(json!({ "earn_from": ["rkeeper"] })).await;
    let receiver = Receiver::start().await;
    let endpoint = json!({ "merchant": "m", "slug": "crm", "url": receiver.url("/hook"), "events": ["loyalty.committed", "loyalty.refunded"] });
    let (status, made) = shop.world.ask("/api/v1/endpoints", &endpoint).await;
    assert_eq!(status, 201, "{made}");
    let page = shop.figures().await;
    assert!(page.contains("\nloyalty_outbox_pending 0\n"), "{page}");

    // A till through its provider, and its receipts.
    shop.give("C-1", 100).await;
    let owner = shop.new_key("m", "owner").await;
    let settings = json!({ "merchantId": "m" }).to_string();
    let registered = shop.raw(Method::POST, "/integrations/evotor/register", &[("x-api-key", &owner)], settings).await;
    assert_eq!(registered.status, 201, "{}", registered.text);
    let quoted = shop.post("/integrations/rkeeper/quote", &quote("redeem", "C-1", "O-1", 100)).await;
    let commit = json!({ "merchantId": "m", "holdId": quoted.body["holdId"], "orderId": "O-1" });
    assert_eq!(shop.post("/integrations/rkeeper/commit", &commit).await.status, 201);
    let unknown = json!({ "merchantId": "m", "holdId": "h", "orderId": "O-1" });
    assert_eq!(shop.post("/api/v1/integrations/rkeeper/commit", &unknown).await.status, 400);
    let told = json!({ "merchantId": "m", "order": { "id": 5001, "status": "Выполнен", "sum": "100", "customer": { "phone": "+79991234567" } } });
    assert_eq!(shop.post("/integrations/rkeeper/webhook", &told).await.status, 201);
    until("the webhooks about the commit and the receipt", async || receiver.count() >= 2).await;

    // An endpoint that does not take them.
    receiver.answer(receiver::Answer::Status(500, ""));
    let back = json!({ "merchantId": "m", "orderId": "O-1", "refundTotal": 100 });
    assert_eq!(shop.post("/loyalty/refund", &back).await.status, 201);
    assert_eq!(
        shop.post("/loyalty/refund", &json!({ "merchantId": "m", "orderId": "none", "refundTotal": 1 })).await.status,
        400
    );
    assert_eq!(shop.raw(Method::PUT, "/loyalty/quote", &[], "").await.status, 405);
    assert_eq!(shop.raw(Method::from_bytes(b"BREW").unwrap(), "/coffee", &[], "").await.status, 404);
    until("the figure of what waits", async || shop.figures().await.contains("\nloyalty_outbox_pending 1\n")).await;

    let page = shop.figures().await;
    let named = page.lines().filter(|line| ["pos_", "loyalty_", "http_"].iter().any(|begins| line.starts_with(begins)));
    let named = named.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name);
    let named = named
        .filter(|name| !name.starts_with("http_") || ["/loyalty", "/integrations", "unknown"].iter().any(|of| name.contains(of)));
    let named: BTreeSet<&str> = named.collect();
    insta::assert_snapshot!(named.into_iter().collect::<Vec<_>>().join("\n"));
}
