//! The proxy of `chaos` in a folder of its own.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Running as long as it is not dropped; dropping it breaks all its connections.
pub(crate) struct Proxy {
    _folder: TempDir,
    proxy: pipelined::chaos::Proxy,
}

impl Proxy {
    /// Listens on a socket of its own in front of `target`.
    pub(crate) async fn start(target: PathBuf) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("proxy-")
            .tempdir()
            .expect("make a folder");
        let proxy = pipelined::chaos::Proxy::start(&folder.path().join("redis.sock"), &target, 1);
        Self {
            _folder: folder,
            proxy: proxy.expect("listen"),
        }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        Path::to_owned(self.proxy.socket())
    }

    /// The reply to the next script is lost. The script must be known to the server: a lost NOSCRIPT loses nothing.
    pub(crate) fn lose_next_reply(&self) {
        self.proxy.lose_next_reply();
    }
}
