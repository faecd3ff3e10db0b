//! What people are told of a provider, in Russian, Uzbek (Latin) and English: titles and help of its settings, what the hub can do
//! with it, and what the merchant has to do at the provider. It stands in a TOML file beside the connector.

use std::{collections::BTreeMap, str::FromStr};

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Connector, Provider};

/// What stands in a hook's address in place of the key: the key itself is shown once, when it is made.
pub const KEY_HERE: &str = "YOUR_KEY";

/// What stands for the hub's public address while nobody has set it.
pub const HUB_HERE: &str = "https://YOUR_HUB";

/// A language that people are spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    Ru,
    Uz,
    En,
}

impl FromStr for Language {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "ru" => Ok(Self::Ru),
            "uz" => Ok(Self::Uz),
            "en" => Ok(Self::En),
            _ => Err("must be ru, uz or en".to_owned()),
        }
    }
}

/// The same in each language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Said<T = String> {
    /// In Russian.
    pub ru: T,
    /// In Latin letters.
    pub uz: T,
    /// In English.
    pub en: T,
}

impl<T> Said<T> {
    pub fn to(&self, language: Language) -> &T {
        match language {
            Language::Ru => &self.ru,
            Language::Uz => &self.uz,
            Language::En => &self.en,
        }
    }
}

/// A provider's words, as its file has them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// What the hub can do with it, and which settings that needs: any one of these sets; none: it needs nothing more.
    pub abilities: BTreeMap<Ability, Vec<Vec<String>>>,
    /// Words for each setting.
    #[serde(default)]
    pub settings: BTreeMap<String, Label>,
    /// What the merchant does, in order. `{hook}` stands for the webhook's address, `{callback}` for the page to which a
    /// login in a browser returns.
    steps: Vec<Said>,
}

/// What a form says of a setting. The help in English is the comment of the settings struct's field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    title: Said,
    help: Help,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Help {
    ru: String,
    uz: String,
}

/// Something that the hub can do with a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ability {
    /// Its webhooks come in.
    Webhooks,
    /// They are proved by a key in the address.
    WebhookKey,
    /// The hub registers the webhook at the provider.
    Subscription,
    /// Reads what webhooks missed.
    Polls,
    /// Finds a guest's phone.
    LookUps,
    /// Sends texts.
    Messages,
    /// Tells the money left.
    Balance,
    /// Tells what a text would cost.
    Costs,
    /// Tells how the account stands: money, limits, senders.
    Account,
    /// Keeps a list of phones that it writes to no more.
    StopList,
    /// Proves phones by a call.
    CallChecks,
    /// A person logs in in a browser.
    BrowserLogin,
    /// Keeps guests' points.
    Loyalty,
}

impl Ability {
    pub const ALL: [Self; 13] = [
        Self::Webhooks,
        Self::WebhookKey,
        Self::Subscription,
        Self::Polls,
        Self::LookUps,
        Self::Messages,
        Self::Balance,
        Self::Costs,
        Self::Account,
        Self::StopList,
        Self::CallChecks,
        Self::BrowserLogin,
        Self::Loyalty,
    ];

    /// Whether a connector can do it as it is set up. That webhooks come, only its provider's words can say.
    pub fn is_on(self, connector: &dyn Connector) -> bool {
        match self {
            Self::Webhooks => true,
            Self::WebhookKey => connector.keyed(),
            Self::Subscription => connector.subscription().is_some(),
            Self::Polls => connector.polls().is_some(),
            Self::LookUps => connector.guests().is_some(),
            Self::Messages => connector.messages().is_some(),
            Self::Balance => connector.balance().is_some(),
            Self::Costs => connector.costs().is_some(),
            Self::Account => connector.account().is_some(),
            Self::StopList => connector.stop_list().is_some(),
            Self::CallChecks => connector.call_checks().is_some(),
            Self::BrowserLogin => connector.authorization().is_some(),
            Self::Loyalty => connector.loyalty().is_some(),
        }
    }

    /// As people are told of it.
    pub fn says(self) -> Said<&'static str> {
        let (ru, uz, en) = match self {
            Self::Webhooks => (
                "Принимает уведомления (вебхуки) сервиса",
                "Xizmat yuboradigan bildirishnomalarni (vebxuklarni) qabul qiladi",
                "Takes in the provider's notifications (webhooks)",
            ),
            Self::WebhookKey => (
                "Узнаёт свои уведомления по секретному ключу в адресе",
                "O‘z bildirishnomalarini manzildagi maxfiy kalit orqali taniydi",
                "Tells its notifications from strangers' by a secret key in the address",
            ),
            Self::Subscription => (
                "Сам прописывает адрес для уведомлений и следит, что он на месте",
                "Bildirishnoma manzilini o‘zi ro‘yxatdan o‘tkazadi va uning joyida turganini tekshiradi",
                "Registers the address for notifications itself, and checks that it stands",
            ),
            Self::Polls => (
                "Дочитывает то, о чём уведомление не дошло",
                "Yetib kelmagan bildirishnomalardagi ma’lumotni o‘zi so‘rab oladi",
                "Reads what notifications missed",
            ),
            Self::LookUps => (
                "Находит телефон гостя, если в уведомлении его нет",
                "Bildirishnomada telefon bo‘lmasa, mijozning raqamini o‘zi topadi",
                "Finds the guest's phone where the notification has none",
            ),
            Self::Messages => ("Отправляет сообщения", "Xabar yuboradi", "Sends messages"),
            Self::Balance => ("Показывает остаток на счёте", "Hisobdagi qoldiqni ko‘rsatadi", "Shows the money left"),
            Self::Costs => (
                "Заранее говорит, сколько будет стоить сообщение",
                "Xabar narxini oldindan aytadi",
                "Tells beforehand what a message would cost",
            ),
            Self::Account => (
                "Показывает остаток, лимиты и имена отправителя",
                "Qoldiq, cheklovlar va yuboruvchi nomlarini ko‘rsatadi",
                "Shows the money left, limits and senders",
            ),
            Self::StopList => (
                "Ведёт стоп-лист сервиса: кому он больше не пишет",
                "Xizmatning stop-ro‘yxatini yuritadi: u endi yozmaydigan raqamlar",
                "Keeps the provider's stop list: whom it writes to no more",
            ),
            Self::CallChecks => (
                "Подтверждает телефон звонком самого гостя",
                "Raqamni mijozning o‘z qo‘ng‘irog‘i bilan tasdiqlaydi",
                "Proves a phone by a call of its owner",
            ),
            Self::BrowserLogin => (
                "Владелец аккаунта разрешает доступ в браузере, пароль никому не нужен",
                "Akkaunt egasi ruxsatni brauzerda beradi, parolni hech kimga aytish shart emas",
                "The account's owner allows access in a browser; nobody needs the password",
            ),
            Self::Loyalty => (
                "Ведёт баллы гостей: показывает остаток, начисляет и списывает",
                "Mijozlar ballarini yuritadi: qoldiqni ko‘rsatadi, beradi va yechadi",
                "Keeps guests' points: shows the balance, adds and takes",
            ),
        };
        Said { ru, uz, en }
    }
}

/// An ability, with what it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AbilityView {
    /// What it is.
    pub ability: Ability,
    /// The same in words.
    pub says: Said<&'static str>,
    /// Settings that it needs: any one of these sets. Empty: it needs nothing more.
    pub needs: Vec<Vec<String>>,
}

impl Words {
    /// Reads a file of words. A test reads every provider's.
    pub fn read(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    pub fn can(&self, ability: Ability) -> bool {
        self.abilities.contains_key(&ability)
    }

    /// What the hub can do, in the order in which it is told.
    pub fn abilities(&self) -> Vec<AbilityView> {
        let view = |(ability, needs): (&Ability, &Vec<Vec<String>>)| AbilityView {
            ability: *ability,
            says: ability.says(),
            needs: needs.clone(),
        };
        self.abilities.iter().map(view).collect()
    }

    /// The set-up steps as the file has them.
    pub fn steps_unfilled(&self) -> &[Said] {
        &self.steps
    }

    /// Puts titles and help beside the standard words of a schema.
    fn describe(&self, schema: &mut Schema, name: &str) {
        schema.insert("title".to_owned(), json!(name));
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
        for (name, property) in properties {
            let (Some(label), Some(property)) = (self.settings.get(name), property.as_object_mut()) else { continue };
            let english = property.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
            property.insert("title".to_owned(), json!(label.title.en));
            property.insert("x-title".to_owned(), json!(label.title));
            property.insert("x-help".to_owned(), json!({ "ru": label.help.ru, "uz": label.help.uz, "en": english }));
        }
    }
}

impl Provider {
    /// With words for people, from a file beside the connector.
    pub const fn with_words(mut self, words: &'static str) -> Self {
        self.words = words;
        self
    }

    /// What people are told of it; nothing where it has no words.
    pub fn words(&self) -> Words {
        if self.words.is_empty() {
            return Words::default();
        }
        Words::read(self.words).expect("a test reads the words of every provider")
    }

    /// The settings as JSON Schema 2020-12. Titles and help stand in English in the standard keywords, and in all languages in
    /// `x-title` and `x-help`, which validators pass over.
    pub fn schema(&self) -> Schema {
        let mut schema = self.shape();
        self.words().describe(&mut schema, self.name);
        schema
    }

    /// The address for webhooks, with [`KEY_HERE`] in place of a key; `None` where no webhooks come. `base` is the hub's
    /// public address. Without a connection it is the address of all connections, in which the key tells whose it is,
    /// or where no key is asked for, `{connection}` stands for one.
    pub fn hook(&self, base: &str, connection: Option<&str>) -> Option<String> {
        let words = self.words();
        match (words.can(Ability::Webhooks), words.can(Ability::WebhookKey), connection) {
            (false, ..) => None,
            (true, true, None) => Some(format!("{base}/api/webhook/{}?key={KEY_HERE}", self.id)),
            (true, true, Some(connection)) => Some(format!("{base}/hooks/{connection}?key={KEY_HERE}")),
            (true, false, connection) => Some(format!("{base}/hooks/{}", connection.unwrap_or("{connection}"))),
        }
    }

    /// What the merchant does at the provider, in order, with the addresses in their places.
    pub fn steps(&self, base: &str, connection: Option<&str>) -> Said<Vec<String>> {
        let hook = self.hook(base, connection).unwrap_or_default();
        let callback = format!("{base}/oauth/{}/callback", self.id);
        let filled = |text: &String| text.replace("{hook}", &hook).replace("{callback}", &callback);
        let steps = self.words().steps;
        let all = |language| steps.iter().map(|step| filled(step.to(language))).collect();
        Said { ru: all(Language::Ru), uz: all(Language::Uz), en: all(Language::En) }
    }
}
