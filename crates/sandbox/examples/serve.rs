#[tokio::main]
async fn main() {
    let s = uzel_sandbox::Sandbox::start("127.0.0.1:18099".parse().expect("a")).await.expect("b");
    if std::env::args().nth(1).is_some() {
        let url = format!("{}/smsru/sms/send", s.url());
        rustls::crypto::ring::default_provider().install_default().expect("x");
        let c = reqwest::Client::builder().no_proxy().build().expect("c");
        let t = std::time::Instant::now();
        let mut set = tokio::task::JoinSet::new();
        for k in 0..64u32 {
            let (c, url) = (c.clone(), url.clone());
            set.spawn(async move {
                for i in 0..1000u32 {
                    let to = format!("79{:09}", k * 1000 + i);
                    let r = c.post(&url).form(&[("api_id", "k"), ("json", "1"), ("to", &to), ("msg", "Спасибо за заказ, оставьте отзыв: https://x.example/r/AbCd")]).send().await.expect("s");
                    drop(r.bytes().await.expect("b"));
                }
            });
        }
        while set.join_next().await.is_some() {}
        panic!("64000 in {:?}", t.elapsed());
    }
    s.stopped().await;
}
