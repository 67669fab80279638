//! The last row of each key that the source's side gives: an upsert keeps no other.
//!
//! The keys lie in a temporary file, so that memory does not grow with them.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::tally::{Cell, Checksum, Place, Tallies};
use crate::error::Result;

const TABLES: &str = r"
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE keys (
    tbl INTEGER, key BLOB, attempt INTEGER, checksum BLOB, partition TEXT, place INTEGER, position INTEGER,
    PRIMARY KEY (tbl, key, attempt)
) WITHOUT ROWID;
CREATE TABLE contested (tbl INTEGER, key BLOB, PRIMARY KEY (tbl, key)) WITHOUT ROWID;
";

/// A row with a key.
pub struct KeyedRow<'a> {
    /// Its table.
    pub table: usize,
    /// The checksum of its key.
    pub key: Checksum,
    /// The checksum of its values.
    pub checksum: Checksum,
    /// Its partition, where partitions are told apart.
    pub partition: Option<&'a str>,
    /// Where it is counted.
    pub place: Place,
}

/// All keys so far.
pub struct KeyFile {
    database: Connection,
    contested: i64,
}

impl KeyFile {
    /// An empty file, which is gone when this is.
    pub fn open() -> Result<Self> {
        // An empty name stands for a file that nobody else sees.
        let database = Connection::open("")?;
        database.execute_batch(TABLES)?;
        Ok(Self {
            database,
            contested: 0,
        })
    }

    /// Forgets what an earlier attempt at a partition gave.
    pub fn forget(&self, attempt: usize) -> Result<()> {
        let attempt = number(attempt);
        self.database
            .execute("DELETE FROM keys WHERE attempt = ?1", [attempt])?;
        Ok(())
    }

    /// Begins to take rows of a partition.
    pub fn begin(&mut self) -> Result<Transaction<'_>> {
        Ok(self.database.transaction()?)
    }

    /// Finds keys that several partitions give with different values, of which the sink may hold either, and adds the
    /// last row of every other key to the tallies of its table.
    pub fn settle(&mut self, tallies: &mut [Tallies]) -> Result<()> {
        self.database.execute(
            "INSERT INTO contested SELECT tbl, key FROM keys GROUP BY tbl, key HAVING count(DISTINCT checksum) > 1",
            [],
        )?;
        self.contested = self
            .database
            .query_row("SELECT count(*) FROM contested", [], |row| row.get(0))?;
        let mut statement = self.database.prepare(
            "SELECT tbl, key, checksum, partition, place, position, \
             EXISTS (SELECT 1 FROM contested c WHERE c.tbl = keys.tbl AND c.key = keys.key) \
             FROM keys GROUP BY tbl, key",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let table: i64 = row.get(0)?;
            let Some(tallies) = usize::try_from(table)
                .ok()
                .and_then(|table| tallies.get_mut(table))
            else {
                continue;
            };
            if row.get(6)? {
                let cell = contested(tallies);
                tallies.add(cell, read(&row.get::<_, Vec<u8>>(1)?))?;
                continue;
            }
            let partition: Option<String> = row.get(3)?;
            let place = match row.get(4)? {
                0 => Place::Window(row.get(5)?),
                _ => Place::Anywhere,
            };
            let cell = Cell {
                partition: tallies.partition(partition.as_deref()),
                range: place,
            };
            tallies.add(cell, read(&row.get::<_, Vec<u8>>(2)?))?;
        }
        Ok(())
    }

    /// Whether a row of the sink is one of those that several partitions give for its key.
    pub fn is_one_of(&self, table: usize, key: Checksum, checksum: Checksum) -> Result<bool> {
        if self.contested == 0 {
            return Ok(false);
        }
        let found = self
            .database
            .prepare_cached(
                "SELECT 1 FROM contested JOIN keys USING (tbl, key) WHERE tbl = ?1 AND key = ?2 AND checksum = ?3",
            )?
            .query_row(
                params![number(table), key.to_le_bytes(), checksum.to_le_bytes()],
                |_| Ok(()),
            )
            .optional()?;
        Ok(found.is_some())
    }
}

/// Takes a row; it replaces one with the same key that the attempt gave before.
pub fn put(keys: &Transaction<'_>, attempt: usize, row: &KeyedRow<'_>) -> Result<()> {
    let (place, window) = match row.place {
        Place::Window(window) => (0, window),
        _ => (1, 0),
    };
    keys.prepare_cached("INSERT OR REPLACE INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
            number(row.table),
            row.key.to_le_bytes(),
            number(attempt),
            row.checksum.to_le_bytes(),
            row.partition,
            place,
            window
        ])?;
    Ok(())
}

/// Where rows of contested keys are counted, by their keys alone.
pub fn contested(tallies: &mut Tallies) -> Cell {
    Cell {
        partition: tallies.partition(None),
        range: Place::Contested,
    }
}

fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn read(bytes: &[u8]) -> Checksum {
    bytes
        .try_into()
        .map(u128::from_le_bytes)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: u128, checksum: u128, window: i64) -> KeyedRow<'static> {
        KeyedRow {
            table: 0,
            key,
            checksum,
            partition: None,
            place: Place::Window(window),
        }
    }

    #[test]
    fn the_last_row_of_a_key_counts_and_a_contested_key_only_by_itself() {
        let mut file = KeyFile::open().unwrap();
        for (attempt, rows) in [
            (
                0,
                vec![row(1, 10, 0), row(1, 11, 5), row(2, 20, 0), row(3, 30, 0)],
            ),
            (1, vec![row(2, 21, 0), row(3, 30, 0)]),
            (2, vec![row(4, 40, 0)]),
        ] {
            let keys = file.begin().unwrap();
            for row in &rows {
                put(&keys, attempt, row).unwrap();
            }
            keys.commit().unwrap();
        }
        file.forget(2).unwrap();
        let mut tallies = [Tallies::default()];
        file.settle(&mut tallies).unwrap();
        let mut cells: Vec<_> = tallies[0]
            .cells()
            .map(|(cell, tally)| (cell.range, tally.rows, tally.sum))
            .collect();
        cells.sort_unstable();
        assert_eq!(
            cells,
            [
                (Place::Window(0), 1, 30),
                (Place::Window(5), 1, 11),
                (Place::Contested, 1, 2)
            ]
        );
        let one_of = [(2, 20), (2, 21), (2, 22), (1, 11)]
            .map(|(key, checksum)| file.is_one_of(0, key, checksum).unwrap());
        assert_eq!(one_of, [true, true, false, false]);
    }
}
