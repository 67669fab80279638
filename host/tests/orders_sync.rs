//! The example `orders-sync`: two PostgreSQL databases, the plugin's own configuration, the real program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod kinds;

use databases::Database;
use etl_testkit::postgres::PostgresServer;
use etl_testkit::project::Project;
use serde_json::Value;

const RUN: &[&str] = &["run", "orders-sync"];
const TABLE: &str = "CREATE TABLE orders (
    order_id bigint PRIMARY KEY, customer jsonb, status text NOT NULL, amount numeric(12,2) NOT NULL,
    currency text NOT NULL, updated_at timestamptz NOT NULL DEFAULT now())";

struct Shop {
    project: Project,
    source: Database,
    sink: Database,
}

impl Shop {
    /// Both sides as the plugin's default configuration expects them, with orders of an hour ago.
    async fn new(orders: u32) -> Self {
        let (source, sink) = (Database::new().await, Database::new().await);
        let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
        project.plugin("orders-sync");
        let variables = |prefix: &str, database: &Database| {
            let (at, password) = (&database.at, &PostgresServer::shared().password);
            format!(
                "{prefix}_HOST='{}'\n{prefix}_PORT={}\n{prefix}_DB='{}'\n{prefix}_USER='{}'\n{prefix}_PASSWORD='{password}'\n",
                at.host, at.port, at.name, at.user
            )
        };
        let env = variables("ORDERS", &source) + &variables("POSTGRES", &sink);
        project.write(".env", env);
        source.execute(TABLE).await;
        // Ten of each time; the totals have no cents, which a yen does not have.
        source
            .execute(&format!(
                r#"INSERT INTO orders SELECT i, format('{{"name": "customer %s"}}', i % 7)::jsonb, 'new', i * 1.00,
                   (ARRAY['EUR', ' usd', 'jpy', 'Kwd '])[i % 4 + 1], now() - interval '2 hours' + i / 10 * interval '1 second'
                   FROM generate_series(1, {orders}) i"#
            ))
            .await;
        Self {
            project,
            source,
            sink,
        }
    }

    fn run(&self) -> Value {
        self.project.result(RUN, 0)
    }

    fn settle(&self, delay: &str) {
        let yaml = format!("cursor: {{ settle_delay: {delay} }}\n");
        self.project.config("orders-sync", &yaml);
    }

    /// Fails unless the sink holds the last version of every order.
    async fn check(&self) {
        let rest = "status, amount::text, updated_at::text) FROM orders ORDER BY order_id";
        let source = format!(
            "SELECT concat_ws('|', order_id, customer::text, upper(trim(currency)), (amount * CASE upper(trim(currency)) \
             WHEN 'JPY' THEN 1 WHEN 'KWD' THEN 1000 ELSE 100 END)::bigint, {rest}"
        );
        let sink = format!(
            "SELECT concat_ws('|', order_id, customer::text, currency, total_minor, {rest}"
        );
        let (source, sink) = (
            self.source.texts(&source).await,
            self.sink.texts(&sink).await,
        );
        assert_eq!(sink, source);
    }

    async fn ids(&self) -> Vec<String> {
        let sql = "SELECT order_id::text FROM orders ORDER BY order_id";
        self.sink.texts(sql).await
    }
}

#[tokio::test]
async fn the_last_version_of_each_order_is_kept_and_no_other_is_written() {
    let shop = Shop::new(200).await;
    assert_eq!(shop.run()["rows"]["loaded"], 200);
    shop.check().await;
    let keep = "CREATE TABLE before AS SELECT order_id, xmin::text AS version FROM orders";
    let kept = "SELECT count(*) FROM orders JOIN before USING (order_id) WHERE orders.xmin::text = version";
    shop.sink.execute(keep).await;
    // Fifty orders change five times, each time later.
    for status in ["paid", "packed", "sent", "back", "repaid"] {
        let update = format!(
            "UPDATE orders SET status = '{status}', amount = amount + 1, updated_at = updated_at + interval '10 minutes' \
             WHERE order_id % 4 = 0"
        );
        shop.source.execute(&update).await;
    }
    assert_eq!(shop.run()["rows"]["loaded"], 50);
    shop.check().await;
    assert_eq!(shop.sink.number(kept).await, 150);
    assert_eq!(shop.run()["rows"]["extracted"], 0);
    // All of them once more: what is there as it is, is not written again.
    shop.sink
        .execute(&format!("DROP TABLE before; {keep}"))
        .await;
    let report = shop
        .project
        .result(&["run", "orders-sync", "--full-refresh"], 0);
    assert_eq!(report["rows"]["loaded"], 200);
    assert_eq!(shop.sink.number(kept).await, 200);
    shop.check().await;
}

/// Runs while a transaction is open that began before another one that has committed, then once more when both have.
async fn run_around_a_late_commit(shop: &Shop, settle_delay: &str) {
    let insert =
        |id| format!("INSERT INTO orders VALUES ({id}, NULL, 'new', 1, 'EUR', clock_timestamp())");
    let late = shop.source.at.connect().await.unwrap();
    late.batch_execute(&format!("BEGIN; {}", insert(2)))
        .await
        .unwrap();
    shop.source.execute(&insert(3)).await;
    shop.settle(settle_delay);
    shop.run();
    late.batch_execute("COMMIT").await.unwrap();
    // The delay has passed.
    shop.settle("0s");
    shop.run();
}

#[tokio::test]
async fn an_order_whose_transaction_commits_late_is_not_lost() {
    let shop = Shop::new(1).await;
    run_around_a_late_commit(&shop, "1m").await;
    assert_eq!(shop.ids().await, ["1", "2", "3"]);
    shop.check().await;
}

#[tokio::test]
async fn it_is_the_delay_that_waits_for_late_commits() {
    let shop = Shop::new(1).await;
    run_around_a_late_commit(&shop, "0s").await;
    assert_eq!(shop.ids().await, ["1", "3"]);
    // The remedy that the README names.
    shop.project
        .result(&["run", "orders-sync", "--full-refresh"], 0);
    shop.check().await;
}

#[tokio::test]
async fn a_bad_order_is_set_aside_and_replayed_after_mending() {
    let shop = Shop::new(8).await;
    shop.source
        .execute(
            "INSERT INTO orders VALUES
             (20, NULL, 'new', 0.50, 'xbt', now() - interval '1 hour'),
             (21, NULL, 'new', 0.25, 'XBT', now() - interval '1 hour'),
             (22, NULL, 'new', 12.30, 'JPY', now() - interval '1 hour')",
        )
        .await;
    let report = shop.run();
    assert_eq!(
        (&report["rows"]["loaded"], &report["rows"]["quarantined"]),
        (&8.into(), &3.into())
    );
    let reasons =
        "SELECT concat_ws(': ', column_name, reason) FROM etl_host.dead_letters ORDER BY id";
    let unknown = "currency: an unknown currency; if it is right, add it to settings.currencies";
    let rounded = "amount: more decimal places than the currency has, or too many digits";
    assert_eq!(shop.sink.texts(reasons).await, [unknown, unknown, rounded]);
    // The currency is right after all. One of the orders has changed meanwhile, and its letter is older than that.
    shop.project
        .config("orders-sync", "settings: { currencies: { XBT: 8 } }\n");
    shop.source
        .execute("UPDATE orders SET status = 'paid', updated_at = now() - interval '30 minutes' WHERE order_id = 21")
        .await;
    assert_eq!(shop.run()["rows"]["loaded"], 1);
    let replayed = shop
        .project
        .result(&["dead-letters", "replay", "orders-sync"], 1);
    assert_eq!(
        (&replayed["replayed"], &replayed["superseded"]),
        (&1.into(), &1.into()),
        "{replayed}"
    );
    let orders = "SELECT concat_ws('|', order_id, status, currency, total_minor) FROM orders WHERE order_id >= 20 ORDER BY 1";
    assert_eq!(
        shop.sink.texts(orders).await,
        ["20|new|XBT|50000000", "21|paid|XBT|25000000"]
    );
    // The amount was wrong: it is mended at its source, and comes with the next run.
    shop.source
        .execute("UPDATE orders SET amount = 12, updated_at = now() - interval '20 minutes' WHERE order_id = 22")
        .await;
    assert_eq!(shop.run()["rows"]["loaded"], 1);
    assert_eq!(
        shop.sink.texts(orders).await.last().unwrap(),
        "22|new|JPY|12"
    );
}
