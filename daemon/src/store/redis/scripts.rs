//! The Lua scripts, their hashes, and how they are run: EVALSHA, and EVAL when the server has forgotten them.

use std::sync::LazyLock;
use std::time::Duration;

use super::connection::Connection;
use super::resp::Reply;
use crate::store::{Result, StoreError};

/// One script with its hash.
pub(super) struct Script {
    code: String,
    sha: String,
}

impl Script {
    pub(super) fn new(flags: &str, body: &str) -> Self {
        let head = if flags.is_empty() {
            "#!lua".to_owned()
        } else {
            format!("#!lua flags={flags}")
        };
        let prelude = include_str!("scripts/prelude.lua");
        // Only where it is used: the server keeps every script, and `commit.lua` is long enough.
        let state = if body.contains("version_of(") || body.contains("state_check(") {
            include_str!("scripts/state.lua")
        } else {
            ""
        };
        let code = format!("{head}\n{prelude}\n{state}\n{body}");
        let sha = redis::Script::new(&code).get_hash().to_owned();
        Self { code, sha }
    }

    /// Runs it over `connection`. Keys and arguments as given.
    pub(super) async fn run<K: AsRef<[u8]>, A: AsRef<[u8]>>(
        &self,
        connection: &mut Connection,
        keys: &[K],
        args: &[A],
    ) -> Result<Reply> {
        self.write(connection, "EVALSHA", &self.sha, keys, args);
        match connection.call(Duration::ZERO).await {
            Err(StoreError::Bug(error)) if error.starts_with("NOSCRIPT") => {
                self.write(connection, "EVAL", &self.code, keys, args);
                connection.call(Duration::ZERO).await
            }
            result => result,
        }
    }

    fn write<K: AsRef<[u8]>, A: AsRef<[u8]>>(
        &self,
        connection: &mut Connection,
        verb: &str,
        what: &str,
        keys: &[K],
        args: &[A],
    ) {
        connection
            .out
            .start(3 + keys.len() + args.len())
            .arg(verb)
            .arg(what)
            .arg(keys.len().to_string());
        for key in keys {
            connection.out.arg(key);
        }
        for arg in args {
            connection.out.arg(arg);
        }
    }
}

/// What the commit scripts do.
pub(super) const COMMIT_BODY: &str = include_str!("scripts/commit.lua");

/// Which of the two commit scripts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// [`COMMIT`].
    Plain,
    /// [`COMMIT_ALLOW_OOM`].
    AllowOom,
}

macro_rules! script {
    ($(#[$doc:meta])* $name:ident, $flags:literal, $file:literal) => {
        $(#[$doc])*
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new($flags, include_str!($file)));
    };
}

script!(
    /// Without a flag: refused whole when memory is full, before anything was done.
    COMMIT, "", "scripts/commit.lua"
);
script!(
    /// The same for a batch that forwards nothing: it frees more than it takes, so a full server can be worked empty.
    COMMIT_ALLOW_OOM, "allow-oom", "scripts/commit.lua"
);
script!(CLAIM, "allow-oom", "scripts/claim.lua");
script!(OWN_LEASE, "allow-oom", "scripts/own_lease.lua");
script!(OWN_FETCH, "allow-oom", "scripts/own_fetch.lua");
script!(OWN_STATE, "no-writes", "scripts/own_state.lua");
script!(OWN_TIMERS, "no-writes", "scripts/own_timers.lua");
script!(
    /// Also on a full server: most timers give memory back.
    OWN_FIRE, "allow-oom", "scripts/own_fire.lua"
);
script!(OWN_NAMES, "allow-oom", "scripts/own_names.lua");
script!(KEEP, "allow-oom", "scripts/keep.lua");
script!(LOST, "allow-oom", "scripts/lost.lua");
script!(BEAT, "allow-oom", "scripts/beat.lua");
script!(PREPARE, "allow-oom", "scripts/prepare.lua");
script!(DEPTH, "no-writes", "scripts/depth.lua");
script!(JANITOR, "allow-oom", "scripts/janitor.lua");
script!(ADMIT, "", "scripts/admit.lua");
script!(EPOCH, "allow-oom", "scripts/epoch.lua");
script!(REDRIVE, "", "scripts/redrive.lua");
script!(RETIRE, "allow-oom", "scripts/retire.lua");
