//! Providers that mean harm, or are broken: whatever they answer costs bounded memory and time, and ends in words.

use std::{
    fs,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use uzel::hub::Parts;

use crate::{
    binary::Binary,
    world::{World, until},
};

const CALL_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Of a debug build under load, beside the time-out of a call.
const SLACK: Duration = Duration::from_millis(2_500);
const GROWTH_KIB_MAX: u64 = 16 << 10;

/// What a server does with a connection whose request has come.
#[derive(Debug, Clone)]
enum Does {
    /// Writes this, again and again with this pause, until the other side goes.
    Repeats(Vec<u8>, Vec<u8>, Duration),
    /// Writes this and closes.
    Says(Vec<u8>),
    /// Nothing at all.
    Waits,
    /// Not even reads the request.
    Garbles(Vec<u8>),
}

/// Serves one attack, and gives its port and how many connections came.
async fn attacks(does: Does) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU32::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(attack(stream, does.clone()));
        }
    });
    (port, count)
}

/// Ends with the connection.
async fn attack(mut stream: TcpStream, does: Does) -> std::io::Result<()> {
    if let Does::Garbles(garbage) = &does {
        stream.write_all(garbage).await?;
        return stream.shutdown().await;
    }
    let mut head = vec![0; 64 << 10];
    let mut read = 0;
    while !head[..read].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut head[read..]).await? {
            0 => return Ok(()),
            more => read += more,
        }
    }
    match does {
        Does::Repeats(first, again, pause) => {
            stream.write_all(&first).await?;
            loop {
                stream.write_all(&again).await?;
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        }
        Does::Says(answer) => {
            stream.write_all(&answer).await?;
            stream.shutdown().await
        }
        Does::Waits | Does::Garbles(_) => stream.read(&mut head).await.map(drop),
    }
}

/// About 1 MiB that unpacks to 1 GiB: a piece of a mebibyte of zeros, over and over.
fn bomb() -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    let mut piece = Vec::with_capacity(8 << 10);
    let mut packer = flate2::Compress::new(flate2::Compression::best(), false);
    packer.compress_vec(&zeros, &mut piece, flate2::FlushCompress::Full).unwrap();
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    [&header[..], &piece.repeat(1_024)].concat()
}

fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{headers}\r\n").as_bytes(), body].concat()
}

/// Every attack: its name, what the server does, and what becomes of a text: its state, and words of the reason.
fn all() -> Vec<(&'static str, Does, &'static str, &'static str)> {
    let (no_pause, slowly) = (Duration::ZERO, Duration::from_millis(100));
    let packed = bomb();
    let redirect = |to: &str| Does::Says(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into());
    let endless = Does::Repeats(ok("", b""), vec![b' '; 64 << 10], no_pause);
    let chunks = [b"10000\r\n".as_slice(), &vec![b' '; 64 << 10], b"\r\n"].concat();
    vec![
        ("drip-head", Does::Repeats(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec(), b"a".to_vec(), slowly), "unknown", "no answer in time"),
        (
            "drip-body",
            Does::Repeats(ok("Content-Length: 100000\r\n", b""), b" ".to_vec(), slowly),
            "unknown",
            "no answer in time",
        ),
        ("endless-body", endless, "unknown", "larger than 1 MiB"),
        (
            "endless-chunks",
            Does::Repeats(ok("Transfer-Encoding: chunked\r\n", b""), chunks, no_pause),
            "unknown",
            "larger than 1 MiB",
        ),
        (
            "endless-header",
            Does::Repeats(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec(), vec![b'a'; 64 << 10], no_pause),
            "unknown",
            "broke",
        ),
        (
            "endless-headers",
            Does::Repeats(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-A: a\r\n".repeat(4_096), no_pause),
            "unknown",
            "broke",
        ),
        (
            "informational",
            Does::Repeats(Vec::new(), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(512), no_pause),
            "unknown",
            "in time",
        ),
        (
            "bomb",
            Does::Says(ok(&format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", packed.len()), &packed)),
            "unknown",
            "larger than 1 MiB",
        ),
        ("no-gzip", Does::Says(ok("Content-Encoding: gzip\r\n", b"{\"status\":\"OK\"}")), "unknown", "broke"),
        ("metadata", redirect("http://169.254.169.254/latest/meta-data/"), "unknown", "redirects are not followed"),
        ("too-short", Does::Says(ok("Content-Length: 5\r\n", b"{\"status\":\"OK\"}")), "unknown", ""),
        ("too-long", Does::Says(ok("Content-Length: 500\r\n", b"{\"status\":\"OK\"}")), "unknown", "broke"),
        (
            "two-lengths",
            Does::Says(ok("Content-Length: 5\r\nContent-Length: 15\r\n", b"{\"status\":\"OK\"}")),
            "unknown",
            "broke",
        ),
        ("chunked-garbage", Does::Says(ok("Transfer-Encoding: chunked\r\n", b"zz\r\n{}\r\n0\r\n\r\n")), "unknown", "broke"),
        ("huge-chunk", Does::Says(ok("Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\n")), "unknown", "broke"),
        ("http-0-9", Does::Says(b"<html>hello</html>".to_vec()), "unknown", "broke"),
        ("nothing", Does::Says(Vec::new()), "unknown", "broke"),
        ("silent", Does::Waits, "unknown", "no answer in time"),
        ("deep-json", Does::Says(ok("", "[".repeat(900_000).as_bytes())), "unknown", ""),
        ("tls-garbage", Does::Garbles(vec![0xa5; 4_096]), "waiting", "no connection"),
        ("tls-silent", Does::Waits, "waiting", "no connection"),
    ]
}

fn memory_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_matches(|sign: char| !sign.is_ascii_digit()).parse().unwrap()
}

fn connection(name: &str, base_url: String) -> Value {
    json!({ "merchant": "m", "slug": name, "provider": "smsru",
        "settings": { "api_id": format!("id-of-{name}"), "base_url": base_url } })
}

/// The command of one text through a connection.
async fn send(binary: &Binary, via: &str, place: usize) -> String {
    let answer = binary
        .web
        .post(format!("{}/api/v1/commands", binary.url()))
        .bearer_auth(binary.owner_key())
        .header("idempotency-key", via)
        .json(&json!({ "merchant": "m", "via": via, "to": format!("+7999123{place:04}"), "text": "x", "ground": "service" }))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202, "{via}");
    answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

async fn shown(binary: &Binary, id: &str) -> Value {
    let url = format!("{}/api/v1/commands/{id}", binary.url());
    binary.web.get(url).bearer_auth(binary.owner_key()).send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_provider_answers_costs_bounded_memory_and_time() {
    let mut binary = Binary::new(&[("UZEL_CALL_TIMEOUT_MS", &CALL_TIMEOUT.as_millis().to_string())]);
    let (mut connections, mut expected) = (Vec::new(), Vec::new());
    for (name, does, state, words) in all() {
        let (port, _) = attacks(does).await;
        let scheme = if name.starts_with("tls") { "https" } else { "http" };
        connections.push(connection(name, format!("{scheme}://127.0.0.1:{port}")));
        expected.push((name, state, words));
    }
    let (calm, _) = attacks(Does::Says(ok("Content-Length: 2\r\n", b"{}"))).await;
    connections.push(connection("calm", format!("http://127.0.0.1:{calm}")));
    binary.serve(&[]).await;
    let setup = json!({ "setup": { "merchant": [{ "slug": "m" }], "connection": connections } });
    let apply = binary.web.post(format!("{}/api/v1/apply", binary.url())).bearer_auth(binary.owner_key());
    assert_eq!(apply.json(&setup).send().await.unwrap().status(), 200);
    // What is loaded once belongs to no attack.
    let warm = send(&binary, "calm", 9_999).await;
    until("a first call", async || shown(&binary, &warm).await["state"] == "unknown").await;

    let pid = binary.pid();
    fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/clear_refs")).unwrap().write_all(b"5").unwrap();
    let before = memory_kib(pid, "VmRSS:");
    let began = Instant::now();
    let mut asked = Vec::new();
    for (place, (name, state, words)) in expected.into_iter().enumerate() {
        asked.push((name, state, words, send(&binary, name, place).await));
    }
    for (name, state, words, id) in &asked {
        let mut command = Value::Null;
        until(name, async || {
            command = shown(&binary, id).await;
            command["attempts"].as_u64() >= Some(1)
        })
        .await;
        let told = command["reason"].as_str().unwrap_or_default();
        // What waits for its next try may be at it already.
        let ended = if command["state"] == "sending" { "waiting" } else { command["state"].as_str().unwrap() };
        assert!(ended == *state && told.contains(words), "{name}: {ended} {told}");
        let took_ms = command["exchanges"][0]["duration_ms"].as_u64().unwrap();
        assert!(u128::from(took_ms) < (CALL_TIMEOUT + SLACK).as_millis(), "{name} took {took_ms} ms");
        assert!(command["exchanges"][0].to_string().len() < 40 << 10, "{name} fills the journal");
    }
    let (grown, took) = (memory_kib(pid, "VmHWM:").saturating_sub(before), began.elapsed());
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more than the {before} KiB before");
    assert!(took < Duration::from_secs(50), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_to_write_an_address_leads_to_a_private_one() {
    let world = World::bare(Parts::default(), |settings| settings.allow_networks = Vec::new()).await;
    let (port, came) = attacks(Does::Says(ok("Content-Length: 2\r\n", b"{}"))).await;
    let hosts = [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::1]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
    ];
    let connections: Vec<Value> =
        hosts.iter().enumerate().map(|(place, host)| connection(&format!("c{place}"), format!("http://{host}:{port}"))).collect();
    world.apply(&json!({ "merchant": [{ "slug": "m" }], "connection": connections })).await;
    for (place, host) in hosts.iter().enumerate() {
        let url = format!("{}/api/v1/connections/c{place}/balance", world.hub.url());
        let answer = world.web.get(url).bearer_auth(world.hub.owner_key().unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), 502, "{host}");
        let told = answer.text().await.unwrap();
        // Not every system's resolver knows the name with a point at its end.
        assert!(told.contains("private") || *host == "localhost.", "{host}: {told}");
    }
    assert_eq!(came.load(Ordering::Relaxed), 0);
    // A name or a password in an address would stand where everybody sees it.
    for url in ["http://user:pass@example.org", "http://example.org@127.0.0.1", "http://:pass@example.org"] {
        let setup = json!({ "merchant": [{ "slug": "m" }], "connection": [connection("u", url.to_owned())] });
        let faults = world.hub.engine.plan(&setup, uzel_engine::setup::Leniency::default()).await.unwrap().unwrap_err();
        assert!(faults.iter().any(|fault| fault.detail.contains("holds a name or a password")), "{url}: {faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_followed_to_no_address_at_all() {
    let world = World::bare(Parts::default(), |_| {}).await;
    let (target, came) = attacks(Does::Says(ok("Content-Length: 2\r\n", b"{}"))).await;
    for status in [301, 302, 303, 307, 308] {
        let to = format!("HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:{target}/\r\nContent-Length: 0\r\n\r\n");
        let (port, asked) = attacks(Does::Says(to.into())).await;
        let slug = format!("c{status}");
        let connection = connection(&slug, format!("http://127.0.0.1:{port}"));
        world.apply(&json!({ "merchant": [{ "slug": "m" }], "connection": [connection] })).await;
        let url = format!("{}/api/v1/connections/{slug}/balance", world.hub.url());
        let answer = world.web.get(url).bearer_auth(world.hub.owner_key().unwrap()).send().await.unwrap();
        assert!(answer.text().await.unwrap().contains("redirects are not followed"));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
    assert_eq!(came.load(Ordering::Relaxed), 0);
}
