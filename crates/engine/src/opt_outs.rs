//! A stop list from another system: a CSV file of phones and mailboxes, each line of it told what became of it.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;
use uzel_model::{Address, Channel, Id, phone};
use uzel_store::{ConsentHow, ConsentPurpose, StoreError};

use crate::{
    Engine,
    consent::{NewWord, read_address},
    csv,
};

/// So many lines a file may have.
pub const LINES_MAX: usize = 20_000;
/// So many words are written in one transaction.
const PORTION: usize = 500;
const TEXT_CHARS_MAX: usize = 500;
/// Names of the columns, as systems and people call them.
const ADDRESSES: [&str; 12] =
    ["address", "phone", "email", "e-mail", "mail", "tel", "телефон", "номер", "почта", "адрес", "telefon", "raqam"];
const CHANNELS: [&str; 3] = ["channel", "канал", "kanal"];
const TEXTS: [&str; 6] = ["text", "reason", "причина", "комментарий", "sabab", "izoh"];

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineOutcome {
    /// From now on nothing goes there.
    Added,
    /// Nothing went there before.
    Known,
    /// It stands in an earlier line.
    Repeated,
    /// It cannot be read.
    Faulty,
}

/// One line of a stop list.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LineReport {
    /// Counted from 1.
    pub line: usize,
    /// What became of it.
    pub outcome: LineOutcome,
    /// Masked; nothing where it cannot be read.
    pub address: Option<String>,
    /// What is wrong with it.
    pub why: Option<String>,
}

/// A line that can be read.
struct Row {
    address: Address,
    channel: Option<Channel>,
    text: String,
}

/// The columns of a file, by their places.
struct Columns {
    separator: char,
    address: usize,
    channel: Option<usize>,
    text: Option<usize>,
    /// The first line names them.
    named: bool,
}

impl Columns {
    fn of(first: &str) -> Self {
        let separator = csv::separator(first);
        let names: Vec<String> = csv::fields(first, separator).iter().map(|name| name.trim().to_lowercase()).collect();
        let place = |known: &[&str]| names.iter().position(|name| known.contains(&name.as_str()));
        match place(&ADDRESSES) {
            Some(address) => Self { separator, address, channel: place(&CHANNELS), text: place(&TEXTS), named: true },
            None => Self { separator, address: 0, channel: Some(1), text: Some(2), named: false },
        }
    }

    fn read(&self, line: &str, country: &str) -> Result<Row, String> {
        let fields = csv::fields(line, self.separator);
        let field = |place: Option<usize>| place.and_then(|place| fields.get(place)).map(|text| text.trim()).unwrap_or_default();
        let address = field(Some(self.address));
        if address.is_empty() {
            return Err("the address is missing".to_owned());
        }
        let address = read_address(address, country)?;
        let name = field(self.channel).to_lowercase();
        let channel = match name.as_str() {
            "" | "all" | "все" => None,
            name => {
                let known = Channel::ALL.into_iter().find(|channel| channel.name() == name);
                Some(known.ok_or_else(|| format!("`{name}` is no channel: sms, whatsapp, email, telegram and push are"))?)
            }
        };
        Ok(Row { address, channel, text: field(self.text).chars().take(TEXT_CHARS_MAX).collect() })
    }
}

impl Engine {
    /// Takes a stop list over, or, with `dry_run`, only tells what would become of each line. A line that cannot be read keeps no
    /// other from being taken.
    pub async fn import_opt_outs(
        &self,
        merchant: Id,
        file: &str,
        by: &str,
        dry_run: bool,
    ) -> Result<Result<Vec<LineReport>, String>, StoreError> {
        let file = file.trim_start_matches('\u{feff}');
        let lines: Vec<(usize, &str)> =
            file.lines().enumerate().map(|(place, line)| (place + 1, line)).filter(|(_, line)| !line.trim().is_empty()).collect();
        let Some((_, first)) = lines.first() else { return Ok(Err("is empty: write one address a line".to_owned())) };
        if lines.len() > LINES_MAX {
            return Ok(Err(format!("has {} lines: {LINES_MAX} at the most, so take it over in parts", lines.len())));
        }
        let columns = Columns::of(first);
        let country = self.world().merchants.get(&merchant).map_or("RU".to_owned(), |(_, merchant)| merchant.country.clone());
        let (mut report, mut words) = (Vec::new(), Vec::new());
        let mut seen: HashMap<(String, Option<Channel>), usize> = HashMap::new();
        for (line, text) in lines.into_iter().skip(usize::from(columns.named)) {
            let row = match columns.read(text, &country) {
                Ok(row) => row,
                Err(why) => {
                    report.push(LineReport { line, outcome: LineOutcome::Faulty, address: None, why: Some(why) });
                    continue;
                }
            };
            let told = |outcome, why| LineReport { line, outcome, address: Some(row.address.masked()), why };
            if let Some(before) = seen.insert((row.address.key(), row.channel), line) {
                seen.insert((row.address.key(), row.channel), before);
                report.push(told(LineOutcome::Repeated, Some(format!("stands in line {before} already"))));
                continue;
            }
            let contact = self.store.contact(merchant, &row.address.key()).await?;
            if contact.refuses(row.channel) {
                report.push(told(LineOutcome::Known, None));
                continue;
            }
            report.push(told(LineOutcome::Added, None));
            words.push(NewWord {
                merchant,
                address: row.address,
                channel: row.channel,
                purpose: ConsentPurpose::Marketing,
                granted: false,
                how: ConsentHow::Import,
                text: if row.text.is_empty() { "from a stop list".to_owned() } else { row.text },
                by: by.to_owned(),
            });
        }
        if !dry_run {
            while !words.is_empty() {
                let portion = words.drain(..words.len().min(PORTION)).collect();
                self.record_words(portion).await?;
            }
        }
        Ok(Ok(report))
    }
}

/// An address that is kept, for people who may not see whom it belongs to.
pub fn mask_key(address: &str) -> String {
    match address.split_once('/') {
        Some((kind, _)) => format!("{kind} ***"),
        None if address.contains('@') => uzel_model::message::mask_email(address),
        None => phone::mask(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_known_by_their_names_or_by_their_place() {
        let columns = Columns::of("Имя;Телефон;Причина");
        assert!(columns.named && columns.address == 1 && columns.text == Some(2) && columns.channel.is_none());
        let row = columns.read("Анна;8 (999) 123-45-67;просила не писать", "RU").unwrap();
        assert_eq!((row.address.key().as_str(), row.text.as_str()), ("+79991234567", "просила не писать"));
        let plain = Columns::of("+79991234567,sms");
        assert_eq!(plain.read("+79991234567,sms", "RU").unwrap().channel, Some(Channel::Sms));
        assert!(plain.read("+79991234567,pigeon", "RU").is_err() && plain.read("7,99912E+10", "RU").is_err());
        assert!(plain.read("\"7,99912E+10\"", "RU").is_err() && plain.read(",sms", "RU").is_err());
    }
}
