//! Forms with bracketed keys (`leads[status][0][id]=1`, PHP's way), read into a tree of JSON objects and texts.
//!
//! Digits in brackets are names, not places: `linked_leads_id[40331001]` must not make forty million slots.

use serde_json::{Map, Value};
use uzel_model::Malformed;

const BYTES: usize = 1 << 20;
const KEYS: usize = 5_000;
const DEPTH: usize = 12;

/// Reads a form. Broken keys are read as far as they go; only a body beyond the limits is refused.
pub(crate) fn read(body: &[u8]) -> Result<Value, Malformed> {
    if body.len() > BYTES {
        return Err(Malformed::new("the form is larger than 1 MiB"));
    }
    let body = body.trim_ascii();
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut tree = Map::new();
    // A bare line break never is part of a value: people paste forms line by line.
    for (count, pair) in body.split(|byte| b"&\r\n".contains(byte)).filter(|pair| !pair.is_empty()).enumerate() {
        if count == KEYS {
            return Err(Malformed(format!("the form has more than {KEYS} keys")));
        }
        let mut sides = pair.splitn(2, |byte| *byte == b'=');
        let key = decode(sides.next().unwrap_or_default());
        let value = decode(sides.next().unwrap_or_default());
        if let Some(path) = path(&key) {
            insert(&mut tree, &path, value);
        }
    }
    Ok(Value::Object(tree))
}

/// Percent-decodes; `+` is a blank, and what is no escape stands for itself.
fn decode(text: &[u8]) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, others @ ..] = rest {
        rest = others;
        match (first, digit(others.first()), digit(others.get(1))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &others[2..];
            }
            (b'+', ..) => bytes.push(b' '),
            (byte, ..) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Cuts a key: a name, then what stands in brackets (`""` for `[]`). `None`: it leads nowhere or too deep.
fn path(key: &str) -> Option<Vec<&str>> {
    let (name, mut rest) = key.split_at(key.find('[').unwrap_or(key.len()));
    let mut path = vec![name.trim()];
    while let Some(open) = rest.strip_prefix('[') {
        let (step, after) = match open.split_once(']') {
            Some((step, after)) => (step, after),
            // Seen on the wire: `leads[status][0][`.
            None if open.is_empty() => return None,
            None => (open, ""),
        };
        path.push(step.trim());
        // Between brackets stands nothing that anybody means.
        rest = after.find('[').map_or("", |next| &after[next..]);
    }
    (!path[0].is_empty() && path.len() <= DEPTH).then_some(path)
}

fn insert(tree: &mut Map<String, Value>, path: &[&str], value: String) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    let step = if step.is_empty() { next(tree) } else { (*step).to_owned() };
    let slot = tree.entry(step).or_insert(Value::Null);
    if !rest.is_empty() {
        if !slot.is_object() {
            *slot = Value::Object(Map::new());
        }
        if let Value::Object(inner) = slot {
            insert(inner, rest, value);
        }
    } else if !slot.is_object() {
        *slot = Value::String(value);
    }
}

/// The place that `[]` means: after the greatest number so far.
fn next(tree: &Map<String, Value>) -> String {
    tree.keys().filter_map(|key| key.parse::<u64>().ok()).max().map_or(0, |last| last.saturating_add(1)).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn broken_keys_are_read_as_far_as_they_go() {
        let tree =
            read(b"a%5B0%5D%5Bid%5D=1&a[0][name]=x+%26%D0%B9&a[0][=z&b[]=1&b[]=2&b[7]=&b[]=8&c&d=1\r\nd=2&e[x=5\n=9").unwrap();
        let wanted = json!({
            "a": { "0": { "id": "1", "name": "x &й" } },
            "b": { "0": "1", "1": "2", "7": "", "8": "8" },
            "c": "", "d": "2", "e": { "x": "5" },
        });
        assert_eq!(tree, wanted);
    }

    #[test]
    fn huge_indices_are_names() {
        assert_eq!(read(b"l[40331001][ID]=40331001").unwrap(), json!({ "l": { "40331001": { "ID": "40331001" } } }));
        assert_eq!(read(format!("l[{}][]=1&l[{}]=2", u64::MAX, u64::MAX).as_bytes()).unwrap()["l"].as_object().unwrap().len(), 1);
    }

    #[test]
    fn limits_hold() {
        assert!(read("a=1&".repeat(KEYS + 1).as_bytes()).is_err());
        assert!(read(&vec![b'a'; BYTES + 1]).is_err());
        assert_eq!(read(format!("a{}=1", "[x]".repeat(DEPTH)).as_bytes()).unwrap(), json!({}));
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>, form in "[a-c%5BD&=+0-9\\[\\]й]{0,80}") {
            prop_assert!(read(&body).is_ok());
            prop_assert!(read(form.as_bytes()).is_ok());
        }
    }
}
