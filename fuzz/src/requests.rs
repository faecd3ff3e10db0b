//! Any request, to every connector: nothing panics, hangs or answers differently the second time.
//!
//! An input is raw HTTP, so the files in `fixtures/` are its seeds as they are. `fuzz/run` runs it.

#![no_main]

use std::{path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use uzel_connectors::PROVIDERS;
use uzel_model::{Bytes, Connector, Rejection, Request, Timestamp};

/// Each provider with the settings of its fixtures, and with none where it needs none.
static CONNECTORS: LazyLock<Vec<(&str, Box<dyn Connector>)>> = LazyLock::new(|| {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let settings = PROVIDERS.iter().flat_map(|provider| {
        let given = std::fs::read(fixtures.join(provider.id).join("settings.json")).ok();
        let given = given.map(|text| serde_json::from_slice(&text).expect("settings are JSON"));
        [given, Some(serde_json::json!({}))].into_iter().flatten().map(move |settings| (provider, settings))
    });
    settings.filter_map(|(provider, settings)| Some((provider.id, provider.open(settings).ok()?))).collect()
});

/// Reads raw HTTP as far as it goes.
fn request(raw: &[u8]) -> Request {
    let end = raw.windows(4).position(|part| part == b"\r\n\r\n");
    let (head, body) = end.map_or((raw, &[][..]), |end| (&raw[..end], &raw[end + 4..]));
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let mut query: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
    // A key in the query is one that the hub knew.
    let key = query.iter().any(|(name, _)| name == "key").then(|| "key_1".to_owned());
    query.retain(|(name, _)| name != "key");
    let headers = lines.filter_map(|line| line.split_once(": "));
    Request {
        method: method.to_owned(),
        path: String::new(),
        query,
        headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
        body: Bytes::copy_from_slice(body),
        received_at: Timestamp::UNIX_EPOCH,
        peer: None,
        key,
    }
}

fn ask(connector: &dyn Connector, request: &Request) {
    let verdict = connector.verify(request);
    assert_eq!(verdict, connector.verify(request));
    assert_eq!(connector.intake(request), connector.intake(request));
    assert_eq!(connector.parse(request), connector.parse(request));
    if let Some(body) = connector.scrub(request) {
        // What is journalled instead is what is read, and nothing is left in it to take out.
        let kept = Request { body, ..request.clone() };
        assert_eq!(connector.parse(&kept).is_ok(), connector.parse(request).is_ok());
        assert!(connector.scrub(&kept).is_none());
    }
    for rejection in [Rejection::Unsigned, Rejection::Forged] {
        connector.refuse(request, &rejection);
    }
}

fuzz_target!(|raw: &[u8]| {
    let request = request(raw);
    // A request is its provider's, which stands in its address; one that is nobody's goes to all.
    let line = raw.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let named = |id: &str| line.windows(id.len()).any(|part| part == id.as_bytes());
    let anybody = !CONNECTORS.iter().any(|(id, _)| named(id));
    for (_, connector) in CONNECTORS.iter().filter(|(id, _)| anybody || named(id)) {
        ask(&**connector, &request);
    }
});
