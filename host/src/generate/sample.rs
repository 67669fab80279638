//! The sample data of a new crate: what its pipeline reads until its author has put something better there.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::Template;
use crate::error::{Error, ErrorKind, Result};

const SHOP: &str = include_str!("../../templates/shared/shop.sql");

/// Writes `data/` into a crate's folder.
pub(super) fn write(template: Template, folder: &Path) -> Result<()> {
    let data = folder.join("data");
    let made = match template {
        Template::CustomSink => fs::create_dir_all(data.join("export")),
        _ => fs::create_dir_all(&data),
    };
    made.map_err(|error| {
        Error::new(
            ErrorKind::Refused,
            format!("cannot make {}", data.display()),
        )
        .caused_by(error)
    })?;
    let failed =
        |error: rusqlite::Error| Error::from(error).while_trying("cannot make the sample data");
    if template == Template::CustomSource {
        return Ok(());
    }
    let connection = Connection::open(data.join("shop.db")).map_err(failed)?;
    connection.execute_batch(SHOP).map_err(failed)
}
