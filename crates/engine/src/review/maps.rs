//! Where an outlet stands on maps: addresses that a guest is sent to, so only those of the maps themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_store::MapService;

const URL_BYTES_MAX: usize = 1_000;

/// Pages of an outlet on maps, where guests leave reviews.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Maps {
    /// 2GIS, for instance `https://2gis.ru/moscow/firm/4504127908472131/tab/reviews`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dgis: Option<String>,
    /// Yandex Maps, for instance `https://yandex.ru/maps/org/1124715036/reviews/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yandex: Option<String>,
    /// Google Maps, for instance `https://g.page/r/CabcEBM/review`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub google: Option<String>,
}

impl Maps {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn url(&self, map: MapService) -> Option<&str> {
        match map {
            MapService::Dgis => self.dgis.as_deref(),
            MapService::Yandex => self.yandex.as_deref(),
            MapService::Google => self.google.as_deref(),
        }
    }

    /// What is wrong with the addresses, by the map's name.
    pub(crate) fn faults(&self) -> Vec<(&'static str, String)> {
        let faulty = |map: MapService| Some((map.name(), check(map, self.url(map)?).err()?));
        MapService::ALL.into_iter().filter_map(faulty).collect()
    }
}

fn check(map: MapService, text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{why}: write the address of the outlet's page on the map"));
    let Ok(url) = reqwest::Url::parse(text) else { return wrong("is no URL") };
    if url.scheme() != "https" {
        return wrong("does not begin with `https://`");
    }
    if !url.username().is_empty() || url.password().is_some() || url.port().is_some() || text.len() > URL_BYTES_MAX {
        return wrong("holds a name, a password or a port, or is too long");
    }
    let host = url.host_str().unwrap_or_default().trim_start_matches("www.");
    let labels: Vec<&str> = host.split('.').collect();
    // The maps have a domain in each country: `2gis.uz`, `yandex.com.tr`, `maps.google.co.uk`.
    let domain_of = |name: &str| {
        let at = labels.iter().position(|label| *label == name);
        at.is_some_and(|at| {
            matches!(&labels[at + 1..], [zone] if zone.len() <= 3)
                || matches!(&labels[at + 1..], ["com" | "co", zone] if zone.len() == 2)
        })
    };
    let (known, names) = match map {
        MapService::Dgis => (domain_of("2gis"), "2gis.ru"),
        MapService::Yandex => (domain_of("yandex"), "yandex.ru"),
        MapService::Google => {
            let short = ["g.page", "goo.gl", "maps.app.goo.gl", "share.google"];
            (domain_of("google") || short.contains(&host), "google.com or g.page")
        }
    };
    if known { Ok(()) } else { Err(format!("is no page of this map: its address is one of {names} or a country's like it")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_map_itself_are_taken() {
        let maps = |map, url: &str| match map {
            MapService::Dgis => Maps { dgis: Some(url.to_owned()), ..Maps::default() },
            MapService::Yandex => Maps { yandex: Some(url.to_owned()), ..Maps::default() },
            MapService::Google => Maps { google: Some(url.to_owned()), ..Maps::default() },
        };
        for (map, url) in [
            (MapService::Dgis, "https://2gis.ru/moscow/firm/4504127908472131/tab/reviews"),
            (MapService::Dgis, "https://2gis.uz/tashkent/firm/70000001033123456"),
            (MapService::Dgis, "https://go.2gis.com/abc12"),
            (MapService::Yandex, "https://yandex.ru/maps/org/1124715036/reviews/"),
            (MapService::Yandex, "https://maps.yandex.uz/?oid=1"),
            (MapService::Yandex, "https://yandex.com.tr/maps/org/1"),
            (MapService::Google, "https://g.page/r/CabcEBM/review"),
            (MapService::Google, "https://maps.app.goo.gl/abc"),
            (MapService::Google, "https://www.google.co.uk/maps/place/x"),
            (MapService::Google, "https://search.google.com/local/writereview?placeid=1"),
        ] {
            assert_eq!(maps(map, url).faults(), [], "{url}");
        }
        for (map, url) in [
            (MapService::Dgis, "2gis.ru/moscow"),
            (MapService::Dgis, "http://2gis.ru/moscow"),
            (MapService::Dgis, "https://2gis.evil.example/x"),
            (MapService::Dgis, "https://not2gis.ru/x"),
            (MapService::Yandex, "https://yandex.ru@evil.example/"),
            (MapService::Yandex, "https://yandex.ru.evil.example/"),
            (MapService::Google, "https://g.page.evil.example/"),
            (MapService::Google, "javascript:alert(1)"),
        ] {
            assert_eq!(maps(map, url).faults().len(), 1, "{url}");
        }
    }
}
