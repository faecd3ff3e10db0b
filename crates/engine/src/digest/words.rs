//! A digest in people's words: Russian, Uzbek, English.

use jiff::civil::Date;
use uzel_model::{loyalty::Unit, words::Language};

use super::figures::{Digest, Points, Span, Spending};

const MONTHS: [[&str; 12]; 3] = [
    ["января", "февраля", "марта", "апреля", "мая", "июня", "июля", "августа", "сентября", "октября", "ноября", "декабря"],
    ["yanvar", "fevral", "mart", "aprel", "may", "iyun", "iyul", "avgust", "sentabr", "oktabr", "noyabr", "dekabr"],
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"],
];
const WEEKDAYS: [[&str; 7]; 3] = [
    ["понедельник", "вторник", "среда", "четверг", "пятница", "суббота", "воскресенье"],
    ["dushanba", "seshanba", "chorshanba", "payshanba", "juma", "shanba", "yakshanba"],
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
];
const SHORT_WEEKDAYS: [[&str; 7]; 3] = [
    ["пн", "вт", "ср", "чт", "пт", "сб", "вс"],
    ["du", "se", "chor", "pay", "ju", "sha", "yak"],
    ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
];
/// Why a message was held back.
const REASONS: [(&str, [&str; 3]); 7] = [
    ("opt_out", ["отписались", "obunadan chiqqan", "opted out"]),
    ("no_consent", ["нет согласия", "rozilik yo‘q", "no consent"]),
    ("too_old", ["опоздали", "kechikkan", "too late"]),
    ("asked_recently", ["недавно уже спрашивали", "yaqinda so‘ralgan", "asked recently"]),
    ("cancelled", ["отменены", "bekor qilingan", "cancelled"]),
    ("stop_list", ["в стоп-листе", "stop-ro‘yxatda", "on the stop list"]),
    ("endpoint_disabled", ["получатель отключён", "qabul qiluvchi o‘chirilgan", "receiver disabled"]),
];

fn place(language: Language) -> usize {
    match language {
        Language::Ru => 0,
        Language::Uz => 1,
        Language::En => 2,
    }
}

pub(super) fn pick(language: Language, words: [&'static str; 3]) -> &'static str {
    words[place(language)]
}

/// `27 ноября`, `27-noyabr`, `27 November`.
fn day(date: Date, language: Language) -> String {
    let month = MONTHS[place(language)][date.month() as usize - 1];
    match language {
        Language::Uz => format!("{}-{month}", date.day()),
        _ => format!("{} {month}", date.day()),
    }
}

/// Of which days it is: `пятница, 27 ноября 2026`, `23–29 ноября 2026`.
pub(super) fn days(digest: &Digest, language: Language) -> String {
    let (first, last) = (digest.first, digest.last);
    match digest.span {
        Span::Day => {
            let weekday = WEEKDAYS[place(language)][first.weekday().to_monday_zero_offset() as usize];
            match language {
                Language::Uz => format!("{}-yil {}, {weekday}", first.year(), day(first, language)),
                _ => format!("{weekday}, {} {}", day(first, language), first.year()),
            }
        }
        Span::Week => {
            let from = match (first.month() == last.month(), language) {
                (true, _) => first.day().to_string(),
                (false, _) => day(first, language),
            };
            match language {
                Language::Uz => format!("{}-yil {from} – {}", last.year(), day(last, language)),
                _ => format!("{from} – {} {}", day(last, language), last.year()),
            }
        }
    }
}

/// What stands below a bar.
pub(super) fn bar(at: i8, span: Span, language: Language) -> String {
    match span {
        Span::Day => format!("{at}:00"),
        Span::Week => SHORT_WEEKDAYS[place(language)].get(usize::from(at.unsigned_abs()) - 1).copied().unwrap_or("").to_owned(),
    }
}

pub(super) fn title(span: Span, language: Language) -> &'static str {
    match span {
        Span::Day => pick(language, ["Итоги дня", "Kun yakuni", "The day in figures"]),
        Span::Week => pick(language, ["Итоги недели", "Hafta yakuni", "The week in figures"]),
    }
}

/// Of an e-mail, and the title of a push notice.
pub(crate) fn subject(digest: &Digest, language: Language) -> String {
    format!("{}: {}, {}", title(digest.span, language), digest.name, days(digest, language))
}

/// `1 250 000`.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push('\u{a0}');
        }
        grouped.push(digit);
    }
    grouped
}

/// How it was a week before: `+12 %`; nothing where there is nothing to compare with.
pub(super) fn change(now: u64, before: u64) -> Option<String> {
    if before == 0 {
        return None;
    }
    let percent = (i128::from(now) - i128::from(before)) * 100 / i128::from(before);
    Some(match percent {
        0 => "0\u{a0}%".to_owned(),
        1.. => format!("+{percent}\u{a0}%"),
        _ => format!("−{}\u{a0}%", -percent),
    })
}

pub(super) fn visits(language: Language) -> &'static str {
    pick(language, ["Визиты и заказы", "Tashrif va buyurtmalar", "Visits and orders"])
}

pub(super) fn sent(language: Language) -> &'static str {
    pick(language, ["Сообщения гостям", "Mijozlarga xabarlar", "Messages to guests"])
}

pub(super) fn asked(language: Language) -> &'static str {
    pick(language, ["Просьбы об отзыве", "Fikr so‘rovlari", "Review requests"])
}

pub(super) fn reviews(language: Language) -> &'static str {
    pick(language, ["Отзывы", "Fikrlar", "Reviews"])
}

/// The mean of all stars: `★ 4,6`.
pub(super) fn mean(digest: &Digest, language: Language) -> Option<String> {
    let comma = if language == Language::En { '.' } else { ',' };
    digest.mean_tenths().map(|tenths| format!("★\u{a0}{}{comma}{}", tenths / 10, tenths % 10))
}

pub(super) fn failed(language: Language) -> &'static str {
    pick(language, ["Не отправлено", "Yuborilmadi", "Not sent"])
}

pub(super) fn held(language: Language) -> &'static str {
    pick(language, ["Придержано", "To‘xtatildi", "Held back"])
}

fn costs(language: Language) -> &'static str {
    pick(language, ["Сообщения стоили", "Xabarlar narxi", "Messages cost"])
}

/// `1 250,40 RUB`: to the hundredth, what is less as the provider tells it.
fn money(spent: &Spending, language: Language) -> String {
    let (whole, part) = spent.cost.split_once('.').unwrap_or((&spent.cost, ""));
    let rounded = format!("{part:0<2}");
    let part = match rounded.get(..2) {
        Some("00") if whole == "0" => part,
        Some("00") | None => "",
        Some(hundredths) => hundredths,
    };
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), number);
    let comma = if language == Language::En { "." } else { "," };
    let point = if part.is_empty() { "" } else { comma };
    format!("{whole}{point}{part}\u{a0}{}", spent.currency)
}

pub(super) fn week_before(language: Language) -> &'static str {
    pick(language, ["неделей раньше", "bir hafta oldin", "a week before"])
}

pub(super) fn no_visits(language: Language) -> &'static str {
    pick(language, ["Визитов и заказов не было", "Tashrif va buyurtmalar bo‘lmadi", "No visits and no orders"])
}

pub(super) fn nothing(language: Language) -> &'static str {
    pick(
        language,
        ["За это время ничего не происходило.", "Bu vaqt ichida hech narsa bo‘lmadi.", "Nothing happened in this time."],
    )
}

fn reason(word: &str, language: Language) -> &str {
    REASONS.iter().find(|(known, _)| *known == word).map_or(word, |(_, words)| words[place(language)])
}

/// The whole digest as plain text. Rows of nothing are left out.
pub(crate) fn text(digest: &Digest, language: Language) -> String {
    let mut lines = vec![format!("{} · {}", digest.name, title(digest.span, language)), days(digest, language), String::new()];
    let before = lines.len();
    let row = |name: &str, value: u64, note: Option<String>| {
        (value > 0).then(|| format!("{name}: {}{}", number(value), note.map_or(String::new(), |note| format!(" ({note})"))))
    };
    let compared = change(digest.visits, digest.visits_before);
    let compared = compared.map(|change| format!("{change}, {} — {}", week_before(language), number(digest.visits_before)));
    lines.extend(row(visits(language), digest.visits, compared));
    let waiting = (digest.waiting > 0)
        .then(|| format!("{} {}", pick(language, ["ещё в очереди", "navbatda yana", "still to go:"]), number(digest.waiting)));
    lines.extend(row(sent(language), digest.sent, waiting));
    let opened =
        (digest.opened > 0).then(|| format!("{} — {}", pick(language, ["открыли", "ochishdi", "opened"]), number(digest.opened)));
    lines.extend(row(asked(language), digest.asked, opened));
    lines.extend(row(reviews(language), digest.reviews(), mean(digest, language)));
    lines.extend(row(pick(language, ["С комментарием", "Izoh bilan", "With a comment"]), digest.comments, None));
    match &digest.points {
        Some(points) => {
            let sums = moved(points, [EARNED, GIVEN, SPENT, RETURNED, REVOKED, EXPIRED], language);
            let sums = sums.into_iter().map(|(what, sum)| {
                let name = pick(language, ["Бонусы", "Bonuslar", "Bonuses"]);
                format!("{name} {what}: {sum}\u{a0}{}", points.currency)
            });
            lines.extend(sums);
            lines.extend(row(joined(language), points.joined, None));
        }
        // Another keeps the sums: of what is told to it there are only counts.
        None => {
            let name = pick(language, ["Бонусы", "Bonuslar", "Bonuses"]);
            let counts = digest.bonuses.iter();
            lines.extend(
                counts.filter_map(|(kind, count)| row(&format!("{name}, {}", kind.trim_start_matches("loyalty.")), *count, None)),
            );
        }
    }
    lines.extend(row(failed(language), digest.dead, None));
    lines.extend(row(pick(language, ["Исход неизвестен", "Natija noma’lum", "Outcome unknown"]), digest.unknown, None));
    let reasons: Vec<String> =
        digest.held.iter().map(|(word, count)| format!("{} — {}", reason(word, language), number(*count))).collect();
    lines.extend(row(held(language), digest.held.values().sum(), (!reasons.is_empty()).then(|| reasons.join(", "))));
    if !digest.costs.is_empty() {
        let sums: Vec<String> = digest.costs.iter().map(|spent| money(spent, language)).collect();
        lines.push(format!("{}: {}", costs(language), sums.join(", ")));
    }
    if lines.len() == before {
        lines.push(nothing(language).to_owned());
    }
    lines.join("\n")
}

/// A sum of points as people say them: `1 250`, `1 250,50`.
fn sum(points: i64, unit: Unit, language: Language) -> String {
    let minor = i128::from(points.max(0)) * i128::from(unit.minor());
    let whole = number(u64::try_from(minor / 100).unwrap_or(u64::MAX));
    let comma = if language == Language::En { '.' } else { ',' };
    match minor % 100 {
        0 => whole,
        rest => format!("{whole}{comma}{rest:02}"),
    }
}

/// What became of points, and how many; what did not happen is left out.
fn moved<const N: usize>(points: &Points, ways: [Way; N], language: Language) -> Vec<(&'static str, String)> {
    let there = ways.into_iter().map(|(words, of)| (words, of(points))).filter(|(_, sum)| *sum > 0);
    there.map(|(words, of)| (pick(language, words), sum(of, points.unit, language))).collect()
}

/// What may become of points, in three languages, and how many did so.
type Way = ([&'static str; 3], fn(&Points) -> i64);

const EARNED: Way = (["начислены", "berildi", "earned"], |points| points.earned);
const GIVEN: Way = (["подарены", "sovg‘a qilindi", "given"], |points| points.given);
const SPENT: Way = (["потрачены", "sarflandi", "spent"], |points| points.spent);
const RETURNED: Way = (["возвращены", "qaytarildi", "returned"], |points| points.returned);
const REVOKED: Way = (["отозваны", "qaytarib olindi", "taken back"], |points| points.revoked);
const EXPIRED: Way = (["сгорели", "kuyib ketdi", "expired"], |points| points.expired);

fn joined(language: Language) -> &'static str {
    pick(language, ["Новые участники", "Yangi a’zolar", "New members"])
}

/// What is most about points, in a line; nothing where nothing happened.
pub(super) fn points(digest: &Digest, language: Language) -> Option<String> {
    let points = digest.points.as_ref()?;
    let sums = moved(points, [EARNED, SPENT, EXPIRED], language);
    let mut parts: Vec<String> = sums.into_iter().map(|(what, sum)| format!("{what} {sum}")).collect();
    let has_sums = !parts.is_empty();
    if points.joined > 0 {
        parts.push(format!("{} {}", joined(language).to_lowercase(), number(points.joined)));
    }
    let name = pick(language, ["Бонусы", "Bonuslar", "Bonuses"]);
    let currency = if has_sums { format!(", {}", points.currency) } else { String::new() };
    (!parts.is_empty()).then(|| format!("{name}{currency}: {}", parts.join(" · ")))
}

/// A line or two, for a lock screen.
pub(crate) fn short(digest: &Digest, language: Language) -> String {
    let change = change(digest.visits, digest.visits_before).map_or(String::new(), |change| format!(" ({change})"));
    let mut line = format!("{}: {}{change}", visits(language), number(digest.visits));
    if let Some(mean) = mean(digest, language) {
        line.push_str(&format!("\n{}: {} ({mean})", reviews(language), number(digest.reviews())));
    }
    if let Some(points) = points(digest, language) {
        line.push_str(&format!("\n{points}"));
    }
    let failed_count = digest.dead + digest.unknown;
    if failed_count > 0 {
        line.push_str(&format!("\n{}: {}", failed(language), number(failed_count)));
    }
    line
}
