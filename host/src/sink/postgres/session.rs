//! What a writing connection tells the server about itself before its first transaction.

use tokio_postgres::Client;

use crate::error::Result;

/// Settings that last as long as the connection. All that write set them, so none is left over from another user.
///
/// - A chunk's transaction is idle while a slow source is waited for, and may be longer than the server allows by
///   default. It does not last for ever: an attempt has its limit, and a host that was stopped in the middle is ended by
///   the next attempt (`checkpoint::begin`).
/// - The server looks for a host whose machine is gone within a minute, so that its locks go too.
///
/// `statement_timeout` and `lock_timeout` stay as the server has them: the first would count the time that rows take on
/// their way through a slow network, and waiting for a lock is bounded by `sink.timeouts.step`. What the host gave up
/// the server ends by itself, as below.
const SETTINGS: &str = "SELECT set_config('application_name', $1, false), \
     set_config('idle_in_transaction_session_timeout', '0', false), \
     set_config('tcp_keepalives_idle', '30', false), \
     set_config('tcp_keepalives_interval', '10', false), \
     set_config('tcp_keepalives_count', '3', false)";

/// So that a statement ends when its host is gone or has given it up. Servers before version 14 do not know it, some
/// systems cannot do it.
const LOOK_FOR_THE_HOST: &str = "SELECT set_config(name, '10s', false) FROM pg_settings \
     WHERE name = 'client_connection_check_interval'";

/// Tells the server who writes, and how to notice that nobody does any more.
pub async fn introduce(client: &Client, name: &str) -> Result<()> {
    // The server cuts names at 63 bytes by itself.
    client.execute(SETTINGS, &[&name]).await?;
    match client.batch_execute(LOOK_FOR_THE_HOST).await {
        Err(error) if error.as_db_error().is_none() => Err(error.into()),
        _ => Ok(()),
    }
}
