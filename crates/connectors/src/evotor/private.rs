//! The form in which other programs pass receipts of Evotor on: `id, timestamp, type, data, signature`. It is nobody's at Evotor.

use serde::Deserialize;
use serde_json::value::RawValue;
use uzel_model::{Request, Secret, signature};

/// Whether it is a type of this form.
pub(super) fn is_kind(kind: &str) -> bool {
    kind.starts_with("receipt.") || kind.starts_with("shift.")
}

#[derive(Deserialize)]
struct Form<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    data: &'a RawValue,
    signature: Option<String>,
}

fn read(request: &Request) -> Option<Form<'_>> {
    // Only such a body is worth a reading: documents may be large.
    crate::scrub::mark(&request.body, "data")?;
    serde_json::from_slice::<Form<'_>>(&request.body).ok().filter(|form| is_kind(&form.kind))
}

pub(super) fn is_form(request: &Request) -> bool {
    read(request).is_some()
}

/// Hex of HMAC-SHA256 over `data` as it stands in the body, or over the same without spaces between its parts.
pub(super) fn is_signed(request: &Request, secret: &Secret) -> bool {
    let Some(form) = read(request) else { return false };
    let given = form.signature.unwrap_or_default().trim().to_ascii_lowercase();
    let right =
        |data: &str| signature::equal(&hex::encode(signature::hmac_sha256(secret.expose().as_bytes(), data.as_bytes())), &given);
    right(form.data.get()) || right(&compact(form.data.get()))
}

/// JSON without spaces between its parts.
fn compact(json: &str) -> String {
    let (mut within, mut escaped) = (false, false);
    let kept = json.chars().filter(|letter| {
        let keep = within || !letter.is_ascii_whitespace();
        match letter {
            '"' if !escaped => within = !within,
            _ => {}
        }
        escaped = within && *letter == '\\' && !escaped;
        keep
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_dossier_s_vector_holds_whatever_spaces_stand_between_the_parts() {
        let secret = Secret::new("evo_test_secret");
        for data in [
            r#"{"uuid":"5f0c7d1e-1111-4222-8333-444455556666","total":1000}"#,
            "{ \"uuid\": \"5f0c7d1e-1111-4222-8333-444455556666\",\n \"total\": 1000 }",
        ] {
            let body = |signature: &str| format!(r#"{{"type":"receipt.sell","data":{data},"signature":"{signature}"}}"#);
            let signed = |body: &str| is_signed(&testing::post("application/json", body), &secret);
            assert!(signed(&body("8ed7ca9ef879d344771471499da7426b1209ff39432c201fa8ad85b289eaa2db")), "{data}");
            assert!(!signed(&body("8ed7ca9ef879d344771471499da7426b1209ff39432c201fa8ad85b289eaa2dc")), "{data}");
        }
        assert_eq!(compact(r#"{ "a b" : "\" c" , "d" : "\\" }"#), r#"{"a b":"\" c","d":"\\"}"#);
    }
}
