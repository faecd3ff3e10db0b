//! Requests that prove themselves: a change of one byte is refused, or changes nothing of what is read.

use uzel_connectors::PROVIDERS;
use uzel_model::{Connector, Intake, Provider, Request};

use crate::sample::{fixtures, full, is_secret, open, properties};

/// Requests that prove themselves, without any key of the hub.
fn proven(provider: &Provider, connector: &dyn Connector) -> Vec<(String, Request)> {
    let mut requests = fixtures(provider);
    requests.retain(|(_, request)| connector.verify(request).is_ok() && matches!(connector.intake(request), Intake::Tells(_)));
    requests
}

/// The request with one byte of it changed, in each place and in some ways. A body has bytes that mean the same (the case of
/// an escape, the number of a field): those are told by what is read. A pair of the query has none but the case of letters.
fn changed(request: &Request) -> Vec<(String, bool, Request)> {
    let mut changed: Vec<(String, bool, Request)> = Vec::new();
    for bits in [0x01, 0x04, 0x20, 0x80] {
        for place in 0..request.body.len() {
            let mut body = request.body.to_vec();
            body[place] ^= bits;
            changed.push((format!("byte {place} of the body ^ {bits}"), true, Request { body: body.into(), ..request.clone() }));
        }
        for (pair, (name, value)) in request.query.iter().enumerate() {
            for place in 0..name.len() + value.len() {
                let mut bytes = [name.as_bytes(), value.as_bytes()].concat();
                let before = bytes[place];
                bytes[place] ^= bits;
                let same = bytes[place].eq_ignore_ascii_case(&before);
                let (name, value) = bytes.split_at(name.len());
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let mut query = request.query.clone();
                query[pair] = (text(name), text(value));
                changed.push((format!("byte {place} of pair {pair} ^ {bits}"), same, Request { query, ..request.clone() }));
            }
        }
    }
    changed
}

#[test]
fn a_changed_byte_is_refused_or_changes_nothing() {
    for provider in PROVIDERS {
        let connector = open(provider);
        let secrets: Vec<String> = properties(provider)
            .iter()
            .filter(|(_, property)| is_secret(property))
            .filter_map(|(name, _)| Some(full(provider)[name].as_str()?.to_owned()))
            .collect();
        for (file, request) in proven(provider, &*connector) {
            let read = connector.parse(&request);
            // Some providers put a secret of ours into the body instead of signing it: then the secret is what proves.
            let carried = |request: &Request| {
                let body = String::from_utf8_lossy(&request.body).into_owned();
                secrets.iter().any(|secret| body.contains(secret.as_str()))
            };
            let by_secret = carried(&request);
            for (what, may_mean_the_same, changed) in changed(&request) {
                if connector.verify(&changed).is_err() || matches!(connector.intake(&changed), Intake::Greets(_)) {
                    continue;
                }
                assert!(may_mean_the_same, "{file}: {what}");
                match by_secret {
                    true => assert!(carried(&changed), "{file}: {what}"),
                    false => assert_eq!(connector.parse(&changed), read, "{file}: {what}"),
                }
            }
        }
    }
}

#[test]
fn nobody_is_let_in_without_a_key_or_a_proof() {
    for provider in PROVIDERS {
        let connector = open(provider);
        let (all, proven) = (fixtures(provider), proven(provider, &*connector));
        let greeted = |request: &Request| matches!(connector.intake(request), Intake::Greets(_));
        if !connector.keyed() && !all.is_empty() {
            assert!(!proven.is_empty(), "{provider:?} needs no key, but no request of it proves itself");
        }
        for (file, request) in all {
            // The fixtures of such a provider are what its documents show: all of them prove themselves.
            assert!(connector.keyed() || connector.verify(&request).is_ok(), "{file}");
            let proves = proven.iter().any(|(known, _)| *known == file);
            assert!(connector.verify(&request).is_err() || proves || greeted(&request), "{file}");
            let stranger = Request { query: Vec::new(), headers: Vec::new(), body: "{}".into(), ..request };
            assert!(connector.verify(&stranger).is_err() || greeted(&stranger), "{file}, emptied");
        }
    }
}

#[test]
fn another_accounts_proof_is_refused() {
    for provider in PROVIDERS {
        let connector = open(provider);
        for (file, request) in proven(provider, &*connector) {
            let mut settings = full(provider);
            for (name, property) in properties(provider) {
                if is_secret(&property) {
                    settings.insert(name, "another-secret-altogether".into());
                }
            }
            let other = provider.open(settings.into()).unwrap();
            assert!(other.verify(&request).is_err(), "{file}");
        }
    }
}
