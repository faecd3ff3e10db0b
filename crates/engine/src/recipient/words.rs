//! What a merchant's people are told, in their language.

use uzel_model::words::Language::{self, En, Ru, Uz};

/// Kinds of notices: what each means, in Russian, Uzbek and English.
const KINDS: &[(&str, [&str; 3])] = &[
    (
        "account",
        [
            "провайдер отказывает аккаунту: проверьте деньги на счёте, ключ и договор",
            "provayder akkauntni rad etyapti: hisobdagi pul, kalit va shartnomani tekshiring",
            "the provider refuses the account: check its money, its key and its contract",
        ],
    ),
    (
        "unauthorized",
        [
            "вход больше не действует: обновите ключ или войдите заново",
            "kirish endi amal qilmaydi: kalitni yangilang yoki qaytadan kiring",
            "the login is not good any more: renew the key, or log in again",
        ],
    ),
    (
        "content",
        [
            "сообщение не принято из-за его содержания: проверьте текст, шаблон и имя отправителя",
            "xabar mazmuni tufayli qabul qilinmadi: matn, shablon va yuboruvchi nomini tekshiring",
            "a message was not taken for what it says: check the text, the template and the sender's name",
        ],
    ),
    (
        "template",
        [
            "шаблон сообщения не одобрен или отключён",
            "xabar shabloni tasdiqlanmagan yoki o‘chirilgan",
            "a message template was refused or switched off",
        ],
    ),
    (
        "sender",
        [
            "отправитель заблокирован или ограничен",
            "yuboruvchi bloklangan yoki cheklangan",
            "the sender is blocked or restricted",
        ],
    ),
    (
        "low_balance",
        [
            "на счёте осталось мало денег: пополните его",
            "hisobda oz pul qoldi: uni to‘ldiring",
            "little money is left on the account: put more on it",
        ],
    ),
    (
        "balance_well",
        ["денег на счёте снова достаточно", "hisobda pul yana yetarli", "there is enough money on the account again"],
    ),
    (
        "token_ends",
        [
            "срок ключа скоро закончится: получите новый",
            "kalit muddati tez orada tugaydi: yangisini oling",
            "the key is about to end: get a new one",
        ],
    ),
    (
        "unknown",
        [
            "неизвестно, дошло ли сообщение: ответа не было, повторно оно не отправлено",
            "xabar yetib borgani noma’lum: javob kelmadi, u qayta yuborilmadi",
            "nobody knows whether a message arrived: no answer came, and it was not sent again",
        ],
    ),
    (
        "disconnected",
        ["провайдер отключил подключение", "provayder ulanishni uzib qo‘ydi", "the provider switched the connection off"],
    ),
    (
        "refused",
        [
            "отклонены запросы с неверным ключом или подписью",
            "noto‘g‘ri kalit yoki imzoli so‘rovlar rad etildi",
            "requests with a wrong key or signature were refused",
        ],
    ),
    (
        "subscription",
        [
            "наш адрес для уведомлений у провайдера не настроен",
            "provayderda bildirishnomalar uchun manzilimiz sozlanmagan",
            "our address for webhooks does not stand at the provider",
        ],
    ),
    ("remark", ["провайдер сообщает", "provayder xabar beradi", "the provider remarks"]),
    (
        "undelivered",
        ["вебхук не доставлен, попытки прекращены", "vebxuk yetkazilmadi, urinishlar to‘xtatildi", "a webhook was given up"],
    ),
    (
        "endpoint_disabled",
        [
            "вебхуки больше не отправляются: адрес не отвечает",
            "vebxuklar endi yuborilmaydi: manzil javob bermayapti",
            "webhooks are sent no more: the address does not answer",
        ],
    ),
];

const OTHER: [&str; 3] = ["требует внимания", "e’tibor talab qiladi", "needs a look"];

fn of(language: Language, words: [&'static str; 3]) -> &'static str {
    match language {
        Ru => words[0],
        Uz => words[1],
        En => words[2],
    }
}

/// What a kind of notice means. What stands behind a slash tells things of one kind apart: `template/review/ru`.
pub(super) fn kind(language: Language, kind: &str) -> &'static str {
    let kind = match kind.split_once('/') {
        // What a provider tells of its own accord of an account is about who sends.
        Some(("account", _)) => "sender",
        Some((kind, _)) => kind,
        None => kind,
    };
    of(language, KINDS.iter().find(|(known, _)| *known == kind).map_or(OTHER, |(_, words)| *words))
}

pub(super) fn subject(language: Language, merchant: &str) -> String {
    format!("Uzel: {merchant}, {}", of(language, ["нужно внимание", "e’tibor kerak", "something needs a look"]))
}

pub(super) fn comment_subject(language: Language, merchant: &str) -> String {
    format!("Uzel: {merchant}, {}", of(language, ["гость написал вам", "mijoz sizga yozdi", "a guest wrote to you"]))
}

pub(super) fn more(language: Language, count: usize) -> String {
    match language {
        Ru => format!("…и ещё {count}: uzel notices"),
        Uz => format!("…va yana {count} ta: uzel notices"),
        En => format!("…and {count} more: uzel notices"),
    }
}

pub(super) fn bound(language: Language, name: &str, merchant: &str) -> String {
    match language {
        Ru => format!("{name}, готово: сюда будут приходить уведомления «{merchant}». Отключить: /stop"),
        Uz => format!("{name}, tayyor: «{merchant}» bildirishnomalari shu yerga keladi. O‘chirish: /stop"),
        En => format!("{name}, done: notices of {merchant} come here from now on. To end them: /stop"),
    }
}

pub(super) fn bad_code(language: Language) -> &'static str {
    of(
        language,
        [
            "Эта ссылка уже использована или устарела. Попросите новую у того, кто вам её прислал.",
            "Bu havola ishlatilgan yoki eskirgan. Uni yuborgan kishidan yangisini so‘rang.",
            "This link was used already, or is too old. Ask whoever sent it for a new one.",
        ],
    )
}

pub(super) fn welcome(language: Language, merchant: &str) -> String {
    match language {
        Ru => format!("Этот бот пишет сотрудникам «{merchant}». Чтобы подключиться, откройте ссылку, которую вам прислали."),
        Uz => format!("Bu bot «{merchant}» xodimlariga yozadi. Ulanish uchun sizga yuborilgan havolani oching."),
        En => format!("This bot writes to the staff of {merchant}. To join, open the link that you were sent."),
    }
}

pub(super) fn stopped(language: Language) -> &'static str {
    of(
        language,
        [
            "Уведомления сюда больше не приходят. Чтобы вернуть их, попросите новую ссылку.",
            "Bildirishnomalar endi bu yerga kelmaydi. Qaytarish uchun yangi havola so‘rang.",
            "No more notices come here. To have them again, ask for a new link.",
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_in_three_languages_and_an_unknown_one_too() {
        for (known, words) in KINDS {
            for (language, word) in [Ru, Uz, En].into_iter().zip(words) {
                assert_eq!(kind(language, known), *word);
            }
            assert!(words.iter().all(|word| !word.is_empty()) && words[0] != words[1], "{known}");
        }
        assert_eq!(kind(En, "template/review/ru"), kind(En, "template"));
        assert_eq!(kind(En, "account/account_update"), kind(En, "sender"));
        assert_eq!(kind(En, "new"), "needs a look");
    }
}
