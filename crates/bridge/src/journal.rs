//! The queue's file: sealed lines, one behind the other, each on the disk before anybody is told so.
//!
//! A line is `mark (4) | number (8) | length (4) | check (4) | nonce (24) | sealed (length)`; it is sealed for this file and its number, so
//! that lines can be neither moved nor left out unseen. A power cut can leave the last line torn: then nobody was told of it, and it is
//! dropped. Whatever else cannot be read was once whole: the file is then kept aside, and a person is told.

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    files,
    key::{Key, NONCE_BYTES},
};

const MAGIC: &[u8; 8] = b"UZELBRQ1";
const FILE_ID_BYTES: usize = 16;
const START: usize = MAGIC.len() + FILE_ID_BYTES;
const MARK: [u8; 4] = [0xb7, b'U', b'Q', 0x01];
const HEAD_BYTES: usize = 4 + 8 + 4 + 4 + NONCE_BYTES;
const TAG_BYTES: usize = 16;
const LINE_BYTES_MAX: usize = 1 << 20;
/// The first line of every file: it opens with the right key only.
const PROBE: &[u8] = b"uzel-bridge";

type Plain = Zeroizing<Vec<u8>>;

#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// `None` for the moment in which another file takes its place.
    file: Option<File>,
    key: Key,
    file_id: [u8; FILE_ID_BYTES],
    next: u64,
    /// Where the last whole line ends.
    end: u64,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

/// Why a line was not written. Nobody may be told that it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("the queue's file takes nothing now: {0}")]
    Refused(String),
    #[error("the queue's file cannot be trusted until the bridge is started again: {0}")]
    Broken(String),
}

/// What a file held.
#[derive(Debug)]
pub(crate) struct Found {
    pub lines: Vec<Plain>,
    /// Bytes of a last line that was never whole.
    pub torn_bytes: usize,
    pub damage: Option<Damage>,
}

/// Bytes that were whole once and cannot be read.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    pub bytes: usize,
    /// Where the file as it was found is kept.
    pub kept: PathBuf,
}

impl Journal {
    /// Opens the file, or makes an empty one.
    pub(crate) fn open(path: &Path, key: Key) -> anyhow::Result<(Self, Found)> {
        let name = || format!("queue {}", path.display());
        let content = match fs::read(path) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let journal = Self::make(path, key).with_context(name)?;
                return Ok((journal, Found { lines: Vec::new(), torn_bytes: 0, damage: None }));
            }
            Err(error) => return Err(error).with_context(name),
        };
        let mut scan = Scan::of(&content, &key).with_context(name)?;
        if scan.lines.first().is_none_or(|probe| probe.as_slice() != PROBE) {
            bail!("{} does not open with the key file beside it: it is not the key that sealed it. Nothing was changed", name());
        }
        scan.lines.remove(0);
        let mut damage = None;
        if scan.damaged_bytes > 0 {
            let kept = files::beside(path, &format!(".damaged-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
            fs::copy(path, &kept).with_context(name)?;
            damage = Some(Damage { bytes: scan.damaged_bytes, kept });
        }
        let file = files::own().open(path).with_context(name)?;
        if content.len() > scan.end {
            // Behind a shorter new line the rest of a longer torn one would look like damage.
            file.set_len(scan.end as u64).and_then(|()| file.sync_all()).with_context(name)?;
        }
        let journal = Self {
            path: path.to_owned(),
            file: Some(file),
            key,
            file_id: scan.file_id,
            next: scan.next,
            end: scan.end as u64,
            broken: None,
        };
        Ok((journal, Found { lines: scan.lines, torn_bytes: scan.torn_bytes, damage }))
    }

    fn make(path: &Path, key: Key) -> std::io::Result<Self> {
        let file_id: [u8; FILE_ID_BYTES] = rand::random();
        let (content, next) = whole(&key, &file_id, &[]);
        files::replace(path, &content)?;
        let file = Some(files::own().open(path)?);
        Ok(Self { path: path.to_owned(), file, key, file_id, next, end: content.len() as u64, broken: None })
    }

    /// Writes lines, whole and on the disk, or none of them.
    pub(crate) fn append(&mut self, lines: &[Plain]) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        let mut next = self.next;
        for line in lines {
            seal_line(&mut bytes, &self.key, &self.file_id, next, line);
            next += 1;
        }
        let end = self.end;
        let file = self.file()?;
        let written = file.seek(SeekFrom::Start(end)).and_then(|_| file.write_all(&bytes));
        if let Err(error) = written {
            // What was written of it goes away again; until it has, nothing may be written behind it.
            if let Err(worse) = file.set_len(end).and_then(|()| file.sync_all()) {
                self.broken = Some(worse.to_string());
            }
            return Err(JournalError::Refused(error.to_string()));
        }
        if let Err(error) = file.sync_data() {
            // Nobody knows what the disk holds now.
            return Err(self.give_up(error.to_string()));
        }
        self.next = next;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Puts a file with just these lines in its place.
    pub(crate) fn rewrite(&mut self, lines: &[Plain]) -> Result<(), JournalError> {
        self.file()?;
        let file_id: [u8; FILE_ID_BYTES] = rand::random();
        let (content, next) = whole(&self.key, &file_id, lines);
        files::write_beside(&self.path, &content).map_err(|error| JournalError::Refused(error.to_string()))?;
        // Windows puts no file in the place of an open one.
        self.file = None;
        let moved = files::take_place(&self.path);
        match files::own().open(&self.path) {
            Ok(file) => self.file = Some(file),
            Err(error) => return Err(self.give_up(error.to_string())),
        }
        match moved {
            Ok(()) => {
                (self.file_id, self.next, self.end) = (file_id, next, content.len() as u64);
                Ok(())
            }
            Err(error) => match fs::read(&self.path) {
                Ok(old) if old.get(MAGIC.len()..START) == Some(&self.file_id) => Err(JournalError::Refused(error.to_string())),
                // It took the place, and may lose it in a power cut.
                _ => Err(self.give_up(error.to_string())),
            },
        }
    }

    fn file(&mut self) -> Result<&mut File, JournalError> {
        match (&self.broken, &mut self.file) {
            (None, Some(file)) => Ok(file),
            (why, _) => Err(JournalError::Broken(why.clone().unwrap_or_default())),
        }
    }

    fn give_up(&mut self, why: String) -> JournalError {
        self.broken = Some(why.clone());
        JournalError::Broken(why)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.end
    }

    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }
}

/// A whole file with these lines, and the number of the next one.
fn whole(key: &Key, file_id: &[u8; FILE_ID_BYTES], lines: &[Plain]) -> (Vec<u8>, u64) {
    let mut content = [MAGIC.as_slice(), file_id].concat();
    let mut next = 0;
    for line in std::iter::once(PROBE).chain(lines.iter().map(|line| line.as_slice())) {
        seal_line(&mut content, key, file_id, next, line);
        next += 1;
    }
    (content, next)
}

fn check(file_id: &[u8], number: u64, length: u32) -> [u8; 4] {
    let hash =
        Sha256::new().chain_update(file_id).chain_update(number.to_le_bytes()).chain_update(length.to_le_bytes()).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

fn seal_line(out: &mut Vec<u8>, key: &Key, file_id: &[u8], number: u64, plain: &[u8]) {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let sealed = key.seal(nonce, &[file_id, &number.to_le_bytes()].concat(), plain);
    let length = u32::try_from(sealed.len()).expect("a line is far below 4 GiB");
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&check(file_id, number, length));
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&sealed);
}

/// What stands at one place of a file.
enum Place {
    Line {
        number: u64,
        plain: Plain,
        end: usize,
    },
    /// The head of a line that goes beyond the end of the file.
    Short,
    Nothing,
}

struct Scan {
    file_id: [u8; FILE_ID_BYTES],
    lines: Vec<Plain>,
    next: u64,
    end: usize,
    torn_bytes: usize,
    damaged_bytes: usize,
}

impl Scan {
    fn of(content: &[u8], key: &Key) -> anyhow::Result<Self> {
        let Some((head, _)) = content.split_at_checked(START) else { bail!("it is not a queue of the bridge") };
        if !head.starts_with(MAGIC) {
            bail!("it is not a queue of the bridge, or one of a newer version");
        }
        let mut file_id = [0; FILE_ID_BYTES];
        file_id.copy_from_slice(&head[MAGIC.len()..]);
        let mut scan = Self { file_id, lines: Vec::new(), next: 0, end: START, torn_bytes: 0, damaged_bytes: 0 };
        let mut at = START;
        while at < content.len() {
            match place(content, at, key, &file_id) {
                Place::Line { number, plain, end } if number >= scan.next => {
                    // A line that is left out leaves no bytes, but its number.
                    scan.damaged_bytes += usize::from(number > scan.next && at == scan.end);
                    scan.lines.push(plain);
                    scan.next = number + 1;
                    at = end;
                    scan.end = end;
                }
                found => match next_line(content, at + 1, key, &file_id, scan.next) {
                    Some(there) => {
                        scan.damaged_bytes += there - at;
                        at = there;
                    }
                    None => {
                        scan.judge_tail(&content[at..], &found);
                        break;
                    }
                },
            }
        }
        Ok(scan)
    }

    /// What stands behind the last line that opens: never whole, or whole once.
    fn judge_tail(&mut self, tail: &[u8], found: &Place) {
        let is_torn = matches!(found, Place::Short) || tail.len() < HEAD_BYTES || tail.ends_with(&[0; TAG_BYTES]);
        if is_torn {
            self.torn_bytes = tail.len();
        } else {
            self.damaged_bytes += tail.len();
        }
    }
}

fn place(content: &[u8], at: usize, key: &Key, file_id: &[u8]) -> Place {
    let Some(head) = content.get(at..at + HEAD_BYTES) else { return Place::Nothing };
    let (mark, rest) = head.split_at(4);
    let (number, rest) = rest.split_at(8);
    let (length, rest) = rest.split_at(4);
    let (given_check, nonce) = rest.split_at(4);
    let number = u64::from_le_bytes(number.try_into().unwrap_or_default());
    let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
    if mark != MARK || given_check != check(file_id, number, length) || length as usize > LINE_BYTES_MAX + TAG_BYTES {
        return Place::Nothing;
    }
    let start = at + HEAD_BYTES;
    let end = start + length as usize;
    let Some(sealed) = content.get(start..end) else { return Place::Short };
    let mut own_nonce = [0; NONCE_BYTES];
    own_nonce.copy_from_slice(nonce);
    match key.open(own_nonce, &[file_id, &number.to_le_bytes()].concat(), sealed) {
        Some(plain) => Place::Line { number, plain, end },
        None => Place::Nothing,
    }
}

/// The next place from `from` on where a line opens.
fn next_line(content: &[u8], from: usize, key: &Key, file_id: &[u8], number_min: u64) -> Option<usize> {
    (from..content.len().saturating_sub(HEAD_BYTES)).find(|at| {
        content[*at..].starts_with(&MARK)
            && matches!(place(content, *at, key, file_id), Place::Line { number, .. } if number >= number_min)
    })
}
