//! People are told of every setting, ability and step in three languages, and what they are told is so.

use serde_json::{Map, Value, json};
use uzel_connectors::PROVIDERS;
use uzel_model::{
    Provider,
    words::{Ability, KEY_HERE, Language, Said, Words},
};

use crate::sample::{fixtures, full, least, open, properties};

fn is_cyrillic(letter: char) -> bool {
    matches!(letter, '\u{400}'..='\u{4ff}')
}

/// The text without what is quoted: names of pages stand as the provider's cabinet has them.
fn unquoted(text: &str) -> String {
    let mut depth = 0_i32;
    let mut kept = String::new();
    for letter in text.chars() {
        depth += i32::from(letter == '«') - i32::from(letter == '»');
        kept.extend((depth == 0).then_some(letter));
    }
    assert_eq!(depth, 0, "a quotation is open: {text}");
    kept
}

fn judge(said: &Said<String>, whose: &str) {
    assert!(said.ru.chars().any(is_cyrillic), "{whose}: not Russian: {}", said.ru);
    assert!(!unquoted(&said.uz).chars().any(is_cyrillic), "{whose}: not Uzbek in Latin letters: {}", said.uz);
    assert!(!said.en.chars().any(is_cyrillic), "{whose}: not English: {}", said.en);
    assert!(said.uz != said.ru && said.uz != said.en || said.uz == "Login", "{whose}: not translated: {}", said.uz);
    assert!(!said.uz.contains(['\'', '`']), "{whose}: Uzbek is written with ‘ and ’: {}", said.uz);
    for text in [&said.ru, &said.uz, &said.en] {
        assert!(text.trim() == text && text.chars().count() >= 4, "{whose}: {text}");
    }
}

fn said(value: &Value, whose: &str) -> Said<String> {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{whose}: {error}"))
}

#[test]
fn every_setting_has_title_and_help_in_three_languages_and_no_words_are_left_over() {
    for provider in PROVIDERS {
        let known = properties(provider);
        for (name, property) in &known {
            let whose = format!("{provider:?} {name}");
            let (title, help) = (said(&property["x-title"], &whose), said(&property["x-help"], &whose));
            judge(&title, &whose);
            assert!(title.en.chars().count() <= 60 && !title.en.ends_with('.'), "{whose}: a title is short: {}", title.en);
            assert_eq!((&property["title"], &property["description"]), (&json!(title.en), &json!(help.en)), "{whose}");
            judge(&help, &whose);
        }
        let words = provider.words();
        let strange: Vec<&String> = words.settings.keys().filter(|name| !known.contains_key(*name)).collect();
        assert!(strange.is_empty(), "{provider:?}: words for settings that do not exist: {strange:?}");
        assert_eq!(provider.schema().to_value()["title"], provider.name);
    }
}

#[test]
fn the_steps_are_told_in_three_languages_and_name_the_webhook_s_address_where_one_is_asked_for() {
    for provider in PROVIDERS {
        let words = provider.words();
        assert!(!words.steps_unfilled().is_empty(), "{provider:?}");
        let has = |place: &str| {
            let told = words.steps_unfilled().iter().filter_map(|step| {
                let found = [&step.ru, &step.uz, &step.en].map(|text| text.contains(place));
                assert!(found.iter().all(|one| *one == found[0]), "{provider:?}: {place} in one language only: {}", step.en);
                found[0].then_some(())
            });
            told.count()
        };
        assert_eq!(has("{hook}"), usize::from(words.can(Ability::Webhooks)), "{provider:?}");
        assert_eq!(has(KEY_HERE), usize::from(words.can(Ability::WebhookKey)), "{provider:?}: the key is explained");
        assert_eq!(has("{callback}"), usize::from(words.can(Ability::BrowserLogin)), "{provider:?}");
        for (number, step) in words.steps_unfilled().iter().enumerate() {
            judge(step, &format!("{provider:?} step {}", number + 1));
        }
        let filled = provider.steps("https://hub.example", Some("con_1"));
        for language in [Language::Ru, Language::Uz, Language::En] {
            let text = filled.to(language).join("\n");
            assert!(!text.contains(['{', '}']), "{provider:?}: a place that nothing fills: {text}");
        }
    }
}

/// What must be set, and these settings.
fn with(provider: &Provider, names: &[String]) -> Map<String, Value> {
    let full = full(provider);
    let mut settings = least(provider);
    for name in names {
        let value = full.get(name).unwrap_or_else(|| panic!("{provider:?}: an ability needs {name}, which is no setting"));
        settings.insert(name.clone(), value.clone());
    }
    settings
}

#[test]
fn what_a_provider_is_said_to_do_it_does_with_the_settings_that_are_named_and_not_without_them() {
    for provider in PROVIDERS {
        let words = provider.words();
        assert_eq!(words.can(Ability::Webhooks), !fixtures(provider).is_empty(), "{provider:?}: webhooks have fixtures");
        for ability in Ability::ALL.into_iter().filter(|ability| *ability != Ability::Webhooks) {
            let on = |settings: Map<String, Value>| ability.is_on(&*provider.open(Value::Object(settings)).unwrap());
            let whole = ability.is_on(&*open(provider));
            let Some(needs) = words.abilities.get(&ability) else {
                assert!(!whole && !on(least(provider)), "{provider:?}: {ability:?} is not told of");
                continue;
            };
            assert!(whole, "{provider:?}: no {ability:?} with everything set");
            assert_eq!(on(least(provider)), needs.is_empty(), "{provider:?}: {ability:?} with only what must be set");
            for names in needs {
                assert!(on(with(provider, names)), "{provider:?}: no {ability:?} with {names:?}");
                for left in names {
                    let rest: Vec<String> = names.iter().filter(|name| *name != left).cloned().collect();
                    assert!(!on(with(provider, &rest)), "{provider:?}: {ability:?} does not need {left}");
                }
            }
        }
    }
}

#[test]
fn abilities_are_said_in_three_languages() {
    for ability in Ability::ALL {
        let Said { ru, uz, en } = ability.says();
        judge(&Said { ru: ru.to_owned(), uz: uz.to_owned(), en: en.to_owned() }, &format!("{ability:?}"));
    }
}

#[test]
fn a_file_of_words_with_a_language_missing_is_told_from_a_good_one() {
    let good = "[abilities]\n[[steps]]\nru = 'да'\nuz = 'ha'\nen = 'yes'\n";
    assert!(Words::read(good).is_ok());
    assert!(Words::read(&good.replace("uz = 'ha'\n", "")).is_err());
    assert!(Words::read(&good.replace("uz", "de")).is_err());
}
