//! Review requests from outside: from a visit by the link in a text to stars, a private word, an answer and the counts.

use reqwest::{Response, redirect::Policy};
use serde_json::{Value, json};

use crate::world::{World, setup, until};

const PHONE: &str = "+79991234567";
const AGENT: &str = "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/131.0 Mobile Safari/537.36";

fn maps() -> Value {
    json!({
        "dgis": "https://2gis.ru/moscow/firm/4504127908472131/tab/reviews",
        "yandex": "https://yandex.ru/maps/org/1124715036/reviews/", "google": "https://g.page/r/CabcEBM/review",
    })
}

fn served(id: u32, phone: &str) -> Value {
    json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone, "name": "Иван" } } })
}

/// Merchant `m`, whose flow asks for reviews by a link.
fn asking(sandbox: &str, rules: &Value) -> Value {
    let mut rule = json!({ "text": "{{ name }}, как вам у нас? {{ link }} Не писать: {{ unsubscribe }}" });
    rule.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
    let mut file = setup(sandbox, &rule);
    file["outlet"][0]["maps"] = maps();
    file
}

/// A guest's browser, without scripts and without following.
struct Guest {
    web: reqwest::Client,
    url: String,
}

impl Guest {
    async fn get(&self, path: &str) -> Response {
        self.web.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.unwrap()
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.web.post(format!("{}{path}", self.url)).form(fields).send().await.unwrap()
    }

    /// Gives stars or a comment, and opens the page that comes after it.
    async fn give(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.post(path, fields).await;
        assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
        let next = answer.headers()["location"].to_str().unwrap().to_owned();
        self.page(&next).await
    }
}

async fn world(rules: Value) -> (World, Guest) {
    let world = World::reachable().await;
    world.apply(&asking(&world.sandbox.url(), &rules)).await;
    let web = reqwest::Client::builder().no_proxy().redirect(Policy::none()).user_agent(AGENT).build().unwrap();
    let url = world.hub.url();
    (world, Guest { web, url })
}

/// The path of the link behind this sign (`/r/` or `/u/`) in a text.
fn link(text: &str, sign: &str) -> String {
    let at = text.find(sign).unwrap_or_else(|| panic!("no {sign} in {text}"));
    text[at..].split_whitespace().next().unwrap().to_owned()
}

/// Has a guest be served, and gives the path of the review's link in the text that they got.
async fn asked(world: &World, id: u32, phone: &str) -> (String, String) {
    let before = world.texts().await.len();
    assert_eq!(world.post("rkeeper", &served(id, phone)).await.status(), 200);
    until("the text", async || world.texts().await.len() > before).await;
    world.quiet().await;
    let text = world.texts().await.last().unwrap().1.clone();
    (link(&text, "/r/"), link(&text, "/u/"))
}

async fn stats(world: &World) -> Value {
    world.api("/api/v1/merchants/m/reviews/stats").await["total"].clone()
}

async fn events(world: &World, kind: &str) -> Vec<Value> {
    world.quiet().await;
    world.api(&format!("/api/v1/events?merchant=m&type={kind}&unmasked=true")).await.as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_word_is_sent_to_whoever_wants_comments_and_to_nobody_else() {
    let (world, guest) = world(json!({})).await;
    let people = [("vera", "comments", "+79990003333"), ("gleb", "notices", "+79990004444")].map(|(slug, wants, to)| {
        json!({ "merchant": "m", "slug": slug, "language": "en", "wants": [wants], "addresses": [{ "via": "smsru", "to": to }] })
    });
    world.apply(&json!({ "recipient": people })).await;
    let (path, _) = asked(&world, 1, PHONE).await;
    guest.give(&path, &[("stars", "1")]).await;
    guest.give(&path, &[("comment", "Ждали час")]).await;
    let told = async |to: &str| world.texts().await.into_iter().filter(|(whom, _)| whom == to).collect::<Vec<_>>();
    crate::world::until("the word to be sent", async || !told("79990003333").await.is_empty()).await;
    world.quiet().await;
    let texts = told("79990003333").await;
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(
        texts[0].1.contains("a guest wrote to you") && texts[0].1.contains("★☆☆☆☆") && texts[0].1.contains("Ждали час"),
        "{texts:?}"
    );
    assert!(told("79990004444").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_gives_few_stars_and_a_private_word_that_reaches_the_owner_and_is_answered() {
    let (world, guest) = world(json!({})).await;
    let (path, _) = asked(&world, 1, PHONE).await;
    assert!(path.len() >= "/r/".len() + 8, "{path}");
    let page = guest.page(&path).await;
    assert!(page.contains("Как вам у нас?") && page.contains("Кафе") && !page.contains("2gis"), "{page}");
    assert_eq!(page.matches("name=\"stars\"").count(), 5);

    let page = guest.give(&path, &[("stars", "2")]).await;
    let (form, maps) = (page.find("<textarea").unwrap(), page.find("/go/dgis").unwrap());
    assert!(form < maps && page.contains("/go/yandex") && page.contains("/go/google"), "the private word comes first");
    let page = guest.give(&path, &[("comment", "Ждали час.\r\nКофе <b>холодный</b>")]).await;
    assert!(page.contains("Владелец уже получил") && page.contains("/go/dgis") && !page.contains("<textarea"), "{page}");

    let left = events(&world, "review.left").await;
    assert_eq!(left.len(), 1, "{left:?}");
    let data = &left[0]["data"]["details"];
    assert_eq!((&data["stars"], &data["source"], &data["channel"]), (&json!(2), &json!("rkeeper"), &json!("sms")));
    let changed = events(&world, "review.changed").await;
    assert_eq!(changed[0]["data"]["details"]["comment"], "Ждали час.\nКофе <b>холодный</b>");
    let notices = world.api("/api/v1/notices").await;
    let notice = notices.as_array().unwrap().iter().find(|it| it["kind"].as_str().unwrap().starts_with("comment/")).unwrap();
    assert_eq!(notice["text"], "Кафе: ★★☆☆☆ – гость написал лично вам: «Ждали час.\nКофе <b>холодный</b>»");

    let reviews = world.api("/api/v1/reviews?merchant=m&stars=2&state=new&outlet=o&source=rkeeper").await;
    let review = &reviews[0];
    assert_eq!((&review["to"], &review["state"]), (&json!("+7999***4567"), &json!("new")));
    let id = review["id"].as_str().unwrap();
    let (status, answered) = world.ask(&format!("/api/v1/reviews/{id}/answer"), &json!({ "text": "Простите нас!" })).await;
    assert_eq!((status, &answered["state"]), (200, &json!("answered")), "{answered}");
    world.quiet().await;
    assert_eq!(world.texts().await.last().unwrap(), &("79991234567".to_owned(), "Простите нас!".to_owned()));
    let (status, again) = world.ask(&format!("/api/v1/reviews/{id}/answer"), &json!({ "text": "Ещё раз" })).await;
    assert_eq!((status, &again["type"]), (409, &json!("/problems/conflict")));
    assert!(world.api("/api/v1/reviews?state=new").await.as_array().unwrap().is_empty());
    let all = world.api("/api/v1/journal?limit=100").await.to_string();
    assert!(!all.contains(path.trim_start_matches("/r/")), "a code is a key: the sync log shows none");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_requests_is_counted_once_and_what_looks_ahead_is_nobody() {
    let (world, guest) = world(json!({})).await;
    let (path, _) = asked(&world, 1, PHONE).await;
    let (other, _) = asked(&world, 2, "+79990000002").await;
    let url = format!("{}{path}", guest.url);
    for agent in ["TelegramBot (like TwitterBot)", "WhatsApp/2.24.1", "facebookexternalhit/1.1"] {
        assert_eq!(world.web.get(&url).header("user-agent", agent).send().await.unwrap().status(), 200);
    }
    assert_eq!(guest.web.head(&url).send().await.unwrap().status(), 200);
    assert_eq!(guest.web.get(&url).header("sec-purpose", "prefetch").send().await.unwrap().status(), 200);
    assert_eq!(stats(&world).await["opened"], 0);
    for _ in 0..2 {
        guest.page(&path).await;
        guest.give(&path, &[("stars", "5")]).await;
        let on = guest.get(&format!("{path}/go/yandex")).await;
        assert_eq!((on.status().as_u16(), on.headers()["location"].to_str().unwrap()), (303, maps()["yandex"].as_str().unwrap()));
    }
    guest.give(&other, &[("stars", "4")]).await;
    let total = stats(&world).await;
    assert_eq!(
        total,
        json!({
            "sent": 2, "opened": 2, "left": 2, "stars": [0, 0, 0, 1, 1], "average": "4.50", "comments": 0,
            "clicks": { "dgis": 0, "yandex": 1, "google": 0 }
        })
    );
    let places = world.api("/api/v1/merchants/m/reviews/stats?from=2000-01-01&to=2100-01-01").await["places"].clone();
    let place = &places[0];
    assert_eq!(
        (&place["outlet_slug"], &place["source_slug"], &place["channel"]),
        (&json!("o"), &json!("rkeeper"), &json!("sms"))
    );
    assert_eq!(places.as_array().unwrap().len(), 1);
    let none = world.api("/api/v1/merchants/m/reviews/stats?to=2000-01-01").await;
    assert_eq!((&none["total"]["sent"], &none["places"]), (&json!(0), &json!([])));
    assert_eq!(events(&world, "review.left").await.len(), 2, "the same stars again are no other review");
    assert!(events(&world, "review.changed").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn stars_can_be_changed_for_a_day_and_the_link_ends_after_ninety() {
    let (world, guest) = world(json!({})).await;
    let (path, _) = asked(&world, 1, PHONE).await;
    guest.give(&path, &[("stars", "1")]).await;
    assert!(guest.page(&format!("{path}?again=1")).await.contains("name=\"stars\""));
    assert!(guest.give(&path, &[("stars", "5")]).await.contains("Спасибо за оценку!"));
    let changed = events(&world, "review.changed").await;
    assert_eq!((changed.len(), &changed[0]["data"]["details"]["stars"]), (1, &json!(5)));
    assert_eq!(stats(&world).await["stars"], json!([0, 0, 0, 0, 1]));
    world.pass(25 * 60);
    let late = guest.post(&path, &[("stars", "1")]).await;
    assert_eq!(late.status(), 409);
    assert!(late.text().await.unwrap().contains("изменить её больше нельзя"));
    assert!(!guest.page(&path).await.contains("again=1"));
    world.pass(90 * 24 * 60);
    assert_eq!(guest.get(&path).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_light_strict_and_in_the_language_that_is_wanted() {
    let (world, guest) = world(json!({})).await;
    let (path, _) = asked(&world, 1, PHONE).await;
    let answer = guest.get(&path).await;
    let head = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    assert_eq!((head("cache-control").as_str(), head("x-robots-tag").as_str()), ("no-store", "noindex, nofollow"));
    assert_eq!((head("referrer-policy").as_str(), head("set-cookie").as_str()), ("no-referrer", ""));
    let policy = head("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let page = answer.text().await.unwrap();
    assert!(page.len() < 30_000, "{} bytes", page.len());
    for outside in ["http://", "https://", "<script", "<img", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for (language, words) in [("uz", "Bizda sizga yoqdimi?"), ("en", "How was your visit?"), ("ru", "Как вам у нас?")] {
        let page = guest.page(&format!("{path}?lang={language}")).await;
        assert!(page.contains(words) && page.contains(&format!("<html lang=\"{language}\">")), "{language}");
        assert!(page.contains(&format!("action=\"{path}?lang={language}\"")), "the answer keeps the language");
    }
    let unknown =
        guest.web.get(format!("{}/r/abcdefghij", guest.url)).header("accept-language", "uz,ru;q=0.5").send().await.unwrap();
    assert_eq!(unknown.status(), 404);
    assert!(unknown.text().await.unwrap().contains("Havola ishlamayapti"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_told_so_and_guessing_is_slowed() {
    let (world, guest) = world(json!({})).await;
    let (path, _) = asked(&world, 1, PHONE).await;
    for fields in
        [&[("stars", "6")][..], &[("stars", "0")], &[("stars", "many")], &[("stars", "")], &[("comment", "без звёзд")], &[]]
    {
        assert_eq!(guest.post(&path, fields).await.status(), 422, "{fields:?}");
    }
    let url = format!("{}{path}", guest.url);
    assert_eq!(guest.web.post(&url).json(&json!({ "stars": 5 })).send().await.unwrap().status(), 415);
    let form = "application/x-www-form-urlencoded";
    let large = guest.web.post(&url).header("content-type", form).body(vec![b'a'; 100_000]).send().await.unwrap();
    assert_eq!(large.status(), 413);
    assert_eq!(guest.web.put(&url).send().await.unwrap().status(), 405);
    guest.give(&path, &[("stars", "1")]).await;
    let long = guest.post(&path, &[("comment", &"я".repeat(2_001))]).await;
    assert_eq!(long.status(), 422);
    assert!(long.text().await.unwrap().contains("сократите"));
    guest.give(&path, &[("comment", &"я".repeat(2_000))]).await;
    assert_eq!(guest.get(&format!("{path}/go/nowhere")).await.status(), 303);
    let mut statuses = Vec::new();
    for number in 0..40 {
        statuses.push(guest.get(&format!("/r/guess{number:05}")).await.status().as_u16());
    }
    assert_eq!((statuses[0], statuses[39]), (404, 429), "{statuses:?}");
    assert_eq!(guest.get(&path).await.status(), 200, "a right code is always let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_survives_a_restart_and_is_told_once() {
    let (world, guest) = world(json!({})).await;
    let (path, _) = asked(&world, 1, PHONE).await;
    guest.give(&path, &[("stars", "3"), ("comment", "шумно")]).await;
    let world = world.restart(async |_, _| {}).await;
    let left = events(&world, "review.left").await;
    assert_eq!((left.len(), &left[0]["data"]["details"]["comment"]), (1, &json!("шумно")));
    let entry = left[0]["data"]["entry"].as_str().unwrap();
    let (_, replayed) = world.ask("/api/v1/replay", &json!({ "entry": entry })).await;
    assert_eq!(replayed["outcomes"][0]["outcome"]["new_events"], 0, "{replayed}");
    assert_eq!(world.notices(&format!("comment/{}", left[0]["data"]["details"]["review"].as_str().unwrap())).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_answers_at_once_are_one_review_and_a_change() {
    let (world, guest) = world(json!({})).await;
    let (path, _) = asked(&world, 1, PHONE).await;
    let (one, other) = tokio::join!(guest.post(&path, &[("stars", "1")]), guest.post(&path, &[("stars", "2")]));
    assert_eq!((one.status().as_u16(), other.status().as_u16()), (303, 303));
    assert_eq!((events(&world, "review.left").await.len(), events(&world, "review.changed").await.len()), (1, 1));
    assert_eq!(stats(&world).await["left"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_may_follow_a_review_and_be_for_some_outlets_and_sources_only() {
    let (world, guest) = world(json!({ "sources": ["rkeeper"], "outlets": ["o"] })).await;
    let thanks = json!({
        "merchant": "m", "slug": "thanks", "on": ["review.left"], "when": "event.data.stars == 5", "ground": "service",
        "ground_by": "t", "via": "smsru", "text": "Спасибо за {{ event.data.stars }} звёзд!"
    });
    world.apply(&json!({ "flow": [thanks] })).await;
    let (path, _) = asked(&world, 1, PHONE).await;
    let yclients = json!({
        "company_id": 1, "resource": "record", "resource_id": 7, "status": "update",
        "data": { "id": 7, "visit_id": 7, "attendance": 1, "client": { "id": 1, "name": "Анна", "phone": "+79990000007" } }
    });
    world.post("yclients", &yclients).await;
    guest.give(&path, &[("stars", "5")]).await;
    world.quiet().await;
    let texts: Vec<String> = world.texts().await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert_eq!(texts[1], "Спасибо за 5 звёзд!");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_that_cannot_make_links_or_names_what_is_not_there_is_refused_by_its_fields() {
    let world = World::bare(Default::default(), |_| {}).await;
    let mut file = asking(&world.sandbox.url(), &json!({ "outlets": ["nowhere"], "sources": ["rkeeper", "nothing"] }));
    file["outlet"][0]["maps"]["yandex"] = json!("https://evil.example/maps");
    let plan = world.hub.engine.plan(&file, uzel_engine::setup::Leniency { short_keys: true }).await.unwrap();
    let places: Vec<String> = plan.unwrap_err().into_iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect();
    let told = |place: &str, words: &str| places.iter().any(|fault| fault.starts_with(place) && fault.contains(words));
    assert!(told("/flow/0/text", "public_url"), "{places:?}");
    assert!(told("/flow/0/outlets/0", "`nowhere`") && told("/flow/0/sources/1", "`nothing`"), "{places:?}");
    assert!(told("/outlet/0/maps/yandex", "no page of this map"), "{places:?}");
    assert_eq!(places.len(), 4, "{places:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_erased_left_stars_that_name_nobody() {
    let (world, guest) = world(json!({})).await;
    let (path, _) = asked(&world, 1, PHONE).await;
    guest.give(&path, &[("stars", "2")]).await;
    guest.give(&path, &[("comment", "Позовите Марию Петровну")]).await;
    world.quiet().await;
    let (status, _) = world.ask("/api/v1/merchants/m/erasures", &json!({ "phone": PHONE })).await;
    assert_eq!(status, 200);
    assert_eq!(guest.get(&path).await.status(), 404);
    let tables = ["SELECT doc FROM review", "SELECT doc FROM event", "SELECT doc FROM short_link", "SELECT text FROM notice"];
    for sql in tables {
        let texts = world.texts_of(sql).await;
        assert!(!texts.iter().any(|text| text.contains("1234567") || text.contains("Петровну")), "{sql}: {texts:?}");
    }
    let review = world.api("/api/v1/reviews?unmasked=true").await[0].clone();
    assert_eq!((&review["stars"], &review["to"], &review["comment"]), (&json!(2), &Value::Null, &Value::Null));
    let (status, _) =
        world.ask(&format!("/api/v1/reviews/{}/answer", review["id"].as_str().unwrap()), &json!({ "text": "?" })).await;
    assert_eq!((status, &stats(&world).await["stars"]), (409, &json!([0, 1, 0, 0, 0])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_for_no_person_who_wants_no_messages() {
    let (world, guest) = world(json!({})).await;
    let (path, out) = asked(&world, 1, PHONE).await;
    guest.give(&path, &[("stars", "2")]).await;
    assert_eq!(guest.post(&out, &[("stop", "1")]).await.status(), 200);
    let id = world.api("/api/v1/reviews").await[0]["id"].as_str().unwrap().to_owned();
    let (status, problem) = world.ask(&format!("/api/v1/reviews/{id}/answer"), &json!({ "text": "Простите!" })).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("wants no messages"));
    let (status, _) = world.ask(&format!("/api/v1/reviews/{id}/answer"), &json!({ "text": "  " })).await;
    assert_eq!(status, 422);
}

/// The style is long and stands in its own file; codes differ from run to run.
fn plain(page: &str, path: &str) -> String {
    let start = page.find("<style>").unwrap();
    let end = page.find("</style>").unwrap();
    let page = format!("{}<style>…{}", &page[..start], &page[end..]);
    page.replace(path, &format!("{}CODE", &path[..3])).replace("><", ">\n<")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_page_looks_as_it_did_in_each_language() {
    let (world, guest) = world(json!({})).await;
    let (path, out) = asked(&world, 1, PHONE).await;
    let (happy, _) = asked(&world, 2, "+79990000002").await;
    let check = async |state: &str, path: &str| {
        for language in ["ru", "uz", "en"] {
            let page = plain(&guest.page(&format!("{path}?lang={language}")).await, path);
            insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../../../fixtures/pages", omit_expression => true }, {
                insta::assert_snapshot!(format!("{state}__{language}"), page);
            });
        }
    };
    check("question", &path).await;
    guest.give(&path, &[("stars", "2")]).await;
    check("few_stars", &path).await;
    guest.give(&path, &[("comment", "Ждали <час> & \"больше\"")]).await;
    check("commented", &path).await;
    guest.give(&happy, &[("stars", "5")]).await;
    check("many_stars", &happy).await;
    check("unsubscribe", &out).await;
    guest.post(&out, &[]).await;
    check("unsubscribed", &out).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_gets_no_more_messages_in_seven_days_than_flows_allow() {
    let (world, _) = world(json!({ "per_week": 2 })).await;
    for id in 1..=3 {
        world.post("rkeeper", &served(id, PHONE)).await;
        world.quiet().await;
    }
    assert_eq!(world.texts().await.len(), 2);
    assert_eq!(world.api("/api/v1/counts").await["held"], json!([["enough_this_week", 1]]));
    world.pass(8 * 24 * 60);
    asked(&world, 4, PHONE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_erased_by_their_mailbox_left_stars_that_name_nobody() {
    let (world, guest) = world(json!({})).await;
    let mut file = asking(&world.sandbox.url(), &json!({ "via": "mail" }));
    let mail = json!({ "merchant": "m", "slug": "mail", "provider": "log", "settings": { "channel": "email" } });
    file["connection"].as_array_mut().unwrap().push(mail);
    world.apply(&file).await;
    let visit = json!({
        "company_id": 1, "resource": "record", "resource_id": 7, "status": "update",
        "data": { "id": 7, "visit_id": 7, "attendance": 1, "client": { "id": 1, "name": "Анна", "email": "anna@example.com" } }
    });
    world.post("yclients", &visit).await;
    world.quiet().await;
    let texts = world.texts_of("SELECT job FROM command").await;
    let path = link(texts.iter().find(|text| text.contains("/r/")).unwrap(), "/r/");
    guest.give(&path, &[("stars", "2")]).await;
    guest.give(&path, &[("comment", "Это Анна, перезвоните")]).await;
    world.quiet().await;
    let (status, _) = world.ask("/api/v1/merchants/m/erasures", &json!({ "email": "anna@example.com" })).await;
    assert_eq!(status, 200);
    assert_eq!(guest.get(&path).await.status(), 404);
    for sql in ["SELECT doc FROM review", "SELECT doc FROM event", "SELECT doc FROM short_link", "SELECT text FROM notice"] {
        let texts = world.texts_of(sql).await;
        assert!(!texts.iter().any(|text| text.contains("anna@") || text.contains("Анна")), "{sql}: {texts:?}");
    }
    let review = world.api("/api/v1/reviews?unmasked=true").await[0].clone();
    assert_eq!((&review["stars"], &review["to"], &review["comment"]), (&json!(2), &Value::Null, &Value::Null));
}
