//! Looks at a server before anything is kept in it: is it new enough, a master, of a kind that we can use, and is it set
//! up so that it loses nothing? What it can do is found by trying, never by its version string (Valkey says
//! redis_version 7.2.4). Read-only. Called once per connection set-up by the store, and by `Admin::server`.

use pipectl_shared::config::Durability;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::info::Info;
use super::survival::unsafe_setting;
use crate::logging::clean;
use crate::store::{Server, StoreError};

/// Commands without which the pipeline cannot run. `EVAL_RO` came with Redis 7.0, the others before.
const NEEDED: [&str; 11] = [
    "xadd",
    "xreadgroup",
    "xack",
    "xautoclaim",
    "xclaim",
    "xpending",
    "xinfo",
    "xgroup",
    "xtrim",
    "evalsha",
    "eval_ro",
];

/// Runs only where scripts may begin with `#!lua` and declare what they need (Redis 7.0, Valkey 7.2).
const PROBE: &str = "#!lua flags=no-writes,allow-oom\nreturn redis.sha1hex('')";

/// SHA-1 of nothing: a server that answers anything else does not run Lua as Redis does.
const PROBE_ANSWER: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

/// Why a server is not used. Every message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Older than Redis 7.0 or Valkey 7.2, or of another make that lacks something.
    #[error(
        "{server} lacks {lacks}; the pipeline needs Redis 7.0 or newer or Valkey 7.2 or newer: apt-get install redis-server \
         on Debian 12 or Ubuntu 24.04, dnf install valkey on Fedora, or redis.url = \"managed\" with one of them installed"
    )]
    TooOld {
        /// As it names itself.
        server: String,
        /// What was looked for and not found.
        lacks: String,
    },
    /// A replica refuses writes.
    #[error(
        "this server is a replica of {master}; connect to the master (redis.url), or make this one the master: REPLICAOF NO \
         ONE"
    )]
    Replica {
        /// Host and port, as the replica says.
        master: String,
    },
    /// A node of a cluster.
    #[error(
        "this server runs in cluster mode, which is not supported; use a single server or a master with replicas"
    )]
    Cluster,
    /// A Sentinel keeps no data.
    #[error("this is a Sentinel and keeps no data; set redis.url to the master that it watches")]
    Sentinel,
    /// Wrong or missing password, or the user is off.
    #[error(
        "{said}; set redis.password = \"env:NAME\" or \"file:/path\" (and redis.username where it is not `default`), and check \
         it with: redis-cli --user NAME --askpass PING"
    )]
    Password {
        /// As the server says it.
        said: String,
    },
    /// The user may not do what is needed.
    #[error(
        "{said}; allow it: ACL SETUSER NAME ~* +@all -@admin +info (a narrower rule is in the documentation)"
    )]
    Permission {
        /// As the server says it.
        said: String,
    },
    /// It cannot tell when an event has survived what is asked for.
    #[error("redis.durability = \"{class}\" is not possible with {server}: {why}; {hint}")]
    Durability {
        /// As configured.
        class: &'static str,
        /// As it names itself.
        server: String,
        /// What is missing.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// It could not be asked: a fault that may pass.
    #[error("{0}")]
    Store(StoreError),
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Store(fault) => fault,
            Refusal::Password { .. } | Refusal::Permission { .. } => Self::Denied(text),
            Refusal::Replica { .. } => Self::ReadOnly(text),
            Refusal::TooOld { .. }
            | Refusal::Cluster
            | Refusal::Sentinel
            | Refusal::Durability { .. } => Self::Broken(text),
        }
    }
}

impl Refusal {
    /// Whether it may pass by waiting; otherwise a person must act.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Store(StoreError::Unavailable(_) | StoreError::Loading(_))
        )
    }
}

/// Connects once and looks. Cancel-safe.
pub async fn ask_once(client: &redis::Client, class: Durability) -> Result<Server, Refusal> {
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .map_err(|fault| classify(&fault))?;
    let mut server = look(&mut connection).await?;
    can_keep(&mut connection, class, &mut server).await?;
    Ok(server)
}

/// Whether the server can tell when an event has survived what `redis.durability` asks for.
async fn can_keep(
    connection: &mut MultiplexedConnection,
    class: Durability,
    server: &mut Server,
) -> Result<(), Refusal> {
    let name = format!("{} {}", server.flavour, server.version);
    let cannot = |why: String, hint: &'static str| Refusal::Durability {
        class: class.word(),
        server: name.clone(),
        why,
        hint,
    };
    match class {
        Durability::Memory => Ok(()),
        Durability::Replica => {
            if !knows(connection, "wait").await? {
                let hint = "use another server, or redis.durability = \"memory\"";
                return Err(cannot("it does not know WAIT".to_owned(), hint));
            }
            if server.replicas == 0 {
                server.warnings.push(
                    "redis.durability is replica and no replica is connected: nothing is accepted until one is; start one with: \
                     redis-server --replicaof HOST PORT"
                        .to_owned(),
                );
            }
            Ok(())
        }
        Durability::Aof => {
            if !server.append_only {
                let hint = "CONFIG SET appendonly yes, and write it into redis.conf";
                return Err(cannot("appendonly is off".to_owned(), hint));
            }
            if knows(connection, "waitaof").await? {
                return Ok(());
            }
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg("appendonly").arg("appendfsync");
            let settings: Vec<String> = match ask(connection, command).await {
                Ok(settings) => settings,
                Err(Refusal::Permission { said }) => {
                    let hint = "allow it: ACL SETUSER NAME +config|get";
                    let why =
                        format!("it has no WAITAOF, and its appendfsync cannot be read: {said}");
                    return Err(cannot(why, hint));
                }
                Err(other) => return Err(other),
            };
            match unsafe_setting(&settings) {
                None => Ok(()),
                Some(why) => {
                    let hint = "CONFIG SET appendfsync always and write it into redis.conf, or use Redis or Valkey 7.2 or newer, \
                                or redis.durability = \"memory\"";
                    Err(cannot(why, hint))
                }
            }
        }
    }
}

async fn knows(connection: &mut MultiplexedConnection, command: &str) -> Result<bool, Refusal> {
    let mut ask_for = redis::cmd("COMMAND");
    ask_for.arg("INFO").arg(command);
    let known: Vec<redis::Value> = ask(connection, ask_for).await?;
    Ok(matches!(known.first(), Some(redis::Value::Array(about)) if !about.is_empty()))
}

/// Looks at the server. `Ok` carries what it is, with warnings about how it is set up. Cancel-safe.
pub async fn look(connection: &mut MultiplexedConnection) -> Result<Server, Refusal> {
    // Not `INFO server memory ...`: several sections at once came with 7.0, and older servers are to be told that they are.
    let text: String = ask(connection, redis::cmd("INFO")).await?;
    let info = Info::parse(&text);
    refuse(&info)?;
    let server = describe(&info);
    let name = format!("{} {}", server.flavour, server.version);
    let too_old = |lacks: String| Refusal::TooOld {
        server: name.clone(),
        lacks,
    };

    let mut command = redis::cmd("COMMAND");
    command.arg("INFO").arg(&NEEDED[..]);
    let known: Vec<redis::Value> = ask(connection, command).await?;
    let is_known =
        |n: usize| matches!(known.get(n), Some(redis::Value::Array(about)) if !about.is_empty());
    let missing: Vec<&str> = (0..NEEDED.len())
        .filter(|n| !is_known(*n))
        .map(|n| NEEDED[n])
        .collect();
    if !missing.is_empty() {
        return Err(too_old(missing.join(", ").to_uppercase()));
    }

    let mut command = redis::cmd("EVAL");
    command.arg(PROBE).arg(0);
    match command.query_async::<String>(connection).await {
        Ok(answer) if answer == PROBE_ANSWER => Ok(server),
        Ok(_) => Err(too_old("Lua scripts that compute as Redis' do".to_owned())),
        Err(fault) => match classify(&fault) {
            // Any plain error: the script was not understood.
            Refusal::Store(StoreError::Bug(_)) => {
                Err(too_old("scripts with a `#!lua` line".to_owned()))
            }
            refusal => Err(refusal),
        },
    }
}

/// What an error of the redis crate means here, also of the attempt to connect (where a password is refused).
pub fn classify(fault: &RedisError) -> Refusal {
    let said = clean(&fault.detail().map_or_else(
        || fault.to_string(),
        |detail| match fault.code() {
            Some(code) => format!("{code} {detail}"),
            None => detail.to_owned(),
        },
    ));
    match (fault.kind(), fault.code()) {
        // The redis crate leaves out what the server said.
        (ErrorKind::AuthenticationFailed, _) => Refusal::Password {
            said: "redis refused the password, or the user".to_owned(),
        },
        (_, Some("NOAUTH" | "WRONGPASS")) => Refusal::Password { said },
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => Refusal::Permission { said },
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => {
            Refusal::Store(StoreError::Loading(said))
        }
        (ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown), _) => {
            Refusal::Store(StoreError::ReadOnly(said))
        }
        (_, Some("OOM")) => Refusal::Store(StoreError::OutOfMemory(said)),
        (_, Some("MISCONF")) => Refusal::Store(StoreError::DiskFull(said)),
        // A script of somebody else's runs for too long: it ends, or is ended, and then we go on.
        (_, Some("BUSY")) => Refusal::Store(StoreError::Unavailable(said)),
        (ErrorKind::Io, _) => Refusal::Store(StoreError::Unavailable(said)),
        _ if fault.is_connection_dropped()
            || fault.is_timeout()
            || fault.is_connection_refusal() =>
        {
            Refusal::Store(StoreError::Unavailable(said))
        }
        _ => Refusal::Store(StoreError::Bug(said)),
    }
}

async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: redis::Cmd,
) -> Result<T, Refusal> {
    command
        .query_async(connection)
        .await
        .map_err(|fault| classify(&fault))
}

fn refuse(info: &Info) -> Result<(), Refusal> {
    if let Some(progress) = info.loading() {
        return Err(Refusal::Store(StoreError::Loading(progress)));
    }
    match info.text("redis_mode").as_str() {
        "cluster" => return Err(Refusal::Cluster),
        "sentinel" => return Err(Refusal::Sentinel),
        _ => {}
    }
    if info.text("role") == "slave" {
        let master = format!("{}:{}", info.text("master_host"), info.text("master_port"));
        return Err(Refusal::Replica { master });
    }
    Ok(())
}

/// What `INFO` says of the server, with warnings. Serves `Admin::server`, too.
pub fn describe_info(text: &str) -> Server {
    describe(&Info::parse(text))
}

fn describe(info: &Info) -> Server {
    let is_valkey = info.text("server_name") == "valkey" || info.has("valkey_version");
    let version = info.text(if info.has("valkey_version") {
        "valkey_version"
    } else {
        "redis_version"
    });
    let mut server = Server {
        version,
        flavour: if is_valkey { "valkey" } else { "redis" }.to_owned(),
        mode: info.text("redis_mode"),
        used_memory: info.number("used_memory").unwrap_or(0),
        max_memory: info.number("maxmemory").unwrap_or(0),
        eviction: info.text("maxmemory_policy"),
        append_only: info.number("aof_enabled") == Some(1),
        run_id: info.text("run_id"),
        replicas: info.number("connected_slaves").unwrap_or(0),
        warnings: Vec::new(),
    };
    server.warnings = warnings(info, &server);
    server
}

fn warnings(info: &Info, server: &Server) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(text);
    if !server.eviction.is_empty() && server.eviction != "noeviction" {
        warn(format!(
            "maxmemory-policy is {}: a full server may drop the stream together with its groups; CONFIG SET \
             maxmemory-policy noeviction, and write it into redis.conf",
            server.eviction
        ));
    }
    if !server.append_only {
        warn(
            "appendonly is off: a crash of the server loses what came since its last snapshot; CONFIG SET appendonly yes, \
             and write it into redis.conf"
                .to_owned(),
        );
    }
    if server.max_memory == 0 {
        warn(
            "maxmemory is 0: doors cannot shed load before the machine runs out of memory; CONFIG SET maxmemory to what the \
             machine can spare"
                .to_owned(),
        );
    }
    if info.number("connected_slaves").unwrap_or(0) > 0
        && info.number("min_slaves_good_slaves").is_none()
    {
        warn(
            "min-replicas-to-write is 0: a failover may lose what a cut-off master still accepted; CONFIG SET \
             min-replicas-to-write 1"
                .to_owned(),
        );
    }
    if info.text("aof_last_write_status") == "err" {
        warn("the server could not write its append-only file (aof_last_write_status:err); free its disk".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDIS: &str = "redis_version:7.0.15\nredis_mode:standalone\nrole:master\nused_memory:1000\nmaxmemory:5000\n\
        maxmemory_policy:noeviction\naof_enabled:1\nrun_id:abc\nloading:0\nconnected_slaves:0\n";

    fn with(change: &str) -> Info {
        Info::parse(&format!("{REDIS}{change}\n"))
    }

    #[test]
    fn a_server_set_up_well_has_no_warnings() {
        let server = describe(&with(""));
        assert_eq!(
            (server.flavour.as_str(), server.version.as_str()),
            ("redis", "7.0.15")
        );
        assert_eq!(
            (server.used_memory, server.max_memory, server.append_only),
            (1000, 5000, true)
        );
        assert_eq!(server.warnings, Vec::<String>::new());
        assert_eq!(refuse(&with("")), Ok(()));
    }

    #[test]
    fn valkey_is_known_by_its_name_not_by_its_version() {
        let server = describe(&with(
            "redis_version:7.2.4\nserver_name:valkey\nvalkey_version:9.1.2",
        ));
        assert_eq!(
            (server.flavour.as_str(), server.version.as_str()),
            ("valkey", "9.1.2")
        );
    }

    #[test]
    fn each_risky_setting_is_warned_about_with_what_to_do() {
        let table = [
            (
                "maxmemory_policy:allkeys-lru",
                "maxmemory-policy noeviction",
            ),
            ("aof_enabled:0", "appendonly yes"),
            ("maxmemory:0", "CONFIG SET maxmemory"),
            ("connected_slaves:1", "min-replicas-to-write 1"),
            ("aof_last_write_status:err", "free its disk"),
        ];
        for (change, hint) in table {
            let warnings = describe(&with(change)).warnings;
            assert!(
                warnings.len() == 1 && warnings[0].contains(hint),
                "{change}: {warnings:?}"
            );
        }
        let guarded = describe(&with("connected_slaves:1\nmin_slaves_good_slaves:1"));
        assert_eq!(guarded.warnings, Vec::<String>::new());
    }

    #[test]
    fn servers_that_cannot_serve_are_refused() {
        let table = [
            ("redis_mode:cluster", Refusal::Cluster),
            ("redis_mode:sentinel", Refusal::Sentinel),
            (
                "role:slave\nmaster_host:h\nmaster_port:1",
                Refusal::Replica {
                    master: "h:1".to_owned(),
                },
            ),
            (
                "loading:1",
                Refusal::Store(StoreError::Loading("just begun".to_owned())),
            ),
        ];
        for (change, refusal) in table {
            assert_eq!(refuse(&with(change)), Err(refusal), "{change}");
        }
    }

    #[test]
    fn refusals_become_the_errors_of_the_port() {
        let password = Refusal::Password {
            said: "WRONGPASS".to_owned(),
        };
        assert!(!password.may_pass());
        assert!(
            matches!(StoreError::from(password), StoreError::Denied(text) if text.contains("redis.password"))
        );
        let replica = Refusal::Replica {
            master: "h:1".to_owned(),
        };
        assert!(matches!(StoreError::from(replica), StoreError::ReadOnly(_)));
        assert!(matches!(
            StoreError::from(Refusal::Cluster),
            StoreError::Broken(_)
        ));
        assert!(Refusal::Store(StoreError::Loading(String::new())).may_pass());
    }
}
