//! Taking a secret member out of a body before it is journalled.

use serde_json::Value;
use uzel_model::{Bytes, Request};

/// The body without the member of this name; `None`: it was not there.
pub(crate) fn without(request: &Request, name: &str) -> Option<Bytes> {
    let mark = mark(&request.body, name)?;
    let Ok(mut body) = request.json() else {
        // Where the secret ends cannot be told: nothing behind its name is kept.
        return Some([&request.body[..mark], b"***"].concat().into());
    };
    take_out(&mut body, name).then(|| body.to_string().into())
}

/// Where the name begins in a body, if it may be there: as it is, or with a letter written as an escape.
pub(crate) fn mark(body: &[u8], name: &str) -> Option<usize> {
    let at = |mark: &[u8]| body.windows(mark.len()).position(|part| part == mark);
    [at(name.as_bytes()), at(b"\\u00")].into_iter().flatten().min()
}

/// Takes the member out, at whatever depth it stands; tells whether it was there.
fn take_out(body: &mut Value, name: &str) -> bool {
    let mut found = false;
    match body {
        Value::Object(members) => {
            found = members.remove(name).is_some();
            for member in members.values_mut() {
                found |= take_out(member, name);
            }
        }
        Value::Array(items) => {
            for item in items {
                found |= take_out(item, name);
            }
        }
        // A document within a text.
        Value::String(text) if mark(text.as_bytes(), name).is_some() => {
            "***".clone_into(text);
            found = true;
        }
        _ => {}
    }
    found
}
