//! What the pages say, in three languages.

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Ru,
    Uz,
    En,
}

impl Language {
    pub(super) const ALL: [Self; 3] = [Self::Ru, Self::Uz, Self::En];

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Ru => "ru",
            Self::Uz => "uz",
            Self::En => "en",
        }
    }

    /// As those who speak it call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ru => "Русский",
            Self::Uz => "Oʻzbekcha",
            Self::En => "English",
        }
    }

    pub(super) fn read(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.code() == code)
    }

    /// The first that an `Accept-Language` names, by its order: browsers write the best one first.
    pub(super) fn accepted(header: &str) -> Option<Self> {
        let mut names = header.split(',').map(|part| part.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        names.find_map(|name| Self::read(name.split('-').next().unwrap_or_default()))
    }

    pub(super) fn words(self) -> &'static Words {
        match self {
            Self::Ru => &RU,
            Self::Uz => &UZ,
            Self::En => &EN,
        }
    }
}

/// The words of the pages.
pub(super) struct Words {
    pub(super) question: &'static str,
    pub(super) hint: &'static str,
    /// What one to five stars mean.
    pub(super) stars: [&'static str; 5],
    pub(super) thanks: &'static str,
    pub(super) sorry: &'static str,
    pub(super) comment: &'static str,
    pub(super) comment_hint: &'static str,
    pub(super) comment_place: &'static str,
    pub(super) send: &'static str,
    pub(super) heard: &'static str,
    pub(super) heard_hint: &'static str,
    pub(super) maps_happy: &'static str,
    pub(super) maps: &'static str,
    pub(super) dgis: &'static str,
    pub(super) yandex: &'static str,
    pub(super) google: &'static str,
    pub(super) change: &'static str,
    pub(super) closed: &'static str,
    pub(super) gone: &'static str,
    pub(super) gone_hint: &'static str,
    pub(super) later: &'static str,
    pub(super) later_hint: &'static str,
    pub(super) no_stars: &'static str,
    pub(super) too_long: &'static str,
    pub(super) unsubscribe: &'static str,
    pub(super) unsubscribe_hint: &'static str,
    pub(super) unsubscribe_button: &'static str,
    pub(super) unsubscribed: &'static str,
    pub(super) unsubscribed_hint: &'static str,
    pub(super) languages: &'static str,
}

static RU: Words = Words {
    question: "Как вам у нас?",
    hint: "Нажмите на звезду – это займёт пару секунд",
    stars: ["Ужасно", "Плохо", "Нормально", "Хорошо", "Отлично"],
    thanks: "Спасибо за оценку!",
    sorry: "Жаль, что не всё понравилось",
    comment: "Что было не так?",
    comment_hint: "Это прочитает только владелец – сразу, как вы отправите.",
    comment_place: "Напишите как есть",
    send: "Отправить владельцу",
    heard: "Спасибо, что рассказали",
    heard_hint: "Владелец уже получил ваше сообщение.",
    maps_happy: "Расскажите о нас другим – оставьте отзыв на карте:",
    maps: "Отзыв можно оставить и на карте:",
    dgis: "2ГИС",
    yandex: "Яндекс Карты",
    google: "Google Карты",
    change: "Изменить оценку",
    closed: "Оценка уже сохранена, изменить её больше нельзя.",
    gone: "Ссылка не работает",
    gone_hint: "Она устарела или скопирована не полностью. Откройте её ещё раз прямо из сообщения.",
    later: "Не получилось",
    later_hint: "Подождите немного и попробуйте ещё раз.",
    no_stars: "Сначала поставьте оценку – нажмите на звезду.",
    too_long: "Слишком длинно: сократите, пожалуйста, до 2000 знаков.",
    unsubscribe: "Больше не писать?",
    unsubscribe_hint: "Вы перестанете получать сообщения от",
    unsubscribe_button: "Не присылать мне сообщения",
    unsubscribed: "Готово",
    unsubscribed_hint: "Больше не будем вам писать. Это касается сообщений от",
    languages: "Язык",
};

static UZ: Words = Words {
    question: "Bizda sizga yoqdimi?",
    hint: "Yulduzchani bosing – bir necha soniya kifoya",
    stars: ["Juda yomon", "Yomon", "Oʻrtacha", "Yaxshi", "Aʼlo"],
    thanks: "Bahoyingiz uchun rahmat!",
    sorry: "Hammasi yoqmagani uchun afsusdamiz",
    comment: "Nima yoqmadi?",
    comment_hint: "Buni faqat egasi oʻqiydi – yuborishingiz bilanoq.",
    comment_place: "Boricha yozing",
    send: "Egasiga yuborish",
    heard: "Fikringiz uchun rahmat",
    heard_hint: "Xabaringiz egasiga yetkazildi.",
    maps_happy: "Boshqalarga ham ayting – xaritada sharh qoldiring:",
    maps: "Xaritada ham sharh qoldirishingiz mumkin:",
    dgis: "2GIS",
    yandex: "Yandex Xaritalar",
    google: "Google Xaritalar",
    change: "Bahoni oʻzgartirish",
    closed: "Bahoyingiz saqlangan, uni endi oʻzgartirib boʻlmaydi.",
    gone: "Havola ishlamayapti",
    gone_hint: "U eskirgan yoki toʻliq nusxalanmagan. Uni xabarning oʻzidan qayta oching.",
    later: "Amalga oshmadi",
    later_hint: "Biroz kutib, qayta urinib koʻring.",
    no_stars: "Avval baho qoʻying – yulduzchani bosing.",
    too_long: "Juda uzun: iltimos, 2000 belgigacha qisqartiring.",
    unsubscribe: "Boshqa yozmaylikmi?",
    unsubscribe_hint: "Endi quyidagidan xabar kelmaydi:",
    unsubscribe_button: "Menga xabar yubormang",
    unsubscribed: "Tayyor",
    unsubscribed_hint: "Sizga boshqa yozmaymiz. Bu quyidagining xabarlariga tegishli:",
    languages: "Til",
};

static EN: Words = Words {
    question: "How was your visit?",
    hint: "Tap a star – it takes a second",
    stars: ["Terrible", "Bad", "Okay", "Good", "Excellent"],
    thanks: "Thank you for your rating!",
    sorry: "Sorry it wasn’t all good",
    comment: "What went wrong?",
    comment_hint: "Only the owner reads this – as soon as you send it.",
    comment_place: "Tell it as it is",
    send: "Send to the owner",
    heard: "Thanks for telling us",
    heard_hint: "The owner has your message already.",
    maps_happy: "Tell others about us – leave a review on the map:",
    maps: "You can leave a review on the map, too:",
    dgis: "2GIS",
    yandex: "Yandex Maps",
    google: "Google Maps",
    change: "Change my rating",
    closed: "Your rating is saved and can’t be changed any more.",
    gone: "This link doesn’t work",
    gone_hint: "It has expired or wasn’t copied whole. Please open it again from the message.",
    later: "That didn’t work",
    later_hint: "Please wait a moment and try again.",
    no_stars: "Please rate us first: tap a star.",
    too_long: "That’s too long: please keep it to 2,000 characters.",
    unsubscribe: "No more messages?",
    unsubscribe_hint: "You will no longer get messages from",
    unsubscribe_button: "Stop sending me messages",
    unsubscribed: "Done",
    unsubscribed_hint: "We won’t write to you any more. This covers messages from",
    languages: "Language",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_language_that_a_browser_names_and_we_speak_is_taken() {
        assert_eq!(Language::accepted("de-DE,de;q=0.9,uz-Latn-UZ;q=0.8,en;q=0.5"), Some(Language::Uz));
        assert_eq!(Language::accepted("RU"), Some(Language::Ru));
        assert_eq!(Language::accepted("de, *;q=0.1"), None);
        assert_eq!(Language::accepted(""), None);
    }
}
