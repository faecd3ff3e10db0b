//! Encryption of a notice for one browser (RFC 8291), in one record of the content coding `aes128gcm` (RFC 8188).

use p256::{PublicKey, SecretKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use uzel_model::signature::hmac_sha256;

const RECORD_SIZE: u32 = 4_096;
const POINT_BYTES: u8 = 65;

/// The body of the request. `ephemeral` and `salt` are new for each message; `text` is 3,993 bytes at the most.
pub(super) fn encrypt(text: &[u8], browser: &PublicKey, auth: &[u8], ephemeral: &SecretKey, salt: [u8; 16]) -> Vec<u8> {
    let ours = ephemeral.public_key().to_sec1_bytes();
    let shared = ephemeral.diffie_hellman(browser);
    let (key, nonce) = keys(shared.raw_secret_bytes(), auth, &browser.to_sec1_bytes(), &ours, &salt);
    let key = UnboundKey::new(&AES_128_GCM, &key).map(LessSafeKey::new).expect("the key has 16 bytes");
    // 2 ends the last record.
    let mut record = [text, &[2]].concat();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut record)
        .expect("a record is far below what the cipher takes");
    [&salt[..], &RECORD_SIZE.to_be_bytes(), &[POINT_BYTES], &ours, &record].concat()
}

/// Key and nonce of a record. Each derivation is HKDF-SHA256 whose output is one block (RFC 5869).
fn keys(shared: &[u8], auth: &[u8], browser: &[u8], ours: &[u8], salt: &[u8]) -> ([u8; 16], [u8; 12]) {
    let info = [b"WebPush: info\0", browser, ours].concat();
    let secret: [u8; 32] = derive(auth, shared, &info);
    (derive(salt, &secret, b"Content-Encoding: aes128gcm\0"), derive(salt, &secret, b"Content-Encoding: nonce\0"))
}

fn derive<const BYTES: usize>(salt: &[u8], secret: &[u8], info: &[u8]) -> [u8; BYTES] {
    let key = hmac_sha256(salt, secret);
    let block = hmac_sha256(&key, &[info, &[1]].concat());
    std::array::from_fn(|place| block[place])
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use serde_json::Value;

    use super::*;
    use crate::notice::{BASE64URL, decode};

    #[test]
    fn the_example_of_rfc_8291_comes_out_byte_for_byte() {
        let vectors: Vec<Value> =
            serde_json::from_str(include_str!("../../../sandbox/samples/push/webpush_vectors.json")).unwrap();
        for vector in &vectors {
            let bytes = |name: &str| decode(vector.pointer(name).unwrap().as_str().unwrap()).unwrap();
            let ephemeral = SecretKey::from_slice(&bytes("/as_private")).unwrap();
            let browser = PublicKey::from_sec1_bytes(&bytes("/ua_public_p256dh")).unwrap();
            assert_eq!(*ephemeral.public_key().to_sec1_bytes(), bytes("/as_public"));
            let shared = ephemeral.diffie_hellman(&browser);
            assert_eq!(shared.raw_secret_bytes().to_vec(), bytes("/intermediate/ecdh_secret"));
            let (salt, auth) = (bytes("/salt").try_into().unwrap(), bytes("/auth"));
            let (key, nonce) =
                keys(shared.raw_secret_bytes(), &auth, &bytes("/ua_public_p256dh"), &bytes("/as_public"), &bytes("/salt"));
            assert_eq!((key.to_vec(), nonce.to_vec()), (bytes("/intermediate/cek"), bytes("/intermediate/nonce")));
            let body = encrypt(vector["plaintext_utf8"].as_str().unwrap().as_bytes(), &browser, &auth, &ephemeral, salt);
            assert_eq!(BASE64URL.encode(body), vector["body_b64url"].as_str().unwrap());
        }
    }
}
