//! The picture of a digest: an SVG made of numbers and words alone, and a PNG of it.

use std::{
    fmt::Write,
    sync::{Arc, LazyLock},
};

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};
use uzel_model::words::Language;

use super::{
    figures::{Bar, Digest, Span},
    words,
};

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 500.0;
/// Phones have fine screens.
const SCALE: f32 = 1.5;
const MARGIN: f64 = 36.0;
/// Where the bars stand: from the number of the highest to their foot.
const TOP: f64 = 252.0;
const FOOT: f64 = 430.0;
/// Left of the bars stand the numbers of the lines.
const LEFT: f64 = MARGIN + 44.0;

const INK: &str = "#16202c";
const GREY: &str = "#6b7785";
const LINE: &str = "#e3e8ee";
const BLUE: &str = "#2f6fed";
const RED: &str = "#c7372f";
const GREEN: &str = "#1d8a4e";
const BEFORE: &str = "#f0a030";
const AMBER: &str = "#b86e00";

/// The picture as SVG: the same digest gives the same text.
pub(super) fn svg(digest: &Digest, language: Language) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"Inter, system-ui, sans-serif\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    let mut write = |x: f64, y: f64, size: u32, weight: u32, color: &str, anchor: &str, text: &str| {
        writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" font-weight=\"{weight}\" fill=\"{color}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(text)
        )
        .expect("a text takes what is written");
    };
    let title = words::title(digest.span, language);
    write(MARGIN, 58.0, 28, 600, INK, "start", &cut(&digest.name, 34));
    write(MARGIN, 86.0, 17, 400, GREY, "start", &format!("{title} · {}", words::days(digest, language)));
    for (place, tile) in tiles(digest, language).into_iter().enumerate() {
        let x = MARGIN + place as f64 * (WIDTH - 2.0 * MARGIN) / 4.0;
        write(x, 152.0, 40, 600, tile.color, "start", &tile.value);
        write(x, 176.0, 14, 400, GREY, "start", tile.name);
        if let Some((text, color)) = tile.note {
            write(x, 197.0, 14, 600, color, "start", &text);
        }
    }
    if let Some(points) = words::points(digest, language) {
        write(MARGIN, 226.0, 14, 400, INK, "start", &cut(&points, 100));
    }
    if digest.visits + digest.visits_before == 0 {
        write(WIDTH / 2.0, (TOP + FOOT) / 2.0, 17, 400, GREY, "middle", words::no_visits(language));
    }
    bars(&mut svg, digest, language);
    svg.push_str("</svg>\n");
    svg
}

/// The same, as wide as there is room for.
pub(super) fn flexible_svg(digest: &Digest, language: Language) -> String {
    svg(digest, language).replacen(&format!("width=\"{WIDTH}\" height=\"{HEIGHT}\" "), "", 1)
}

struct Tile {
    name: &'static str,
    value: String,
    color: &'static str,
    note: Option<(String, &'static str)>,
}

fn tiles(digest: &Digest, language: Language) -> Vec<Tile> {
    let note = words::change(digest.visits, digest.visits_before);
    let color = if digest.visits >= digest.visits_before { GREEN } else { RED };
    let tile = |name, value: u64, color| Tile { name, value: words::number(value), color, note: None };
    let failed = digest.dead + digest.unknown;
    let (asked, reviews) = (digest.asked, digest.reviews());
    vec![
        Tile { note: note.map(|note| (note, color)), ..tile(words::visits(language), digest.visits, INK) },
        match asked {
            0 => tile(words::sent(language), digest.sent, INK),
            _ => tile(words::asked(language), asked, INK),
        },
        match words::mean(digest, language) {
            None => tile(words::held(language), digest.held.values().sum(), INK),
            Some(mean) => Tile { note: Some((mean, AMBER)), ..tile(words::reviews(language), reviews, INK) },
        },
        tile(words::failed(language), failed, if failed > 0 { RED } else { INK }),
    ]
}

/// Of a day only the hours in which something was going on, but no fewer than eight.
fn shown(digest: &Digest) -> &[Bar] {
    if digest.span == Span::Week {
        return &digest.bars;
    }
    let busy = |bar: &Bar| bar.visits > 0 || bar.before > 0;
    let (Some(first), Some(last)) = (digest.bars.iter().position(busy), digest.bars.iter().rposition(busy)) else {
        return digest.bars.get(9..21).unwrap_or(&digest.bars);
    };
    let last = last.max(first + 7).min(digest.bars.len() - 1);
    let first = first.min(last.saturating_sub(7));
    &digest.bars[first..=last]
}

/// The least of 1, 2, 5, 10, 20, … by which four lines reach the highest.
fn step(highest: u64) -> u64 {
    let mut ten = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            if ten.saturating_mul(factor).saturating_mul(4) >= highest {
                return ten.saturating_mul(factor);
            }
        }
        ten = ten.saturating_mul(10);
    }
}

fn bars(svg: &mut String, digest: &Digest, language: Language) {
    let bars = shown(digest);
    let highest = bars.iter().map(|bar| bar.visits.max(bar.before)).max().unwrap_or_default();
    let step = step(highest.max(1));
    let lines = highest.max(1).div_ceil(step);
    let right = WIDTH - MARGIN;
    let y = |value: u64| FOOT - (FOOT - TOP) * value as f64 / (lines * step) as f64;
    let mut write = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("a text takes what is written");
    for line in 0..=lines {
        let (y, value) = (y(line * step), words::number(line * step));
        write(format_args!("<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"{LINE}\"/>\n"));
        write(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"13\" fill=\"{GREY}\" text-anchor=\"end\">{value}</text>\n",
            LEFT - 10.0,
            y + 4.5
        ));
    }
    let room = (right - LEFT) / bars.len().max(1) as f64;
    let middle = |place: usize| LEFT + room * (place as f64 + 0.5);
    // Labels must not touch: of many hours every second or third is named.
    let every = (52.0 / room).ceil().max(1.0) as usize;
    for (place, bar) in bars.iter().enumerate() {
        let (x, width) = (middle(place), (room * 0.62).min(56.0));
        if bar.visits > 0 {
            let top = y(bar.visits);
            write(format_args!(
                "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"3\" fill=\"{BLUE}\"/>\n",
                x - width / 2.0,
                FOOT - top
            ));
        }
        if place.is_multiple_of(every) {
            write(format_args!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"13\" fill=\"{GREY}\" text-anchor=\"middle\">{}</text>\n",
                FOOT + 21.0,
                words::bar(bar.at, digest.span, language)
            ));
        }
    }
    let compares = digest.visits_before > 0;
    if compares {
        let points: Vec<String> =
            bars.iter().enumerate().map(|(place, bar)| format!("{:.1},{:.1}", middle(place), y(bar.before))).collect();
        write(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{BEFORE}\" stroke-width=\"2.5\" stroke-linejoin=\"round\"/>\n",
            points.join(" ")
        ));
    }
    write(format_args!("<rect x=\"{LEFT}\" y=\"468\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{BLUE}\"/>\n"));
    let legend =
        |x: f64, text: &str| format!("<text x=\"{x}\" y=\"479\" font-size=\"13\" fill=\"{GREY}\">{}</text>\n", escaped(text));
    write(format_args!("{}", legend(LEFT + 20.0, words::visits(language))));
    if compares {
        write(format_args!("<path d=\"M{} 474h22\" stroke=\"{BEFORE}\" stroke-width=\"2.5\"/>\n", LEFT + 220.0));
        let before = format!("{}: {}", words::week_before(language), words::number(digest.visits_before));
        write(format_args!("{}", legend(LEFT + 250.0, &before)));
    }
}

/// The first letters of a name that is too long.
fn cut(text: &str, chars: usize) -> String {
    // What the fonts do not have would show as boxes.
    let known = text.chars().filter(|letter| {
        matches!(letter, ' '..='~' | '\u{a0}'..='\u{17f}' | '\u{400}'..='\u{45f}' | '\u{490}'..='\u{493}' | '\u{49a}' | '\u{49b}' | '\u{4b2}' | '\u{4b3}'
            | '–' | '—' | '‘' | '’' | '“' | '”' | '„' | 'ʻ' | 'ʼ' | '…' | '№' | '₽' | '₸')
    });
    let known: Vec<char> = known.collect();
    match known.len() > chars {
        true => known[..chars - 1].iter().chain(&['…']).collect(),
        false => known.into_iter().collect(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(include_bytes!("../../fonts/Inter-Regular.otf").to_vec());
    fonts.load_font_data(include_bytes!("../../fonts/Inter-SemiBold.otf").to_vec());
    Arc::new(fonts)
});

/// The picture as it is sent. It takes some tens of milliseconds of a processor.
pub(super) fn png(digest: &Digest, language: Language) -> Result<Vec<u8>, String> {
    let options = Options { fontdb: FONTS.clone(), font_family: "Inter".to_owned(), ..Options::default() };
    let tree = Tree::from_str(&svg(digest, language), &options).map_err(|error| error.to_string())?;
    let (width, height) = ((WIDTH as f32 * SCALE) as u32, (HEIGHT as f32 * SCALE) as u32);
    let mut pixels = Pixmap::new(width, height).ok_or("no room for the picture")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use uzel_model::{Id, id::Kind, loyalty::Unit};

    use super::{
        super::figures::{Points, Spending},
        *,
    };

    fn day() -> Digest {
        let visits = [0, 0, 0, 0, 0, 0, 0, 0, 3, 9, 14, 11, 17, 21, 16, 8, 7, 12, 19, 24, 15, 6, 1, 0];
        let before = [0, 0, 0, 0, 0, 0, 0, 0, 2, 8, 10, 13, 15, 18, 17, 9, 9, 10, 14, 20, 12, 4, 0, 0];
        let bars = (0..24).map(|at: i8| Bar { at, visits: visits[at as usize], before: before[at as usize] }).collect();
        Digest {
            merchant: Id::new(Kind::Merchant),
            name: "Кофейня «Зерно & Co»".to_owned(),
            span: Span::Day,
            first: date(2026, 11, 27),
            last: date(2026, 11, 27),
            zone: "Europe/Moscow".to_owned(),
            visits: visits.iter().sum(),
            visits_before: before.iter().sum(),
            bars,
            sent: 96,
            waiting: 4,
            asked: 92,
            opened: 37,
            stars: [1, 0, 2, 5, 11],
            comments: 3,
            bonuses: [("loyalty.committed".to_owned(), 41)].into(),
            points: Some(Points {
                unit: Unit::Kopeck,
                currency: "₽".to_owned(),
                earned: 125_050,
                given: 10_000,
                spent: 300_000,
                returned: 2_500,
                revoked: 1_205,
                expired: 5,
                joined: 12,
            }),
            dead: 2,
            unknown: 1,
            held: [("opt_out".to_owned(), 7), ("asked_recently".to_owned(), 31)].into(),
            costs: vec![spent("RUB", "1250.4", 90), spent("UZS", "0.0045", 1), spent("USD", "12", 5)],
        }
    }

    fn spent(currency: &str, cost: &str, messages: u64) -> Spending {
        Spending { currency: currency.to_owned(), cost: cost.to_owned(), messages }
    }

    fn week() -> Digest {
        let counts = [(1_180, 1_320), (1_240, 1_100), (990, 1_015), (1_410, 1_380), (1_730, 1_690), (2_010, 1_870), (1_650, 0)];
        let bars: Vec<Bar> =
            (1..8).map(|at: i8| Bar { at, visits: counts[at as usize - 1].0, before: counts[at as usize - 1].1 }).collect();
        Digest {
            name: "Очень длинное название сети семейных ресторанов у моря 🍕".to_owned(),
            span: Span::Week,
            first: date(2026, 11, 23),
            last: date(2026, 11, 29),
            visits: bars.iter().map(|bar| bar.visits).sum(),
            visits_before: bars.iter().map(|bar| bar.before).sum(),
            bars,
            sent: 7_412,
            asked: 0,
            stars: [0; 5],
            // An outside programme keeps them.
            points: None,
            dead: 0,
            unknown: 0,
            ..day()
        }
    }

    fn quiet() -> Digest {
        let bars = (0..24).map(|at| Bar { at, visits: 0, before: 0 }).collect();
        let (held, bonuses, stars) = Default::default();
        let none = Digest { visits: 0, visits_before: 0, sent: 0, waiting: 0, asked: 0, opened: 0, comments: 0, ..day() };
        let points = Some(Points { unit: Unit::Rouble, ..Points::default() });
        Digest { bars, dead: 0, unknown: 0, held, bonuses, points, stars, costs: Vec::new(), ..none }
    }

    #[test]
    fn the_picture_and_the_words_of_a_digest_are_as_they_were() {
        for (what, digest) in [("day", day()), ("week", week()), ("quiet", quiet())] {
            for (name, language) in [("ru", Language::Ru), ("uz", Language::Uz), ("en", Language::En)] {
                insta::assert_snapshot!(format!("{what}_{name}_svg"), svg(&digest, language));
                let (subject, text) = (words::subject(&digest, language), words::text(&digest, language));
                let said = format!("{subject}\n---\n{text}\n---\n{}", words::short(&digest, language));
                insta::assert_snapshot!(format!("{what}_{name}_words"), said);
            }
        }
    }

    #[test]
    fn a_png_is_made_in_every_language_and_is_not_empty() {
        let folder = std::env::var_os("UZEL_PICTURES").map(std::path::PathBuf::from);
        for (what, digest) in [("day", day()), ("week", week()), ("quiet", quiet())] {
            let mut pictures = Vec::new();
            for (name, language) in [("ru", Language::Ru), ("uz", Language::Uz), ("en", Language::En)] {
                let png = png(&digest, language).unwrap();
                assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
                assert!((8_000..200_000).contains(&png.len()), "{what} {name}: {} bytes", png.len());
                if let Some(folder) = &folder {
                    std::fs::write(folder.join(format!("{what}_{name}.png")), &png).unwrap();
                }
                pictures.push(png);
            }
            // The words differ, so the letters are there.
            assert!(pictures[0] != pictures[1] && pictures[1] != pictures[2], "{what}");
        }
    }

    #[test]
    fn four_lines_reach_the_highest_bar() {
        for (highest, expected) in [(1, 1), (4, 1), (5, 2), (9, 5), (20, 5), (21, 10), (2_010, 1_000), (u64::MAX, u64::MAX)] {
            assert!(step(highest) <= expected, "{highest}");
            assert!(step(highest).saturating_mul(4) >= highest);
        }
    }
}
