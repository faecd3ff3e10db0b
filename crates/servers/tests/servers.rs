//! The servers themselves: they start, go, come back with their data, and are never left behind.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tokio_postgres::NoTls;
use uzel_servers::{Nats, Options, Postgres, Stop, Sync};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_there_after_every_kind_of_restart() {
    let server = Postgres::start().unwrap();
    let url = server.database().await.unwrap();
    assert_ne!(url, server.database().await.unwrap());
    for (stop, number) in [(Stop::Immediate, 1_i64), (Stop::Fast, 2)] {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute("CREATE TABLE IF NOT EXISTS t (n bigint); INSERT INTO t VALUES (1)").await.unwrap();
        let count: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
        assert_eq!(count, number);
        server.restart(stop).unwrap();
        assert!(connection.await.unwrap().is_err(), "the session must be cut off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_hubs_are_dropped_and_others_are_kept() {
    let server =
        Postgres::start_with(&Options { max_connections: 20, config: vec!["work_mem = '5MB'".to_owned()], ..Options::default() })
            .unwrap();
    assert_eq!(server.govern("SHOW max_connections").await.unwrap(), [[Some("20".to_owned())]]);
    assert_eq!(server.govern("SHOW work_mem").await.unwrap(), [[Some("5MB".to_owned())]]);
    assert_eq!(server.govern("SHOW fsync").await.unwrap(), [[Some("on".to_owned())]]);
    let (_governing, governing) = tokio_postgres::connect(&server.governing_url(), NoTls).await.unwrap();
    let governing = tokio::spawn(governing);
    let (_hub, hub) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    let hub = tokio::spawn(hub);
    assert_eq!(server.drop_connections().await.unwrap(), 1);
    assert!(hub.await.unwrap().is_err());
    assert!(!governing.is_finished());
}

#[test]
fn nats_comes_back_on_its_port_after_a_kill_and_after_a_stop() {
    for sync in [Sync::Always, Sync::Default] {
        let server = Nats::start(sync).unwrap();
        let url = server.url();
        server.kill();
        server.start_again().unwrap();
        server.stop().unwrap();
        server.start_again().unwrap();
        assert_eq!(server.url(), url);
        assert!(server.start_again().is_err(), "it runs already");
    }
}

/// A copy of this test program starts both servers, tells where they are, and is killed.
#[test]
fn servers_end_when_the_process_that_started_them_is_killed() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["starts_servers_and_waits", "--exact", "--nocapture"])
        .env("SERVERS_WAIT", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ports = Vec::new();
    while ports.len() < 2 {
        let line = lines.next().unwrap().unwrap();
        ports.extend(line.split_once("port ").map(|(_, port)| port.parse::<u16>().unwrap()));
    }
    let answers = |port: &u16| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok();
    assert!(ports.iter().all(answers));
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while ports.iter().any(answers) {
        assert!(Instant::now() < deadline, "a server was left behind");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the other test reads it")]
fn starts_servers_and_waits() {
    let postgres = Postgres::shared().unwrap();
    let nats = Nats::start(Sync::Default).unwrap();
    assert!(Path::new("/proc/self").exists());
    for url in [postgres.url(), nats.url()] {
        let port = url.rsplit_once("127.0.0.1:").unwrap().1.split('/').next().unwrap().to_owned();
        println!("port {port}");
    }
    if std::env::var_os("SERVERS_WAIT").is_some() {
        loop {
            std::thread::park();
        }
    }
}
