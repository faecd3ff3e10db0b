//! Customers and their points as a table in CSV. The first line names the columns, in any order and in three languages.

use uzel_engine::{csv, loyalty::ImportRow};

use super::customers::LineFault;

const COLUMNS: [(&str, &[&str]); 5] = [
    ("customer", &["customer", "customer_id", "customerid", "id", "клиент", "карта", "номер карты", "mijoz", "karta"]),
    ("phone", &["phone", "tel", "телефон", "номер", "telefon", "raqam"]),
    ("name", &["name", "имя", "фио", "ism"]),
    ("balance", &["balance", "points", "баланс", "баллы", "бонусы", "ball", "ballar"]),
    ("level", &["level", "tier", "уровень", "daraja"]),
];

/// The numbers of the lines that hold rows, the rows, and what cannot be read.
pub(super) fn read(text: &str) -> (Vec<usize>, Vec<ImportRow>, Vec<LineFault>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().enumerate().map(|(place, line)| (place + 1, line)).filter(|(_, line)| !line.trim().is_empty());
    let fault =
        |line, column: Option<&str>, why: &str| LineFault { line, column: column.map(str::to_owned), why: why.to_owned() };
    let (mut numbers, mut rows, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    let Some((first, head)) = lines.next() else {
        return (numbers, rows, vec![fault(1, None, "the file is empty")]);
    };
    let separator = csv::separator(head);
    let mut columns = Vec::new();
    for name in csv::fields(head, separator) {
        let word = name.trim().to_lowercase();
        let known = COLUMNS.iter().find(|(_, names)| names.contains(&word.as_str())).map(|(column, _)| *column);
        match known {
            Some(column) if columns.contains(&Some(column)) => faults.push(fault(first, Some(&name), "stands twice")),
            None => faults.push(fault(first, Some(&name), "is no column: customer, phone, name, balance and level are")),
            Some(_) => {}
        }
        columns.push(known);
    }
    if !columns.iter().flatten().any(|column| matches!(*column, "customer" | "phone")) {
        faults.push(fault(first, None, "there is no column `customer` and none `phone`"));
    }
    if !faults.is_empty() {
        return (numbers, rows, faults);
    }
    for (number, line) in lines {
        if csv::ends_within(line, separator) {
            faults.push(fault(number, None, "has a quote that does not end: a field cannot go over two lines"));
            continue;
        }
        let fields = csv::fields(line, separator);
        if fields.len() > columns.len() {
            let (fields, columns) = (fields.len(), columns.len());
            let why = format!(
                "has {fields} fields, and the first line names {columns} columns: a field with a separator in it stands in quotes"
            );
            faults.push(fault(number, None, &why));
            continue;
        }
        let mut row = ImportRow::default();
        for (column, field) in columns.iter().flatten().zip(fields) {
            let given = Some(field.trim().to_owned()).filter(|field| !field.is_empty());
            match *column {
                "customer" => row.customer = given,
                "phone" => row.phone = given,
                "name" => row.name = given,
                "level" => row.level = given,
                _ => row.balance = given,
            }
        }
        numbers.push(number);
        rows.push(row);
    }
    (numbers, rows, faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_by_the_names_of_its_columns() {
        let text = "\u{feff}Телефон;Баллы;Клиент\r\n+79991234567;\"1 200\";C-1\r\n\r\n;;C-2\r\n";
        let (lines, rows, faults) = read(text);
        assert_eq!((lines, faults), (vec![2, 4], vec![]));
        assert_eq!(rows[0].phone.as_deref(), Some("+79991234567"));
        assert_eq!((rows[0].balance.as_deref(), rows[0].customer.as_deref()), (Some("1 200"), Some("C-1")));
        assert_eq!((rows[1].balance.as_deref(), rows[1].phone.as_deref()), (None, None));
    }

    #[test]
    fn every_fault_is_told_by_line_and_column() {
        let told = |text: &str| {
            let (_, _, faults) = read(text);
            faults.iter().map(|fault| format!("{} {:?} {}", fault.line, fault.column, fault.why)).collect::<Vec<_>>()
        };
        assert_eq!(told(""), ["1 None the file is empty"]);
        assert_eq!(told("name,balance\nAnna,1"), ["1 None there is no column `customer` and none `phone`"]);
        assert_eq!(
            told("customer,colour,customer\nC-1,red,C-2"),
            [
                "1 Some(\"colour\") is no column: customer, phone, name, balance and level are",
                "1 Some(\"customer\") stands twice"
            ]
        );
        assert_eq!(
            told("customer,balance\nC-2,-1\nC-3,1,2\nC-5,7"),
            ["3 None has 3 fields, and the first line names 2 columns: a field with a separator in it stands in quotes"]
        );
        assert_eq!(
            told("customer,name\nC-2,\"Anna\nPetrova\"\nC-3,Boris"),
            ["2 None has a quote that does not end: a field cannot go over two lines"]
        );
    }
}
