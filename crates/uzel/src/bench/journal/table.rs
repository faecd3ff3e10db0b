//! The figures as people read them.

use serde_json::Value;

/// Of what `run` told.
pub(in crate::bench) fn table(told: &Value) -> String {
    let ms = |value: &Value| value.as_f64().map_or_else(String::new, |ms| format!("{ms:.1} ms"));
    let starts = told["start_to_first_2xx_ms"].as_array().into_iter().flatten().filter_map(Value::as_f64);
    let slowest = starts.fold(0.0, f64::max);
    let (accept, pages) = (&told["accept"], &told["newest_page"]);
    let mut rows = vec![
        (
            format!("start to the first durable 2xx, the slowest of {}", count(&told["start_to_first_2xx_ms"])),
            "500 ms",
            format!("{slowest:.1} ms"),
        ),
        ("an answer without the store, p99".to_owned(), "", ms(&told["without_the_store"]["p99_ms"])),
        ("look-up by phone, p99".to_owned(), "50 ms", ms(&told["look_up"]["phone"]["p99_ms"])),
        ("look-up by order number, p99".to_owned(), "50 ms", ms(&told["look_up"]["order"]["p99_ms"])),
        ("look-up by provider's id, p99".to_owned(), "50 ms", ms(&told["look_up"]["provider_id"]["p99_ms"])),
        ("newest page, p99".to_owned(), "20 ms", ms(&pages["all"]["p99_ms"])),
        (
            "newest page of a merchant seldom heard of, p99".to_owned(),
            "20 ms",
            ms(&pages["of_a_merchant_seldom_heard_of"]["p99_ms"]),
        ),
        ("newest page of one provider's calls, p99".to_owned(), "20 ms", ms(&pages["of_the_calls"]["p99_ms"])),
        (format!("accepting {}/s, p99", accept["open_per_s"]), "", ms(&accept["without_retention"]["p99_ms"])),
        (
            format!("the same while retention takes {} entries, p99", accept["forgotten_meanwhile"]),
            "2 ×",
            format!("{}, {:.2} ×", ms(&accept["with_retention"]["p99_ms"]), accept["p99_ratio"].as_f64().unwrap_or_default()),
        ),
    ];
    rows.insert(0, ("figure".to_owned(), "at most", "measured".to_owned()));
    let width = rows.iter().map(|(what, ..)| what.chars().count()).max().unwrap_or_default();
    let lines = rows.iter().map(|(what, most, measured)| format!("{what:width$}  {most:>7}  {measured}"));
    let head = format!(
        "{} entries of {} weeks on {}, {} texts waiting, {} MiB{}",
        told["entries"],
        told["weeks"],
        told["store"].as_str().unwrap_or_default(),
        told["waiting"],
        told["store_mib"],
        told["generated_s"].as_f64().map_or_else(String::new, |s| format!("; generated in {s} s")),
    );
    std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
}

fn count(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}
