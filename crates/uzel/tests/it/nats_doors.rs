//! How a hub gets into a NATS server: by TLS, a token, or a file of credentials of an account.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use uzel_servers::Certificates;

use crate::{
    binary::Binary,
    nats_server::{Nats, Sync},
    world::until,
};

/// What the doctor says of NATS, in one line.
fn told(binary: &Binary) -> (String, String) {
    let looked = binary.uzel(&["doctor", "--json"]);
    let answer = looked.json();
    let of_nats = answer["findings"].as_array().unwrap().iter().find(|finding| finding["about"] == "nats").unwrap();
    (of_nats["verdict"].as_str().unwrap().to_owned(), of_nats["found"].as_str().unwrap().to_owned())
}

async fn well(binary: &Binary) {
    until("the stream to be there", async || told(binary).0 == "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_only_to_a_server_that_the_machine_trusts_with_the_right_token() {
    let certificates = Certificates::make().unwrap();
    let (certificate, key) = (certificates.certificate(), certificates.key());
    let tls = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", certificate.display(), key.display());
    let nats = Nats::with(Sync::Default, &format!("{tls}\nauthorization {{ token: \"right-word\" }}"));
    let url = |scheme: &str, token: &str| {
        nats.url().replace("nats://", &format!("{scheme}://{token}@")).replace("127.0.0.1", "localhost")
    };
    let authority = certificates.authority();
    let trusting = |url: &str| Binary::new(&[("UZEL_NATS", url), ("SSL_CERT_FILE", authority.to_str().unwrap())]);
    for scheme in ["tls", "nats"] {
        let mut binary = trusting(&url(scheme, "right-word"));
        binary.serve(&[]).await;
        well(&binary).await;
    }
    let mut binary = trusting(&url("tls", "wr0ng-word"));
    binary.serve(&[]).await;
    let (verdict, found) = told(&binary);
    assert!(verdict == "fail" && found.contains("authorization violation") && !found.contains("wr0ng-word"), "{found}");

    let mut binary = Binary::new(&[("UZEL_NATS", &url("tls", "right-word"))]);
    binary.serve(&[]).await;
    let (verdict, found) = told(&binary);
    assert!(verdict == "fail" && found.contains("certificate"), "{found}");
    until("the log to say so", async || binary.log().contains("certificate")).await;
    assert!(!binary.log().contains("right-word"), "{}", binary.log());
}

/// A key as NATS writes it: the first letter says whose it is (https://docs.nats.io, "NKeys").
struct Nkey {
    kind: u8,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

const OPERATOR: u8 = 14 << 3;
const ACCOUNT: u8 = 0;
const USER: u8 = 20 << 3;
const SEED: u8 = 18 << 3;

impl Nkey {
    fn new(kind: u8) -> Self {
        let seed: [u8; 32] = rand::random();
        Self { kind, seed, pair: Ed25519KeyPair::from_seed_unchecked(&seed).unwrap() }
    }

    fn public_key(&self) -> String {
        written(&[&[self.kind], self.pair.public_key().as_ref()].concat())
    }

    fn seed(&self) -> String {
        written(&[&[SEED | self.kind >> 5, (self.kind & 31) << 3][..], &self.seed].concat())
    }
}

/// With its checksum (CRC-16/XMODEM), in base32.
fn written(bytes: &[u8]) -> String {
    let checksum = bytes.iter().fold(0_u16, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 })
    });
    let mut text = String::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in bytes.iter().copied().chain(checksum.to_le_bytes()) {
        (bits, count) = (bits << 8 | u32::from(byte), count + 8);
        while count >= 5 {
            count -= 5;
            text.push(char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(bits >> count & 31) as usize]));
        }
    }
    if count > 0 {
        text.push(char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(bits << (5 - count) & 31) as usize]));
    }
    text
}

/// A token of NATS: signed claims of `issuer` about `subject`.
fn jwt(issuer: &Nkey, subject: &Nkey, nats: &Value) -> String {
    let claims = json!({
        "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": "test",
        "nats": nats,
    });
    let parts = [json!({ "typ": "JWT", "alg": "ed25519-nkey" }), claims];
    let signed = parts.map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.pair.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_credentials_lets_the_hub_into_its_account() {
    let (operator, system, account, user) = (Nkey::new(OPERATOR), Nkey::new(ACCOUNT), Nkey::new(ACCOUNT), Nkey::new(USER));
    let all = |more: Value| {
        let mut limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1 });
        limits.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "type": "account", "version": 2, "limits": limits })
    };
    let jetstream = json!({ "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1 });
    let more = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}\n {}: {} }}",
        jwt(&operator, &operator, &json!({ "type": "operator", "version": 2 })),
        system.public_key(),
        system.public_key(),
        jwt(&operator, &system, &all(json!({}))),
        account.public_key(),
        jwt(&operator, &account, &all(jetstream)),
    );
    let nats = Nats::with(Sync::Default, &more);
    let rights = json!({ "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
    let credentials = |seed: &str| {
        format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n",
            jwt(&account, &user, &rights)
        )
    };
    let mut binary = Binary::new(&[("UZEL_NATS", &nats.url()), ("UZEL_NATS_CREDS", "hub.creds")]);
    binary.write("hub.creds", &credentials(&user.seed()));
    binary.serve(&[]).await;
    well(&binary).await;
    binary.signal("-TERM");

    // Another's seed beside the token of the user.
    binary.write("hub.creds", &credentials(&Nkey::new(USER).seed()));
    binary.serve(&[]).await;
    let (verdict, found) = told(&binary);
    assert!(verdict == "fail" && found.contains("authorization violation"), "{found}");
}
