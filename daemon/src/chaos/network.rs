//! The proxy between this daemon and its Redis: all of the daemon's own connections go through it where experiments may
//! run, so that a network with faults is ours to make and to mend, and nobody else's connections are touched.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Proxy;
use crate::store::redis::Address;

/// Why there are no experiments with the network under TLS.
pub(super) const REFUSED: &str = "the connections to Redis are encrypted (rediss://), and nothing can stand between their two \
     ends; experiments with the network need redis://, redis+unix:// or a managed Redis";

/// Starts a proxy on `socket` in front of `server`. Returns it with the address of the same server behind it; `None` where
/// nothing can stand between (TLS). `socket` is in a folder of this daemon alone: what an earlier life left there is
/// removed.
///
/// # Errors
/// When it cannot listen there.
pub fn between(server: &Address, socket: &Path, seed: u64) -> io::Result<Option<(Address, Proxy)>> {
    let Some(endpoint) = server.endpoint() else {
        return Ok(None);
    };
    match std::fs::remove_file(socket) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        _ => {}
    }
    let proxy = Proxy::start(socket, endpoint, seed)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(Some((server.through(socket), proxy)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::redis::Login;

    fn address(url: &str) -> Address {
        let login = Login {
            username: Some("me".to_owned()),
            password: Some("secret".to_owned()),
        };
        Address::parse(url, login, Duration::from_secs(1), None).unwrap()
    }

    #[tokio::test]
    async fn the_address_leads_to_the_proxy_and_is_shown_as_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("redis.sock");
        // Of a life that ended badly.
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let server = address("redis://example.invalid:7000/3");
        let (through, proxy) = between(&server, &socket, 1).unwrap().unwrap();
        assert_eq!(proxy.socket(), socket);
        assert_eq!(through.shown(), "redis://example.invalid:7000/3");
        assert_eq!(through.endpoint(), Some((&*socket).into()));
        let client = through.client().unwrap();
        let info = client.get_connection_info();
        assert_eq!(info.addr().to_string(), socket.display().to_string());
        assert_eq!(info.redis_settings().db(), 3);
        assert_eq!(info.redis_settings().username(), Some("me"));
        assert_eq!(info.redis_settings().password(), Some("secret"));
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn nothing_can_stand_before_tls() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("redis.sock");
        let server = address("rediss://example.invalid:7000");
        assert!(between(&server, &socket, 1).unwrap().is_none());
        assert!(!socket.exists());
    }
}
