//! Where the server is and how to reach it, resolved once from the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::store::{Result, StoreError};

/// A server's address with what is needed to log in.
#[derive(Clone)]
pub struct Address {
    pub(super) transport: Transport,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
    /// Without user and password, for people.
    pub(super) shown: String,
    /// Limit of one attempt to connect, and of one answer.
    pub(super) timeout: Duration,
    /// PEM of the certificate authority for `rediss://`, where one is configured.
    tls_ca: Option<Vec<u8>>,
}

#[derive(Clone)]
pub(super) enum Transport {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
    },
    Tls {
        host: String,
        port: u16,
        config: Arc<rustls::ClientConfig>,
    },
}

/// A place that takes connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A port.
    Tcp {
        /// Name or address.
        host: String,
        /// Number.
        port: u16,
    },
}

impl From<&Path> for Endpoint {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl From<&PathBuf> for Endpoint {
    fn from(path: &PathBuf) -> Self {
        Self::Unix(path.clone())
    }
}

/// User and password, already resolved.
#[derive(Clone, Default)]
pub struct Login {
    /// User for AUTH; `None` = the default user.
    pub username: Option<String>,
    /// Password; `None` = no AUTH.
    pub password: Option<String>,
}

impl Address {
    /// Parses `redis://host[:port][/db]`, `rediss://...`, `redis+unix:///path[?db=N]` (also `unix://`). `tls_ca` is a PEM file.
    pub fn parse(url: &str, login: Login, timeout: Duration, tls_ca: Option<&str>) -> Result<Self> {
        let bad = |why: &str| StoreError::Denied(format!("redis.url \"{url}\": {why}"));
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| bad("no scheme (redis://, rediss://, redis+unix://)"))?;
        let database = |text: &str| match text {
            "" => Ok(0),
            text => text
                .parse::<i64>()
                .map_err(|_| bad("the database is no number")),
        };
        let (transport, database) = match scheme {
            "redis+unix" | "unix" => {
                let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
                if path.is_empty() {
                    return Err(bad("no path"));
                }
                (
                    Transport::Unix(PathBuf::from(path)),
                    database(query.strip_prefix("db=").unwrap_or(query))?,
                )
            }
            "redis" | "rediss" => {
                let (place, db) = rest.split_once('/').unwrap_or((rest, ""));
                let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
                let (host, port) = match place.rsplit_once(':') {
                    Some((host, port)) if !port.contains(']') => (
                        host,
                        port.parse().map_err(|_| bad("the port is no number"))?,
                    ),
                    _ => (place, 6379),
                };
                let host = host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned();
                if host.is_empty() {
                    return Err(bad("no host"));
                }
                let transport = if scheme == "rediss" {
                    Transport::Tls {
                        host,
                        port,
                        config: tls(tls_ca)?,
                    }
                } else {
                    Transport::Tcp { host, port }
                };
                (transport, database(db)?)
            }
            _ => return Err(bad("unknown scheme (redis://, rediss://, redis+unix://)")),
        };
        let pem =
            match (&transport, tls_ca) {
                (Transport::Tls { .. }, Some(path)) => Some(std::fs::read(path).map_err(|e| {
                    StoreError::Denied(format!("read redis.tls_ca \"{path}\": {e}"))
                })?),
                _ => None,
            };
        let shown = match &transport {
            Transport::Unix(path) => format!("redis+unix://{}", path.display()),
            Transport::Tcp { host, port } => format!("redis://{host}:{port}/{database}"),
            Transport::Tls { host, port, .. } => format!("rediss://{host}:{port}/{database}"),
        };
        Ok(Self {
            transport,
            username: login.username,
            password: login.password,
            database,
            shown,
            timeout,
            tls_ca: pem,
        })
    }

    /// Where the server takes connections, for who stands between it and us; `None` with TLS, where nobody can.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match &self.transport {
            Transport::Unix(path) => Some(Endpoint::Unix(path.clone())),
            Transport::Tcp { host, port } => Some(Endpoint::Tcp {
                host: host.clone(),
                port: *port,
            }),
            Transport::Tls { .. } => None,
        }
    }

    /// The same server with the same login, reached through who listens on this Unix socket; to people it is shown as it
    /// was.
    #[must_use]
    pub fn through(&self, socket: &Path) -> Self {
        Self {
            transport: Transport::Unix(socket.to_owned()),
            tls_ca: None,
            ..self.clone()
        }
    }

    /// Without user and password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Limit of one attempt to connect, and of one answer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same server for the redis crate.
    pub fn client(&self) -> Result<redis::Client> {
        use redis::IntoConnectionInfo as _;
        let addr = match &self.transport {
            Transport::Unix(path) => redis::ConnectionAddr::Unix(path.clone()),
            Transport::Tcp { host, port } => redis::ConnectionAddr::Tcp(host.clone(), *port),
            Transport::Tls { host, port, .. } => redis::ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            },
        };
        let mut settings = redis::RedisConnectionInfo::default().set_db(self.database);
        if let Some(user) = &self.username {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        let info = addr
            .into_connection_info()
            .map_err(|e| StoreError::Denied(e.to_string()))?
            .set_redis_settings(settings);
        let failed = |e: redis::RedisError| StoreError::Denied(format!("{}: {e}", self.shown));
        match &self.tls_ca {
            Some(pem) => redis::Client::build_with_tls(
                info,
                redis::TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem.clone()),
                },
            )
            .map_err(failed),
            None => redis::Client::open(info).map_err(failed),
        }
    }
}

fn tls(ca: Option<&str>) -> Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    match ca {
        Some(path) => {
            use rustls::pki_types::pem::PemObject as _;
            let failed =
                |e: String| StoreError::Denied(format!("read redis.tls_ca \"{path}\": {e}"));
            let certs = rustls::pki_types::CertificateDer::pem_file_iter(path)
                .map_err(|e| failed(e.to_string()))?;
            for cert in certs {
                roots
                    .add(cert.map_err(|e| failed(e.to_string()))?)
                    .map_err(|e| failed(e.to_string()))?;
            }
        }
        None => {
            for cert in rustls_native_certs::load_native_certs().certs {
                // One certificate of the system that rustls does not like must not keep us from the others.
                if let Err(error) = roots.add(cert) {
                    tracing::debug!(%error, "a certificate of the system was passed over");
                }
            }
        }
    }
    if roots.is_empty() {
        return Err(StoreError::Denied(
            "no certificate authority found for rediss:// (set redis.tls_ca)".to_owned(),
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| StoreError::Denied(format!("set up TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
