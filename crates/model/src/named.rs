//! Somebody's address, to see whether a text names it however it is written.

use crate::phone;

/// A phone, a mailbox or a chat, by the key that it is kept by ([`crate::Address::key`]).
#[derive(Debug, Clone)]
pub struct Named {
    key: String,
    wanted: Wanted,
}

#[derive(Debug, Clone)]
enum Wanted {
    /// Of a phone, without the code of a country where people leave it out or write it otherwise.
    Digits(String),
    /// In lower case.
    Mailbox(String),
    /// With its sign.
    Chat(String),
}

/// How a key of a chat begins.
const CHAT: &str = "chat/";

impl Named {
    /// What may stand between the digits of one phone.
    pub const BETWEEN: &'static str = " ()-.\u{a0}";

    pub fn new(key: &str) -> Self {
        let wanted = if let Some(chat) = key.strip_prefix(CHAT) {
            Wanted::Chat(chat.to_owned())
        } else if key.contains('@') {
            Wanted::Mailbox(key.to_lowercase())
        } else {
            Wanted::Digits(phone::national_digits(key))
        };
        Self { key: key.to_owned(), wanted }
    }

    /// As it is stored.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The digits of a phone, without the code of its country.
    pub fn digits(&self) -> Option<&str> {
        match &self.wanted {
            Wanted::Digits(digits) => Some(digits),
            Wanted::Mailbox(_) | Wanted::Chat(_) => None,
        }
    }

    /// Of a mailbox or a chat: a regular expression of PostgreSQL for texts in lower case whose `%40` are `@` and whose `%2b` are
    /// `+`. It finds what
    /// [`Self::is_in`] finds.
    pub fn pattern(&self) -> Option<String> {
        match &self.wanted {
            Wanted::Digits(_) => None,
            Wanted::Mailbox(mailbox) => {
                let mailbox: String = mailbox.chars().flat_map(escaped).collect();
                Some(format!(r"(^|[^a-z0-9._%+-]|{ESCAPES}){mailbox}($|[^a-z0-9.-]|[.-]($|[^a-z0-9]))"))
            }
            Wanted::Chat(chat) => Some(format!(r"(^|[^0-9-]|{ESCAPES}){chat}($|[^0-9])")),
        }
    }

    /// Whether a text names it.
    pub fn is_in(&self, text: &str) -> bool {
        match &self.wanted {
            Wanted::Digits(digits) => {
                let close: String = text.chars().filter(|c| !Self::BETWEEN.contains(*c)).collect();
                !digits.is_empty() && close.contains(digits)
            }
            Wanted::Mailbox(mailbox) => {
                let text = text.to_lowercase().replace("%40", "@").replace("%2b", "+");
                let of_name = |sign: char| sign.is_ascii_alphanumeric() || "._%+-".contains(sign);
                stands_alone(&text, mailbox, of_name, |rest| {
                    let mut signs = rest.chars();
                    match signs.next() {
                        Some('.' | '-') => signs.next().is_none_or(|sign| !sign.is_ascii_alphanumeric()),
                        next => next.is_none_or(|sign| !sign.is_ascii_alphanumeric()),
                    }
                })
            }
            Wanted::Chat(chat) => {
                let of_number = |sign: char| sign.is_ascii_digit() || sign == '-';
                stands_alone(text, chat, of_number, |rest| !rest.starts_with(|sign: char| sign.is_ascii_digit()))
            }
        }
    }
}

/// What ends in a letter or digit and is no part of a name: the escapes of JSON and of URLs.
const ESCAPES: &str = r"\\[nrt]|\\u[0-9a-f]{4}|%[0-9a-f]{2}";

fn escaped(sign: char) -> impl Iterator<Item = char> {
    let special = !sign.is_alphanumeric() && sign.is_ascii();
    special.then_some('\\').into_iter().chain([sign])
}

/// Whether the text has `wanted` somewhere with nothing before it that belongs to a longer name, and nothing behind it but `ends`.
fn stands_alone(text: &str, wanted: &str, belongs: impl Fn(char) -> bool, ends: impl Fn(&str) -> bool) -> bool {
    !wanted.is_empty()
        && text.match_indices(wanted).any(|(at, _)| {
            let before = &text[..at];
            let begins = !before.ends_with(&belongs) || ends_in_escape(before);
            begins && ends(&text[at + wanted.len()..])
        })
}

fn ends_in_escape(text: &str) -> bool {
    let behind = |from_end: usize| text.len().checked_sub(from_end).and_then(|at| text.get(at..));
    let is_hex = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    behind(2).is_some_and(|end| matches!(end, "\\n" | "\\r" | "\\t"))
        || behind(3).and_then(|end| end.strip_prefix('%')).is_some_and(is_hex)
        || behind(6).and_then(|end| end.strip_prefix("\\u")).is_some_and(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_found_however_it_is_written_and_not_within_another() {
        let named = Named::new("ivan.p+x@example.com");
        for text in [
            "ivan.p+x@example.com",
            "Иван <Ivan.P+X@Example.COM>",
            r#"{"email":"ivan.p+x@example.com"}"#,
            "a=1&email=ivan.p%2Bx%40example.com&b",
            r"write to\nivan.p+x@example.com",
            "to%20ivan.p+x@example.com",
            "ivan.p+x@example.com.",
            "ivan.p+x@example.com, другой",
            r"\u0020ivan.p+x@example.com",
            "mailto:ivan.p+x@example.com",
        ] {
            assert!(named.is_in(text), "{text}");
        }
        for text in [
            "xivan.p+x@example.com",
            "ivan.p+x@example.com.uz",
            "ivan.p+x@example.community",
            "p+x@example.com",
            "",
            "a.ivan.p+x@example.com",
        ] {
            assert!(!named.is_in(text), "{text}");
        }
    }

    #[test]
    fn a_chat_is_found_by_its_whole_number() {
        let (person, group) = (Named::new("chat/5120042"), Named::new("chat/-5120042"));
        assert!(person.is_in(r#"{"chat":{"id":5120042,"type":"private"}}"#) && person.is_in("chat_id=5120042&text=5"));
        assert!(!person.is_in(r#"{"id":-5120042}"#) && !person.is_in("51200421") && !person.is_in("15120042"));
        assert!(group.is_in(r#"{"id":-5120042}"#) && !group.is_in(r#"{"id":5120042}"#));
        assert!(!Named::new("chat/").is_in("anything"));
    }

    #[test]
    fn a_phone_is_found_with_whatever_stands_between_its_digits() {
        let named = Named::new("+79991234567");
        assert!(named.is_in("8 (999) 123-45-67") && named.is_in("79991234567") && !named.is_in("+7 999 123-45-68"));
        assert_eq!((named.digits(), named.key()), (Some("9991234567"), "+79991234567"));
    }
}
