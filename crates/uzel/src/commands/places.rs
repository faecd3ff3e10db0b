//! Setup files: `${VARIABLES}` filled in, and faults brought back to line and column.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A setup file as it was read.
pub(crate) struct SetupText {
    name: String,
    text: String,
    /// Where each JSON pointer stands.
    places: HashMap<String, usize>,
    value: Result<Value, String>,
}

/// A file's text; `-` is standard input.
pub(crate) fn text(file: &Path) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        return std::io::read_to_string(std::io::stdin()).context("standard input");
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

impl SetupText {
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = text(file)?;
        if text.len() > 8 << 20 {
            bail!("{} is larger than 8 MiB", file.display());
        }
        let mut setup = Self { name: file.display().to_string(), text, places: HashMap::new(), value: Ok(Value::Null) };
        setup.value = setup.parse();
        Ok(setup)
    }

    pub(crate) fn value(&self) -> Result<Value, String> {
        self.value.clone()
    }

    fn parse(&mut self) -> Result<Value, String> {
        let text = self.text.clone();
        let table = DeTable::parse(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            format!("{}: {}", self.at(at), error.message())
        })?;
        let mut missing = Vec::new();
        let value = self.convert(table.get_ref(), "", &mut missing);
        if missing.is_empty() { Ok(value) } else { Err(missing.join("\n")) }
    }

    fn convert(&mut self, table: &DeTable<'_>, at: &str, missing: &mut Vec<String>) -> Value {
        let mut members = Map::new();
        for (name, value) in table {
            let pointer = format!("{at}/{}", name.get_ref());
            self.places.insert(pointer.clone(), name.span().start);
            members.insert(name.get_ref().to_string(), self.value_of(value, &pointer, missing));
        }
        Value::Object(members)
    }

    fn value_of(&mut self, value: &Spanned<DeValue<'_>>, at: &str, missing: &mut Vec<String>) -> Value {
        match value.get_ref() {
            DeValue::String(text) => match fill(text) {
                Ok(text) => Value::String(text),
                Err(name) => {
                    missing.push(format!(
                        "{}: {} names the variable {name}, which is not set",
                        self.at(value.span().start),
                        dotted(at)
                    ));
                    Value::Null
                }
            },
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Value::String(number.as_str().to_owned()), Value::from),
            DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
            DeValue::Boolean(flag) => Value::Bool(*flag),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Array(items) => {
                let list = items.iter().enumerate().map(|(place, item)| {
                    let pointer = format!("{at}/{place}");
                    self.places.insert(pointer.clone(), item.span().start);
                    self.value_of(item, &pointer, missing)
                });
                Value::Array(list.collect())
            }
            DeValue::Table(table) => self.convert(table, at, missing),
        }
    }

    /// File, line and column of a pointer, or of the nearest place above it.
    pub(crate) fn place(&self, pointer: &str) -> String {
        let mut pointer = pointer;
        loop {
            if let Some(at) = self.places.get(pointer) {
                return self.at(*at);
            }
            match pointer.rfind('/') {
                Some(end) if end > 0 => pointer = &pointer[..end],
                _ => return self.at(0),
            }
        }
    }

    fn at(&self, offset: usize) -> String {
        let (line, column) = line_and_column(&self.text, offset);
        format!("{}:{line}:{column}", self.name)
    }
}

/// Both counted from one.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

/// A pointer as people write it: `connection[0].settings.api_id`.
pub(crate) fn dotted(pointer: &str) -> String {
    pointer.split('/').skip(1).fold(String::new(), |path, step| match step.parse::<usize>() {
        Ok(place) => format!("{path}[{place}]"),
        Err(_) if path.is_empty() => step.to_owned(),
        Err(_) => format!("{path}.{step}"),
    })
}

/// Puts variables in for `${NAME}`.
fn fill(text: &str) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else { break };
        filled.push_str(before);
        let value = crate::settings::variables().find(|(known, _)| known == name).map(|(_, value)| value);
        filled.push_str(&value.ok_or_else(|| name.to_owned())?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}
