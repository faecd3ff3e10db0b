//! Where a connection's calls go: whoever is there gets its login, so a login made for one target is void at another.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use uzel_model::Provider;

/// The provider, and every setting that is an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) provider: &'static str,
    addresses: BTreeMap<String, String>,
}

impl Target {
    pub(crate) fn new(provider: &Provider, settings: &Map<String, Value>) -> Self {
        Self::of(provider.id, provider.shape().as_value(), settings)
    }

    /// Of the settings that are no secrets. One that is not given is what the schema says; a slash at the end says nothing.
    fn of(provider: &'static str, schema: &Value, settings: &Map<String, Value>) -> Self {
        let defaults = schema["properties"].as_object().into_iter().flatten();
        let defaults = defaults.filter_map(|(name, property)| Some((name, property.get("default")?)));
        // What is given takes the place of its default.
        let values: BTreeMap<_, _> = defaults.chain(settings).collect();
        let texts = values.into_iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?)));
        let addresses = texts.filter(|(_, text)| is_address(text));
        Self { provider, addresses: addresses.map(|(name, text)| (name, text.trim_end_matches('/').to_owned())).collect() }
    }
}

/// A URL, or the name of a host by itself.
fn is_address(text: &str) -> bool {
    let host = |text: &str| {
        let mut labels = text.split(':').next().unwrap_or_default().split('.').peekable();
        let plain = |label: &str| !label.is_empty() && label.chars().all(|sign| sign.is_alphanumeric() || sign == '-');
        text.contains('.') && labels.all(plain)
    };
    text.contains("://") || host(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_another_address_is_another_target() {
        let schema = json!({ "properties": { "url": { "default": "https://api.example/v1" }, "every_s": { "default": 60 } } });
        let target = |settings: Value| Target::of("plain", &schema, settings.as_object().unwrap());
        let at_home = target(json!({}));
        for same in [
            json!({ "url": "https://api.example/v1/" }),
            json!({ "host": null }),
            json!({ "zone": "Europe/Moscow", "login": "me@example.com", "every_s": 30 }),
        ] {
            assert_eq!(target(same.clone()), at_home, "{same}");
        }
        for other in [
            json!({ "url": "https://api.example/v2" }),
            json!({ "url": "http://api.example/v1" }),
            json!({ "host": "a.example" }),
            json!({ "host": "127.0.0.1:8080" }),
            json!({ "url": null }),
        ] {
            assert_ne!(target(other.clone()), at_home, "{other}");
        }
        assert_ne!(Target::of("other", &schema, &Map::new()), at_home);
    }
}
