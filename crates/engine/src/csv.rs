//! Lines of CSV as spreadsheets write them: separated by semicolons, tabs or commas, fields in quotes where they need it.

/// What separates the fields, told by the first line.
pub fn separator(first: &str) -> char {
    [';', '\t'].into_iter().find(|sign| first.contains(*sign)).unwrap_or(',')
}

/// The fields of a line; those in quotes may hold the separator.
pub fn fields(line: &str, separator: char) -> Vec<String> {
    read(line, separator).0
}

/// Whether a line ends within quotes: its last field goes on in the next line.
pub fn ends_within(line: &str, separator: char) -> bool {
    read(line, separator).1
}

fn read(line: &str, separator: char) -> (Vec<String>, bool) {
    let mut found = vec![String::new()];
    let mut quoted = false;
    let mut signs = line.chars().peekable();
    while let Some(sign) = signs.next() {
        let field = found.last_mut().expect("there is one from the start");
        match sign {
            '"' if quoted && signs.peek() == Some(&'"') => {
                signs.next();
                field.push('"');
            }
            '"' if quoted || field.trim().is_empty() => quoted = !quoted,
            sign if sign == separator && !quoted => found.push(String::new()),
            sign => field.push(sign),
        }
    }
    (found, quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_as_spreadsheets_write_them() {
        assert_eq!(fields(r#""+7 999, home";"say ""no""";x"#, ';'), ["+7 999, home", "say \"no\"", "x"]);
        assert_eq!(fields("a,,b", ','), ["a", "", "b"]);
        assert_eq!(["a,\"b", "\"a\"\"\",b", "12\" pipe,b"].map(|line| ends_within(line, ',')), [true, false, false]);
        assert_eq!(["a;b", "a\tb", "a,b", "a"].map(separator), [';', '\t', ',', ',']);
    }
}
