//! A service account of Google: who we are to FCM.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde::Deserialize;
use serde_json::json;

use crate::notice::BASE64URL;

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// Google's own libraries name it whatever address the token comes from.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
/// Google gives no token for longer.
const LASTS_S: i64 = 3_600;

/// What of the file is used.
#[derive(Deserialize)]
pub(super) struct Account {
    pub(super) project_id: Option<String>,
    private_key_id: Option<String>,
    /// PEM.
    private_key: String,
    client_email: String,
}

impl Account {
    /// Of the file's text. Line breaks may have been lost on the way through a variable or a form, or be two characters each.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('\u{feff}').replace(['\r', '\n'], " ");
        let mut reader = serde_json::Deserializer::from_str(&text);
        let fault = |error: serde_path_to_error::Error<serde_json::Error>| {
            format!("is no service account ({}): paste the whole JSON file that Firebase gives", error.path())
        };
        serde_path_to_error::deserialize(&mut reader).map_err(fault)
    }

    /// A signed claim for which Google gives a token.
    pub(super) fn assertion(&self, now: Timestamp) -> Result<String, String> {
        let mut head = json!({ "typ": "JWT", "alg": "RS256" });
        if let Some(id) = &self.private_key_id {
            head["kid"] = json!(id);
        }
        let now = now.as_second();
        let claims = json!({ "iat": now, "exp": now + LASTS_S, "iss": self.client_email, "aud": AUDIENCE, "scope": SCOPE });
        self.sign(&head.to_string(), &claims.to_string())
    }

    fn sign(&self, head: &str, claims: &str) -> Result<String, String> {
        let pair = self.pair().ok_or("private_key is no RSA key of a service account")?;
        let signed = format!("{}.{}", BASE64URL.encode(head), BASE64URL.encode(claims));
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| "private_key cannot sign")?;
        Ok(format!("{signed}.{}", BASE64URL.encode(signature)))
    }

    fn pair(&self) -> Option<RsaKeyPair> {
        let pem = self.private_key.replace("\\n", " ").replace("\\r", " ");
        let body = pem.split_once("-----BEGIN PRIVATE KEY-----")?.1.split_once("-----END PRIVATE KEY-----")?.0;
        let body: String = body.split_whitespace().collect();
        RsaKeyPair::from_pkcs8(&STANDARD.decode(body).ok()?).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;
    use uzel_model::signature;

    use super::*;

    /// The throw-away account of the samples, as a file of Google's.
    pub(in super::super) fn sample() -> Value {
        let mut file: Value =
            serde_json::from_str(include_str!("../../../sandbox/samples/push/fcm_service_account.json")).unwrap();
        let key = file["private_key_pkcs8_base64"].as_str().unwrap();
        let lines: Vec<&str> = key.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        file["private_key"] = json!(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")));
        file
    }

    #[test]
    fn the_assertion_is_the_vectors_letter_by_letter() {
        let vector: Value = serde_json::from_str(include_str!("../../../sandbox/samples/push/fcm_jwt_vector.json")).unwrap();
        let text = |name: &str| vector[name].as_str().unwrap();
        let account = Account::read(&sample().to_string()).unwrap();
        let jwt = account.sign(text("header_json"), text("claims_json")).unwrap();
        assert_eq!(jwt, text("jwt"));
        assert_eq!(signature::sha256_hex([jwt.as_bytes()]), text("jwt_sha256_hex"));

        let claims: Value = serde_json::from_str(text("claims_json")).unwrap();
        let ours = account.assertion(Timestamp::from_second(claims["iat"].as_i64().unwrap()).unwrap()).unwrap();
        let part = |place: usize| -> Value {
            serde_json::from_slice(&BASE64URL.decode(ours.split('.').nth(place).unwrap()).unwrap()).unwrap()
        };
        assert_eq!(part(1), claims);
        assert_eq!(part(0), serde_json::from_str::<Value>(text("header_json")).unwrap());
    }

    #[test]
    fn a_file_that_came_through_a_variable_is_read() {
        let whole = sample().to_string();
        for mangled in [
            whole.replace("\\n", "\\\\n"),
            whole.replace("\\n", "\n"),
            whole.replace("\\n", "\\r\\n"),
            format!("\u{feff}{}\r\n", serde_json::to_string_pretty(&sample()).unwrap()),
        ] {
            assert!(Account::read(&mangled).unwrap().pair().is_some(), "{mangled}");
        }
    }

    #[test]
    fn what_is_no_service_account_is_told_without_what_is_in_it() {
        for wrong in ["", "null", "[]", "/etc/uzel/fcm.json", r#"{"private_key":7}"#, r#"{"private_key":"s3cr3t"}"#] {
            let said = Account::read(wrong).err().unwrap();
            assert!(said.contains("service account") && !said.contains("s3cr3t"), "{said}");
        }
        let mut other = sample();
        other["private_key"] = json!("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----");
        assert!(Account::read(&other.to_string()).unwrap().assertion(Timestamp::UNIX_EPOCH).is_err());
    }
}
