//! Whatever comes, a connector stands: it never panics, and the same request is read the same way each time.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Map, Value};
use uzel_connectors::PROVIDERS;
use uzel_model::{Bytes, Connector, Rejection, Request, Timestamp};

use crate::sample::{connectors, fixtures, keyed, open};

/// Everything that is asked of a connector about a request.
fn ask(connector: &dyn Connector, request: &Request) {
    let verdict = connector.verify(request);
    assert_eq!(connector.verify(request), verdict);
    assert_eq!(connector.intake(request), connector.intake(request));
    let scrubbed = connector.scrub(request);
    assert_eq!(connector.scrub(request), scrubbed);
    assert_eq!(connector.parse(request), connector.parse(request));
    if let Some(body) = scrubbed {
        // What is journalled instead is read, too.
        drop(connector.parse(&Request { body, ..request.clone() }));
    }
    for rejection in [Rejection::Unsigned, Rejection::Forged] {
        let refusal = connector.refuse(request, &rejection);
        assert!((100..600).contains(&refusal.status));
    }
}

#[test]
fn a_repeat_of_a_request_has_the_same_keys() {
    for provider in PROVIDERS {
        let connector = open(provider);
        for (file, request) in fixtures(provider) {
            let request = keyed(&request);
            let later = Request { received_at: "2026-11-24T12:00:00Z".parse().unwrap(), ..request.clone() };
            let keys = |request: &Request| {
                let reading = connector.parse(request).ok()?;
                let happenings = reading.happenings.into_iter().map(|happening| (happening.key, happening.subject));
                Some((happenings.collect::<Vec<_>>(), reading.statuses))
            };
            assert_eq!(keys(&request), keys(&later), "{file}");
        }
    }
}

#[test]
fn what_is_journalled_reads_as_what_came() {
    for provider in PROVIDERS {
        let connector = open(provider);
        for (file, request) in fixtures(provider) {
            let request = keyed(&request);
            if let Some(body) = connector.scrub(&request) {
                assert_eq!(connector.parse(&Request { body, ..request.clone() }), connector.parse(&request), "{file}");
            }
        }
    }
}

/// The words that providers use: names in their bodies and queries.
static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut words = std::collections::BTreeSet::new();
    for (_, request) in PROVIDERS.iter().flat_map(fixtures) {
        let text = format!("{} {:?}", String::from_utf8_lossy(&request.body), request.query);
        words.extend(text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').map(str::to_owned));
    }
    words.into_iter().filter(|word| word.len() < 40).collect()
});

static FIXTURES: LazyLock<Vec<Request>> =
    LazyLock::new(|| PROVIDERS.iter().flat_map(fixtures).map(|(_, request)| request).collect());

static TREES: LazyLock<Vec<Value>> = LazyLock::new(|| FIXTURES.iter().filter_map(|request| request.json().ok()).collect());

fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => (0..WORDS.len()).prop_map(|place| WORDS[place].clone()), 1 => any::<String>()]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((word(), inner), 0..8).prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

/// A form with PHP's brackets, whole and broken.
fn form() -> impl Strategy<Value = String> {
    let step = prop_oneof![word().prop_map(|word| format!("[{word}]")), "(\\[|\\]|%5B|%5D|=|&|\\[[0-9]{0,12}\\]){0,4}"];
    let pair = (word(), proptest::collection::vec(step, 0..6), word())
        .prop_map(|(name, path, value)| format!("{name}{}={value}", path.concat()));
    proptest::collection::vec(pair, 0..12).prop_map(|pairs| pairs.join("&"))
}

/// A known body in which some bytes are others, or that is cut off.
fn spoilt() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6);
    ((0..FIXTURES.len()), changes, any::<proptest::sample::Index>(), any::<bool>()).prop_map(|(place, changes, end, cut)| {
        let mut body = FIXTURES[place].body.to_vec();
        for (at, byte) in changes.iter().filter(|_| !body.is_empty()).cloned().collect::<Vec<_>>() {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if cut && !body.is_empty() {
            body.truncate(end.index(body.len()));
        }
        body
    })
}

/// A known body in which some parts are others.
fn altered() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), json()), 1..4);
    ((0..TREES.len()), changes).prop_map(|(place, changes)| {
        let mut tree = TREES[place].clone();
        for (at, part) in changes {
            let mut places = Vec::new();
            nodes(&tree, String::new(), &mut places);
            *tree.pointer_mut(&places[at.index(places.len())]).unwrap() = part;
        }
        tree.to_string().into_bytes()
    })
}

/// The places of all parts of a tree.
fn nodes(value: &Value, at: String, found: &mut Vec<String>) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(place, item)| nodes(item, format!("{at}/{place}"), found)),
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| nodes(member, format!("{at}/{}", escaped(name)), found));
        }
        _ => {}
    }
    found.push(at);
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let deep = (1..400_usize, "(\\[|\\{\"a\":)").prop_map(|(depth, open)| open.repeat(depth).into_bytes());
    prop_oneof![
        2 => proptest::collection::vec(any::<u8>(), 0..200),
        4 => json().prop_map(|value| value.to_string().into_bytes()),
        4 => form().prop_map(String::into_bytes),
        1 => deep,
        4 => spoilt(),
        8 => altered(),
    ]
}

prop_compose! {
    fn requests()(
        method in "(GET|POST|HEAD|PUT|POLL|[A-Z]{0,5})",
        path in "[a-z/%.]{0,12}",
        query in proptest::collection::vec((word(), word()), 0..6),
        kind in prop_oneof![
            Just("application/json".to_owned()),
            Just("application/x-www-form-urlencoded; charset=utf-8".to_owned()),
            "multipart/form-data; ?boundary=[\"x-]{0,4}",
            any::<String>(),
        ],
        authorization in any::<Option<String>>(),
        body in body(),
        key in any::<bool>(),
        at in any::<i32>(),
    ) -> Request {
        let mut headers = vec![("content-type".to_owned(), kind)];
        headers.extend(authorization.map(|value| ("authorization".to_owned(), value)));
        Request {
            method, path, query, headers, body: Bytes::from(body),
            received_at: Timestamp::from_second(i64::from(at)).unwrap(),
            peer: None,
            key: key.then(|| "key_1".to_owned()),
        }
    }
}

static CONNECTORS: LazyLock<Vec<Box<dyn Connector>>> = LazyLock::new(connectors);

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn no_request_makes_a_connector_panic_or_waver(request in requests()) {
        for connector in CONNECTORS.iter() {
            ask(&**connector, &request);
        }
    }
}
