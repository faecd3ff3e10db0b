//! Rows on their way from one store to another, and their sums.

use uzel_model::signature::fingerprint;

/// A value, as neither store keeps it: times in milliseconds since 1970, flags as 0 and 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Number(i64),
    Id([u8; 16]),
    Text(String),
    Bytes(Vec<u8>),
    /// What each store counts in its own way.
    Place(i64),
}

/// In the order of the table's columns.
pub(crate) type Row = Vec<Value>;

/// Rows that are on their way together, at most so many and so large (one row may be larger).
const ROWS_MAX: usize = 2_000;
const BYTES_MAX: usize = 4 << 20;

/// Gathers rows until they are enough.
#[derive(Default)]
pub(crate) struct Portion {
    rows: Vec<Row>,
    bytes: usize,
}

impl Portion {
    /// Gives what has been gathered, if it is enough.
    pub(crate) fn add(&mut self, row: Row) -> Option<Vec<Row>> {
        self.bytes += bytes(&row);
        self.rows.push(row);
        (self.rows.len() >= ROWS_MAX || self.bytes >= BYTES_MAX).then(|| std::mem::take(self).rows)
    }

    /// What is left.
    pub(crate) fn rest(self) -> Option<Vec<Row>> {
        (!self.rows.is_empty()).then_some(self.rows)
    }
}

fn bytes(row: &Row) -> usize {
    let of = |value: &Value| match value {
        Value::Null => 0,
        Value::Number(_) | Value::Place(_) => 8,
        Value::Id(_) => 16,
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
    };
    row.iter().map(of).sum()
}

/// What many rows come to, in whatever order they are added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Of a hash of each row, without what goes beyond 128 bits.
    pub(crate) hashes: u128,
}

impl Sum {
    pub(crate) fn add(&mut self, row: &Row) {
        let mut plain = Vec::with_capacity(bytes(row) + 9 * row.len());
        let mut put = |tag: u8, value: &[u8]| {
            plain.push(tag);
            plain.extend((value.len() as u64).to_be_bytes());
            plain.extend(value);
        };
        for value in row {
            match value {
                Value::Null => put(0, &[]),
                Value::Number(number) => put(1, &number.to_be_bytes()),
                Value::Id(id) => put(2, id),
                Value::Text(text) => put(3, text.as_bytes()),
                Value::Bytes(bytes) => put(4, bytes),
                Value::Place(_) => put(5, &[]),
            }
        }
        self.rows += 1;
        self.bytes += bytes(row) as u64;
        self.hashes = self.hashes.wrapping_add(u128::from_be_bytes(fingerprint([plain.as_slice()])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_knows_no_order_and_tells_every_difference() {
        let rows = [
            vec![Value::Null, Value::Number(1)],
            vec![Value::Text("ab".to_owned()), Value::Text("c".to_owned())],
            vec![Value::Bytes(b"ab".to_vec()), Value::Id([7; 16])],
        ];
        let sum = |rows: &[&Row]| {
            let mut sum = Sum::default();
            rows.iter().for_each(|row| sum.add(row));
            sum
        };
        let all = sum(&[&rows[0], &rows[1], &rows[2]]);
        assert_eq!(all, sum(&[&rows[2], &rows[0], &rows[1]]));
        assert_eq!((all.rows, all.bytes), (3, 29));
        let other = vec![Value::Text("a".to_owned()), Value::Text("bc".to_owned())];
        assert_ne!(all.hashes, sum(&[&rows[0], &other, &rows[2]]).hashes);
        // Twice the same row is not none.
        assert_ne!(all.hashes, sum(&[&rows[0], &rows[0], &rows[0]]).hashes);
    }
}
