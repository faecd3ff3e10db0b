//! The store's own laws, checked and, where that loses nothing, mended.

use rusqlite::{Connection, Result};

/// A law: what it says, how to count what breaks it, and how to mend that.
struct Law {
    broken: &'static str,
    count: &'static str,
    mend: Option<&'static str>,
}

const LAWS: &[Law] = &[
    Law {
        broken: "commands that wait but have no connection: nobody will ever work on them",
        count: "SELECT count(*) FROM command WHERE state = 0 AND connection NOT IN (SELECT id FROM setup)",
        mend: Some(
            "UPDATE command SET state = 3, reason = 'its connection does not exist' WHERE state = 0 AND connection NOT IN (SELECT id FROM setup)",
        ),
    },
    Law {
        broken: "events without the inbox entry they were read from",
        count: "SELECT count(*) FROM event WHERE entry NOT IN (SELECT id FROM inbox)",
        mend: None,
    },
    Law {
        broken: "events that wait for a look-up which is not under way",
        count: "SELECT count(*) FROM event e WHERE pending AND NOT EXISTS
                (SELECT 1 FROM command c WHERE c.event = e.id AND c.state IN (0, 1, 3, 4))",
        mend: Some(
            "UPDATE event SET pending = 0 WHERE pending AND NOT EXISTS
             (SELECT 1 FROM command c WHERE c.event = event.id AND c.state IN (0, 1, 3, 4))",
        ),
    },
    Law {
        broken: "slots taken by commands that do not exist",
        count: "SELECT count(*) FROM slot WHERE command NOT IN (SELECT id FROM command)",
        mend: Some("DELETE FROM slot WHERE command NOT IN (SELECT id FROM command)"),
    },
    Law {
        broken: "leases left without an end",
        count: "SELECT count(*) FROM command WHERE state = 1 AND lease_until IS NULL",
        mend: Some("UPDATE command SET lease_until = 0 WHERE state = 1 AND lease_until IS NULL"),
    },
    Law {
        broken: "references to journal rows that do not exist",
        count: "SELECT count(*) FROM reference r WHERE NOT EXISTS (SELECT 1 FROM inbox i WHERE i.id = r.id)
                AND NOT EXISTS (SELECT 1 FROM exchange x WHERE x.id = r.id)",
        mend: Some("DELETE FROM reference WHERE id NOT IN (SELECT id FROM inbox) AND id NOT IN (SELECT id FROM exchange)"),
    },
];

pub(super) fn check(db: &Connection, repair: bool) -> Result<Vec<String>> {
    let mut found: Vec<String> = db
        .prepare("PRAGMA quick_check")?
        .query_map([], |row| row.get::<_, String>(0))?
        .filter(|line| !matches!(line, Ok(line) if line == "ok"))
        .map(|line| line.map(|line| format!("the file itself: {line}")))
        .collect::<Result<_>>()?;
    for law in LAWS {
        let broken: i64 = db.query_row(law.count, [], |row| row.get(0))?;
        if broken == 0 {
            continue;
        }
        let fate = match law.mend {
            Some(mend) if repair => {
                db.execute(mend, [])?;
                "mended"
            }
            Some(_) => "can be mended by --repair",
            None => "a person must look",
        };
        found.push(format!("{broken} {} ({fate})", law.broken));
    }
    Ok(found)
}
