//! Loops that move the rows and do nothing else: no plugin, no checks, no checkpoint, nothing to go on from. They are
//! what the host is measured by. Each runs in a process of its own, which is this program, started again.

use bytes::{BufMut, Bytes, BytesMut};
use etl_testkit::process::Program;
use futures_util::{SinkExt, TryStreamExt, pin_mut};
use serde::{Deserialize, Serialize};
use tiberius::{AuthMethod, Client, ColumnData, Config, EncryptionLevel, Row};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_postgres::NoTls;
use tokio_util::compat::TokioAsyncWriteCompatExt;

use super::host_run::{COLUMNS, KEY};
use super::measure::{self, Line};
use super::servers::{Servers, Shard, Sink};

const JOB_VARIABLE: &str = "ETL_BENCH_LOOP";
/// As large as the host's.
const PACKET_SIZE: u32 = 16_000;
/// Bytes that are handed over at a time.
const FRAME: usize = 256 * 1024;
/// Bytes of rows that are merged at a time, which is the host's flush.
const FLUSH: usize = 4 << 20;
const FLUSHES_PER_COMMIT: usize = 16;
/// Days from 0001-01-01 to 2000-01-01, PostgreSQL's zero.
const DAYS_TO_2000: i64 = 730_119;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Write {
    /// The rows are read and dropped.
    Nothing,
    /// COPY into a table without a key.
    Copy,
    /// COPY into a staging table and INSERT … ON CONFLICT DO UPDATE from there, in the order in which the rows come.
    Merge,
}

/// What such a process is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    shards: Vec<Shard>,
    sink: String,
    /// Otherwise the rows come from memory.
    read: bool,
    rows: u64,
    write: Write,
}

/// Runs a loop in a process of its own.
pub fn take(servers: &Servers, sink: &Sink, read: bool, write: Write) -> Line {
    servers.execute(sink, &tables(write, servers.shards.len()));
    let job = Job {
        shards: servers.shards.clone(),
        sink: sink.url.clone(),
        read,
        rows: servers.rows_per_shard,
        write,
    };
    let program = Program::new(std::env::current_exe().unwrap())
        .env(JOB_VARIABLE, serde_json::to_string(&job).unwrap());
    measure::line(servers, program, |output| output.trim().parse().unwrap())
}

fn tables(write: Write, shards: usize) -> String {
    let columns = "user_id integer, login_time timestamp, ip_address text, user_agent text";
    match write {
        Write::Nothing => String::new(),
        Write::Copy => format!(
            "DROP TABLE IF EXISTS bare_copy; CREATE TABLE bare_copy ({columns}); CHECKPOINT"
        ),
        Write::Merge => {
            let stages = (0..shards).map(|index| {
                format!("DROP TABLE IF EXISTS stage_{index}; CREATE UNLOGGED TABLE stage_{index} (shard text, {columns});")
            });
            format!(
                "CREATE TABLE IF NOT EXISTS bare_merge (shard text, {columns}, PRIMARY KEY ({KEY})); {} CHECKPOINT",
                stages.collect::<String>()
            )
        }
    }
}

impl Job {
    /// What this process was started for, if it is such a loop.
    pub fn of_this_process() -> Option<Self> {
        let job = std::env::var(JOB_VARIABLE).ok()?;
        Some(serde_json::from_str(&job).unwrap())
    }

    pub fn run(self) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let rows = runtime.block_on(async {
            let shards = self.shards.iter().enumerate().map(|(index, shard)| {
                let (shard, sink) = (shard.clone(), self.sink.clone());
                tokio::spawn(move_shard(
                    index, shard, sink, self.read, self.rows, self.write,
                ))
            });
            let mut rows = 0;
            for shard in shards.collect::<Vec<_>>() {
                rows += shard.await.unwrap();
            }
            rows
        });
        println!("{rows}");
    }
}

async fn move_shard(
    index: usize,
    shard: Shard,
    sink: String,
    read: bool,
    rows: u64,
    write: Write,
) -> u64 {
    let frame = if write == Write::Merge { FLUSH } else { FRAME };
    let (frames_in, mut frames) = mpsc::channel::<Bytes>(1);
    let reading = tokio::spawn(async move {
        if read {
            read_shard(&shard, write, frame, frames_in).await
        } else {
            repeat_row(index, rows, write, frame, frames_in).await
        }
    });
    match write {
        Write::Nothing => while frames.recv().await.is_some() {},
        Write::Copy => copy(&sink, &mut frames).await,
        Write::Merge => merge(index, &sink, &mut frames).await,
    }
    reading.await.unwrap()
}

async fn read_shard(shard: &Shard, write: Write, frame: usize, out: mpsc::Sender<Bytes>) -> u64 {
    let mut config = Config::new();
    config.host(&shard.host);
    config.port(shard.port);
    config.database(&shard.database);
    config.authentication(AuthMethod::sql_server(&shard.user, &shard.password));
    config.encryption(EncryptionLevel::NotSupported);
    config.packet_size(PACKET_SIZE);
    let stream = TcpStream::connect(config.get_addr()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut client = Client::connect(config, stream.compat_write())
        .await
        .unwrap();
    let columns = match write {
        Write::Merge => COLUMNS,
        _ => COLUMNS.split_once(", ").unwrap().1,
    };
    let query = format!("SELECT {columns} FROM user_logins ORDER BY login_time");
    let mut answer = client.simple_query(query).await.unwrap().into_row_stream();
    let mut rows = 0;
    let mut bytes = BytesMut::with_capacity(frame + frame / 8);
    while let Some(row) = answer.try_next().await.unwrap() {
        rows += 1;
        if write == Write::Nothing {
            continue;
        }
        put_row(row, &mut bytes);
        if bytes.len() >= frame {
            out.send(bytes.split().freeze()).await.unwrap();
        }
    }
    if !bytes.is_empty() {
        out.send(bytes.freeze()).await.unwrap();
    }
    rows
}

/// Rows from memory, as the fixture `made-logins` makes them: in the order of their time, of users in no order.
async fn repeat_row(
    index: usize,
    rows: u64,
    write: Write,
    frame: usize,
    out: mpsc::Sender<Bytes>,
) -> u64 {
    let agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36";
    let shard = ["left", "right"][index % 2];
    let mut bytes = BytesMut::with_capacity(frame + frame / 8);
    for row in 0..rows {
        let user = (row as u32).wrapping_mul(2_654_435_761) >> 1;
        if write == Write::Merge {
            bytes.put_i16(5);
            put(shard.as_bytes(), &mut bytes);
        } else {
            bytes.put_i16(4);
        }
        put(&user.to_be_bytes(), &mut bytes);
        put(&(row as i64).to_be_bytes(), &mut bytes);
        put(b"193.0.6.139", &mut bytes);
        put(agent.as_bytes(), &mut bytes);
        if bytes.len() >= frame {
            out.send(bytes.split().freeze()).await.unwrap();
        }
    }
    out.send(bytes.freeze()).await.unwrap();
    rows
}

fn put_row(row: Row, bytes: &mut BytesMut) {
    bytes.put_i16(row.len() as i16);
    for value in row {
        match value {
            ColumnData::I32(Some(value)) => put(&value.to_be_bytes(), bytes),
            ColumnData::DateTime2(Some(value)) => {
                let days = i64::from(value.date().days()) - DAYS_TO_2000;
                let increments = value.time().increments() as i64;
                let micros = if value.time().scale() == 7 {
                    increments / 10
                } else {
                    increments * 1_000
                };
                put(&(days * 86_400_000_000 + micros).to_be_bytes(), bytes);
            }
            ColumnData::String(Some(value)) => put(value.as_bytes(), bytes),
            ColumnData::String(None) => bytes.put_i32(-1),
            other => panic!("not in this table: {other:?}"),
        }
    }
}

fn put(value: &[u8], bytes: &mut BytesMut) {
    bytes.put_i32(value.len() as i32);
    bytes.put_slice(value);
}

async fn connect(sink: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(sink, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = &[0xff, 0xff];

async fn copy(sink: &str, frames: &mut mpsc::Receiver<Bytes>) {
    let client = connect(sink).await;
    let copy = client
        .copy_in("COPY bare_copy FROM STDIN (FORMAT binary)")
        .await
        .unwrap();
    pin_mut!(copy);
    copy.send(Bytes::from_static(HEADER)).await.unwrap();
    while let Some(frame) = frames.recv().await {
        copy.send(frame).await.unwrap();
    }
    copy.send(Bytes::from_static(TRAILER)).await.unwrap();
    copy.finish().await.unwrap();
}

async fn merge(index: usize, sink: &str, flushes: &mut mpsc::Receiver<Bytes>) {
    let client = connect(sink).await;
    let insert = format!(
        "INSERT INTO bare_merge SELECT * FROM stage_{index} ON CONFLICT ({KEY}) \
         DO UPDATE SET ip_address = excluded.ip_address, user_agent = excluded.user_agent"
    );
    client.batch_execute("BEGIN").await.unwrap();
    let mut merged = 0;
    while let Some(flush) = flushes.recv().await {
        let copy = client
            .copy_in(&format!("COPY stage_{index} FROM STDIN (FORMAT binary)"))
            .await
            .unwrap();
        pin_mut!(copy);
        copy.send(Bytes::from_static(HEADER)).await.unwrap();
        copy.send(flush).await.unwrap();
        copy.send(Bytes::from_static(TRAILER)).await.unwrap();
        copy.finish().await.unwrap();
        client.execute(&insert, &[]).await.unwrap();
        client
            .batch_execute(&format!("TRUNCATE stage_{index}"))
            .await
            .unwrap();
        merged += 1;
        if merged % FLUSHES_PER_COMMIT == 0 {
            client.batch_execute("COMMIT; BEGIN").await.unwrap();
        }
    }
    client.batch_execute("COMMIT").await.unwrap();
}
