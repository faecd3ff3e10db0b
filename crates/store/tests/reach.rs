//! How a store reaches its server: by TLS, by a pooler, several nodes at their first start at once, a server that goes away.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::time::Duration;

use uzel_servers::{Certificates, Options, PgBouncer, Pooling, Stop};
use uzel_store::{News, Postgres, PostgresOptions, Store, StoreError};

async fn open(url: &str) -> Result<Postgres, StoreError> {
    Postgres::open(PostgresOptions::new(url)).await
}

async fn refused(url: &str) -> String {
    open(url).await.err().expect("it should be refused").to_string()
}

async fn database() -> String {
    uzel_servers::Postgres::shared().unwrap().database().await.unwrap()
}

#[tokio::test]
async fn a_server_is_believed_by_its_certificate_and_its_name_only() {
    let (own, other) = (Certificates::make().unwrap(), Certificates::make().unwrap());
    let certificate = Some((own.certificate(), own.key()));
    let server = uzel_servers::Postgres::start_with(&Options { certificate, ..Options::default() }).unwrap();
    let by_name = server.url().replace("127.0.0.1", "localhost");
    let root = |certificates: &Certificates| format!("sslrootcert={}", certificates.authority().display());

    // In the words of other clients too; each of them asks for the same here.
    for mode in ["require", "verify-ca", "verify-full"] {
        let store = open(&format!("{by_name}?sslmode={mode}&{}", root(&own))).await.unwrap();
        store.close().await;
    }
    let session = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'uzel' AND NOT s.ssl";
    let store = open(&format!("{by_name}?{}&sslmode=verify-full", root(&own))).await.unwrap();
    assert_eq!(server.govern(session).await.unwrap(), [[Some("0".to_owned())]], "all of its connections, listening too");
    store.close().await;

    let stranger = refused(&format!("{by_name}?sslmode=verify-full&{}", root(&other))).await;
    assert!(stranger.contains("invalid peer certificate"), "{stranger}");
    let nobody = refused(&format!("{by_name}?sslmode=require")).await;
    assert!(nobody.contains("invalid peer certificate"), "the machine does not know it: {nobody}");
    // Whatever the mode is called: a certificate of another name is another server's.
    let renamed = by_name.replace("localhost", "localhost.localdomain");
    let named = refused(&format!("{renamed}?hostaddr=127.0.0.1&sslmode=verify-ca&{}", root(&own))).await;
    assert!(named.contains("not valid for name"), "{named}");
    for (query, why) in [
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "sslrootcert /nowhere/ca.pem"),
        ("sslmode=require&sslcert=/etc/own.pem", "the option `sslcert`, which is not known here"),
        ("sslmode=perhaps", "the database's URL is not right"),
    ] {
        let told = refused(&format!("{by_name}?{query}")).await;
        assert!(told.contains(why), "{query}: {told}");
    }
}

#[tokio::test]
async fn by_a_pooler_that_keeps_sessions_nodes_hear_each_other_and_one_that_lends_them_out_is_refused() {
    let server = uzel_servers::Postgres::shared().unwrap();
    let url = server.database().await.unwrap();
    let lending = PgBouncer::start(server, Pooling::Transaction).unwrap();
    let told = refused(&lending.url_of(&url)).await;
    assert!(told.contains("pool_mode = session"), "{told}");

    let keeping = PgBouncer::start(server, Pooling::Session).unwrap();
    let (one, other) = (open(&keeping.url_of(&url)).await.unwrap(), open(&keeping.url_of(&url)).await.unwrap());
    let mut news = other.news();
    let breaker = uzel_model::Id::new(uzel_model::id::Kind::Connection);
    let hears = async {
        loop {
            one.put_breaker(breaker, None).await.unwrap();
            if let Ok(Ok(News::Breakers)) = tokio::time::timeout(Duration::from_millis(200), news.recv()).await {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), hears).await.expect("nothing is heard");
    one.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_on_an_empty_database_make_its_schema_once() {
    let url = database().await;
    let all = (0..5).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { open(&url).await.unwrap() })
    });
    let mut stores = Vec::new();
    for opened in all.collect::<Vec<_>>() {
        stores.push(opened.await.unwrap());
    }
    let steps = Postgres::migrations(&PostgresOptions::new(&url)).await.unwrap();
    assert!(steps.iter().all(|step| step.applied));
    let about = stores[0].about().await.unwrap();
    assert_eq!(about.schema, about.schema_known);
    assert_eq!(stores[0].fsck(false).await.unwrap(), Vec::<String>::new());
    for store in stores {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_in_the_middle_of_the_steps_leaves_all_of_them_or_none() {
    let server = uzel_servers::Postgres::start().unwrap();
    let steps = async |url: &str| Postgres::migrations(&PostgresOptions::new(url)).await.unwrap();
    for round in 0..4 {
        let url = server.database().await.unwrap();
        let opened = tokio::spawn({
            let url = url.clone();
            async move { open(&url).await.map(drop) }
        });
        // Some steps are taken then, not yet committed: seen by the locks of their tables.
        let begun = "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation IS NOT NULL LIMIT 1";
        while server.govern(begun).await.unwrap().is_empty() && !opened.is_finished() {}
        server.restart(Stop::Immediate).unwrap();
        let ended = opened.await.unwrap();
        let applied = steps(&url).await.iter().filter(|step| step.applied).count();
        let all = steps(&url).await.len();
        assert!(applied == 0 || applied == all, "round {round}: {applied} of {all}, {ended:?}");
        open(&url).await.unwrap().close().await;
        assert!(steps(&url).await.iter().all(|step| step.applied));
    }
}
