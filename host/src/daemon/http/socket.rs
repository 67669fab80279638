//! The daemon's Unix socket in the state folder: who may open the folder's files may give the daemon orders.
//!
//! A path longer than a socket's address (108 bytes) is reached through the open folder, so any state folder will do.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// The socket's name in the state folder.
pub const NAME: &str = "daemon.sock";

/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// The state folder, open: its path by way of `/proc` is short, wherever it lies.
struct Folder(File);

impl Folder {
    fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{NAME}", self.0.as_raw_fd()))
    }
}

/// Listens in the state folder, in the place of a daemon that has died. The caller holds the folder's lock, so that no
/// daemon lives there.
pub fn bind(state_dir: &Path) -> io::Result<UnixListener> {
    let folder = Folder::open(state_dir)?;
    let socket = UnixSocket::new_stream()?;
    // Before it has a name, so that there is no moment in which others could connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    match fs::remove_file(folder.socket()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    socket.bind(folder.socket())?;
    socket.listen(BACKLOG)
}

/// Connects to the daemon of a state folder; `None` if there is none.
pub async fn connect(state_dir: &Path) -> io::Result<Option<UnixStream>> {
    let connected = match Folder::open(state_dir) {
        Ok(folder) => UnixStream::connect(folder.socket()).await,
        Err(error) => Err(error),
    };
    match connected {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Takes the socket away. What cannot be taken away is replaced by the next daemon.
pub fn remove(state_dir: &Path) {
    let _ = fs::remove_file(state_dir.join(NAME));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn any_folder_will_do_and_a_dead_daemon_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(100)).join("y".repeat(100));
        assert!(connect(&deep).await.unwrap().is_none(), "no folder");
        fs::create_dir_all(&deep).unwrap();
        assert!(connect(&deep).await.unwrap().is_none(), "no socket");
        drop(bind(&deep).unwrap());
        assert!(deep.join(NAME).exists());
        assert!(connect(&deep).await.unwrap().is_none(), "nobody behind it");
        let listener = bind(&deep).unwrap();
        let mode = fs::metadata(deep.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut client = connect(&deep).await.unwrap().unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"hello").await.unwrap();
        drop(client);
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        remove(&deep);
        assert!(!deep.join(NAME).exists());
    }
}
