use super::*;

fn lines(count: usize) -> Vec<Plain> {
    (0..count).map(|number| Zeroizing::new(format!("line {number} {}", "x".repeat(number * 7)).into_bytes())).collect()
}

struct World {
    folder: tempfile::TempDir,
    key: Key,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), key: Key::new() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("queue")
    }

    /// A file with so many lines, and where each of them ends.
    fn write(&self, count: usize) -> Vec<u64> {
        drop(fs::remove_file(self.path()));
        let (mut journal, _) = Journal::open(&self.path(), self.key.clone()).unwrap();
        let mut ends = vec![journal.bytes()];
        for line in lines(count) {
            journal.append(&[line]).unwrap();
            ends.push(journal.bytes());
        }
        ends
    }

    fn found(&self) -> Found {
        Journal::open(&self.path(), self.key.clone()).unwrap().1
    }
}

#[test]
fn a_file_cut_at_any_byte_keeps_every_line_that_was_whole_and_goes_on() {
    let world = World::new();
    let ends = world.write(4);
    let whole = fs::read(world.path()).unwrap();
    for cut in ends[0] as usize..=whole.len() {
        fs::write(world.path(), &whole[..cut]).unwrap();
        let (mut journal, found) = Journal::open(&world.path(), world.key.clone()).unwrap();
        let kept = ends.iter().filter(|end| **end <= cut as u64).count() - 1;
        assert_eq!(found.lines, lines(4)[..kept], "cut at {cut}");
        assert_eq!(found.torn_bytes, cut - ends[kept] as usize);
        assert!(found.damage.is_none(), "cut at {cut}");
        journal.append(&[Zeroizing::new(b"more".to_vec())]).unwrap();
        let after = world.found();
        assert_eq!(after.lines.last().unwrap().as_slice(), b"more", "cut at {cut}");
        assert_eq!(after.lines.len(), kept + 1);
        // The longer torn line is not left behind the new one as damage.
        assert!(after.damage.is_none(), "cut at {cut}: {after:?}");
    }
}

#[test]
fn a_tail_of_zeros_is_a_line_that_never_was() {
    let world = World::new();
    let ends = world.write(3);
    let whole = fs::read(world.path()).unwrap();
    for from in ends[2] as usize..whole.len() - TAG_BYTES {
        let mut content = whole.clone();
        content[from..].fill(0);
        fs::write(world.path(), &content).unwrap();
        let found = world.found();
        assert_eq!((found.lines.len(), found.damage.is_some()), (2, false), "zeros from {from}");
    }
}

#[test]
fn a_flipped_byte_in_what_was_whole_is_told_and_costs_one_line() {
    let world = World::new();
    let ends = world.write(3);
    let whole = fs::read(world.path()).unwrap();
    for at in ends[0] as usize..whole.len() {
        let mut content = whole.clone();
        content[at] ^= 0x55;
        fs::write(world.path(), &content).unwrap();
        let found = world.found();
        assert_eq!(found.lines.len(), 2, "byte {at}");
        let damage = found.damage.unwrap_or_else(|| panic!("byte {at} was not missed"));
        assert_eq!(fs::read(&damage.kept).unwrap(), content);
        fs::remove_file(damage.kept).unwrap();
    }
}

#[test]
fn a_line_that_is_left_out_or_moved_is_noticed() {
    let world = World::new();
    let ends = world.write(3);
    let whole = fs::read(world.path()).unwrap();
    let part = |from: usize, to: usize| whole[ends[from] as usize..ends[to] as usize].to_vec();
    let start = whole[..ends[0] as usize].to_vec();
    fs::write(world.path(), [start.clone(), part(0, 1), part(2, 3)].concat()).unwrap();
    assert!(world.found().damage.is_some());
    fs::write(world.path(), [start, part(0, 1), part(0, 1), part(1, 3)].concat()).unwrap();
    let found = world.found();
    assert!(found.damage.is_some());
    assert_eq!(found.lines, lines(3));
}

#[test]
fn another_key_opens_nothing_and_changes_nothing() {
    let world = World::new();
    world.write(2);
    let before = fs::read(world.path()).unwrap();
    let error = Journal::open(&world.path(), Key::new()).unwrap_err();
    assert!(format!("{error:#}").contains("key"), "{error:#}");
    assert_eq!(fs::read(world.path()).unwrap(), before);
    fs::write(world.path(), "hello").unwrap();
    assert!(Journal::open(&world.path(), world.key.clone()).is_err());
}
