//! What a code's message says in Russian, Uzbek (Latin) and English.

use uzel_model::{Channel, Content, message::HIDDEN, words::Language};

use super::LIFE;

/// From whom, in their language. The code stands neither in the subject nor in what a phone shows of an e-mail at first.
pub(super) fn content(merchant: &str, language: Language, channel: Channel) -> Content {
    let minutes = LIFE.as_mins();
    let (text, subject, lead, rest) = match language {
        Language::Ru => (
            format!("{merchant}: ваш код {HIDDEN}. Никому его не сообщайте. Действует {minutes} минут."),
            format!("{merchant}: код подтверждения"),
            "Ваш код подтверждения:",
            format!("Он действует {minutes} минут. Никому его не сообщайте. Если вы не запрашивали код, ничего не делайте."),
        ),
        Language::Uz => (
            format!("{merchant}: kodingiz {HIDDEN}. Uni hech kimga aytmang. {minutes} daqiqa amal qiladi."),
            format!("{merchant}: tasdiqlash kodi"),
            "Tasdiqlash kodingiz:",
            format!(
                "U {minutes} daqiqa amal qiladi. Uni hech kimga aytmang. Kodni siz so‘ramagan bo‘lsangiz, hech narsa qilmang."
            ),
        ),
        Language::En => (
            format!("{merchant}: your code is {HIDDEN}. Tell it to nobody. It is good for {minutes} minutes."),
            format!("{merchant}: your verification code"),
            "Your verification code:",
            format!("It is good for {minutes} minutes. Tell it to nobody. If you have not asked for it, do nothing."),
        ),
    };
    if channel != Channel::Email {
        return Content::text(text);
    }
    let (name, language) = (escaped(merchant), language_tag(language));
    let html = format!(
        "<!doctype html><html lang=\"{language}\"><body style=\"margin:0;background:#f5f5f4;font:16px/1.5 sans-serif;color:#1c1917\">\
         <div style=\"max-width:28rem;margin:0 auto;padding:2rem 1rem\"><p style=\"margin:0 0 1rem;font-weight:600\">{name}</p>\
         <div style=\"background:#fff;border-radius:8px;padding:1.5rem\"><p style=\"margin:0\">{lead}</p>\
         <p style=\"margin:.5rem 0 1rem;font:700 2rem/1.2 monospace;letter-spacing:.2em\">{HIDDEN}</p>\
         <p style=\"margin:0;color:#57534e;font-size:14px\">{rest}</p></div></div></body></html>"
    );
    Content { subject: Some(subject), html: Some(html), ..Content::text(format!("{lead} {HIDDEN}\n\n{rest}\n\n{merchant}")) }
}

fn language_tag(language: Language) -> &'static str {
    match language {
        Language::Ru => "ru",
        Language::Uz => "uz",
        Language::En => "en",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_says_the_code_once_in_a_short_text_and_not_in_the_subject() {
        for language in [Language::Ru, Language::Uz, Language::En] {
            let text = content("Кафе", language, Channel::Sms).text;
            assert_eq!(text.matches(HIDDEN).count(), 1);
            // Two parts of an SMS in Cyrillic at the most.
            assert!(text.chars().count() <= 134, "{text}");
            let email = content("Café <b> & Co", language, Channel::Email);
            let html = email.html.unwrap();
            assert_eq!((html.matches(HIDDEN).count(), email.text.matches(HIDDEN).count()), (1, 1));
            assert!(html.contains("Café &lt;b&gt; &amp; Co") && html.len() < 2_000, "{html}");
            assert!(!email.subject.unwrap().contains(HIDDEN));
        }
    }
}
