//! One batch of logins.

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use login_analytics_demo::logins::{Login, Logins};
use login_analytics_demo::world::World;

/// As many as a batch has unless the configuration says otherwise.
pub const ROWS: usize = 8_192;

pub fn logins() -> Vec<Login> {
    let world = World::new().unwrap();
    let rows = ROWS as u64;
    Logins::new(&world, 1, rows, 1).month(rows).collect()
}

/// The four columns of the demo's query.
pub fn batch() -> RecordBatch {
    let logins = logins();
    let users = logins
        .iter()
        .map(|login| i32::try_from(login.user_id).unwrap());
    let times = logins.iter().map(|login| login.time);
    let addresses: StringArray = logins
        .iter()
        .map(|login| login.visit.ip_address.as_deref())
        .collect();
    let user_agents: StringArray = logins.iter().map(|login| login.visit.user_agent).collect();
    RecordBatch::try_from_iter_with_nullable([
        (
            "user_id",
            Arc::new(Int32Array::from_iter_values(users)) as ArrayRef,
            false,
        ),
        (
            "login_time",
            Arc::new(TimestampMillisecondArray::from_iter_values(times)),
            false,
        ),
        ("ip_address", Arc::new(addresses), true),
        ("user_agent", Arc::new(user_agents), true),
    ])
    .unwrap()
}

/// Texts of which few are distinct, dictionary-encoded and plain.
pub fn words() -> [ArrayRef; 2] {
    let logins = logins();
    let texts = || logins.iter().map(|login| login.visit.user_agent);
    let dictionary: DictionaryArray<Int32Type> = texts().collect();
    let plain: StringArray = texts().collect();
    [Arc::new(dictionary), Arc::new(plain)]
}
