//! What the API says when it is asked wrongly: whole answers, as documents by RFC 9457.

use serde_json::{Value, json};

use crate::world::World;

/// Status, what kind of document, what may be done instead, and the document.
async fn told(world: &World, method: &str, path: &str, body: Option<(&str, &str)>) -> Value {
    let mut request = world.web.request(method.parse().unwrap(), format!("{}{path}", world.hub.url()));
    request = request.bearer_auth(world.hub.owner_key().unwrap());
    if let Some((kind, body)) = body {
        request = request.header("content-type", kind).body(body.to_owned());
    }
    let answer = request.send().await.unwrap();
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (status, kind, allow) = (answer.status().as_u16(), header("content-type"), header("allow"));
    let document: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    json!({ "asked": format!("{method} {path} {}", body.map_or("", |(_, body)| body)), "status": status, "kind": kind, "allow": allow, "document": document })
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_wrongly_is_answered_by_a_problem_that_names_the_field() {
    let world = World::new(json!({})).await;
    let json_kind = "application/json";
    let mut answers = Vec::new();
    for path in [
        "/api/v1/nothing",
        "/nothing",
        "/api/v1/journal?limit=many",
        "/api/v1/journal?colour=red",
        "/api/v1/journal?from=yesterday",
        "/api/v1/journal?before=inb_1",
        "/api/v1/journal/inb_1",
        "/api/v1/journal/evt_%ff",
        "/api/v1/connections/nobody/health",
        "/oauth/amocrm/start",
        "/oauth/amocrm/start?code=never-given",
        "/oauth/amocrm/callback?state=never-given&code=x",
    ] {
        answers.push(told(&world, "GET", path, None).await);
    }
    answers.push(told(&world, "DELETE", "/api/v1/journal", None).await);
    answers.push(told(&world, "GET", "/api/v1/replay", None).await);
    for (path, kind, body) in [
        ("/api/v1/replay", json_kind, "{"),
        ("/api/v1/replay", json_kind, "[1]"),
        ("/api/v1/replay", json_kind, r#"{"dead":"yes"}"#),
        ("/api/v1/replay", json_kind, r#"{"dead":true,"colour":"red"}"#),
        ("/api/v1/replay", json_kind, r#"{"entry":"inb_1"}"#),
        ("/api/v1/replay", json_kind, r#"{"dead":true} {}"#),
        ("/api/v1/replay", "text/plain", r#"{"dead":true}"#),
        ("/api/v1/consents", json_kind, ""),
        ("/api/v1/consents", json_kind, r#"{"merchant":"m","phone":"12","granted":true,"proof":"-"}"#),
    ] {
        answers.push(told(&world, "POST", path, Some((kind, body))).await);
    }
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../../../fixtures/snapshots", omit_expression => true }, {
        insta::assert_json_snapshot!("problems", answers);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_problem_has_a_row_in_the_documents() {
    let page = include_str!("../../../../docs/problems.md");
    for kind in uzel_server::Problem::KINDS {
        let row = format!("| `/problems/{}` | {} | {} | {} |", kind.slug, kind.status.as_u16(), kind.when, kind.what_to_do);
        assert!(page.contains(&row), "docs/problems.md lacks this row:\n{row}");
    }
    assert_eq!(page.matches("| `/problems/").count(), uzel_server::Problem::KINDS.len());
}
