//! Where the server is, and where its password is found; neither check ever repeats what might be a secret.

use super::kind::Misfit;
use super::types::Secret;

pub(super) const TAKES_URL: &str = "\"managed\", \"redis://HOST:PORT/DB\", \"rediss://HOST:PORT/DB\" (TLS) or \"redis+unix:///PATH?db=DB\"";
pub(super) const TAKES_SECRET: &str = "\"env:NAME\" or \"file:/PATH\"";

const BY_REFERENCE: &str =
    "write redis.password = \"env:NAME\" or \"file:/PATH\" (and redis.username) instead";

/// Checks the URL of the server; its text is repeated in no error, because a password may stand in it.
pub(super) fn check_url(text: &str) -> Result<(), Misfit> {
    if text == "managed" {
        return Ok(());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return fail("the URL has white space or a control character in it", None);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return fail("this is neither \"managed\" nor a URL", None);
    };
    match scheme {
        "redis" | "rediss" => check_host(rest),
        "redis+unix" => check_socket(rest),
        "unix" => fail("unix:// is not supported", Some("write redis+unix:///PATH")),
        "valkey" | "valkeys" => fail(
            "valkey:// is not supported",
            Some("write redis:// or rediss://; Valkey speaks the same protocol"),
        ),
        "redis+sentinel" | "redis+cluster" => fail("Sentinel and Cluster are not supported", None),
        _ => fail("the scheme of the URL is not known", None),
    }
}

fn fail(what: &str, hint: Option<&str>) -> Result<(), Misfit> {
    Err(Misfit::new(format!(": {what}"), hint.map(str::to_owned)))
}

fn is_number(text: &str, max: u32) -> bool {
    text.chars().all(|c| c.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|n| n <= max)
}

/// Redis' own limit is in its configuration (16 by default); this only keeps nonsense out.
const DB_MAX: u32 = 65_535;

fn check_host(rest: &str) -> Result<(), Misfit> {
    if let Some((login, _)) = rest.rsplit_once('@') {
        return if login.contains(':') {
            fail("a password inside the URL", Some(BY_REFERENCE))
        } else {
            fail(
                "a user inside the URL",
                Some("write redis.username = \"NAME\" instead"),
            )
        };
    }
    if rest.contains(['?', '#']) {
        return fail("a redis URL takes no `?` or `#`", None);
    }
    let (address, db) = rest.split_once('/').unwrap_or((rest, ""));
    if !db.is_empty() && !is_number(db, DB_MAX) {
        return fail(
            "what follows the address must be the number of a database, such as /0",
            None,
        );
    }
    // An IPv6 address stands in brackets and has colons of its own.
    let (host, port) = match address.strip_prefix('[').map(|six| six.split_once(']')) {
        Some(Some((host, ""))) => (host, None),
        Some(Some((host, port))) if port.starts_with(':') => (host, Some(&port[1..])),
        Some(_) => return fail("the address has a bracket that is not closed", None),
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return fail(
            "the URL names no host",
            Some("write redis://127.0.0.1:6379"),
        );
    }
    if port.is_some_and(|port| !is_number(port, 65_535) || port.trim_start_matches('0').is_empty())
    {
        return fail("the port must be a number from 1 to 65535", None);
    }
    // `::`, `0::0`, `0.0.0.0` and `0` all mean "any address".
    if host.chars().all(|c| matches!(c, '0' | '.' | ':')) {
        return fail(
            "0.0.0.0 is an address to listen on, not one to connect to",
            Some("write 127.0.0.1 for a server on this machine"),
        );
    }
    Ok(())
}

fn check_socket(rest: &str) -> Result<(), Misfit> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.len() < 2 {
        return fail(
            "the path of the socket must be absolute",
            Some("three slashes: redis+unix:///run/redis.sock"),
        );
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("db", n) if is_number(n, DB_MAX) => {}
            ("db", _) => return fail("db must be the number of a database, such as ?db=0", None),
            ("pass" | "password" | "user" | "username", _) => {
                return fail("a user or a password inside the URL", Some(BY_REFERENCE));
            }
            _ => return fail("behind `?` only db=N may stand", None),
        }
    }
    Ok(())
}

/// Reads a reference to a secret; anything else may be the secret itself and is repeated nowhere.
pub(super) fn read_secret(text: &str) -> Result<Secret, Misfit> {
    let fail = |what: &str, hint: &str| Err(Misfit::new(what, Some(hint.to_owned())));
    if let Some(name) = text.strip_prefix("env:") {
        let good = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        return if good {
            Ok(Secret::Env(name.to_owned()))
        } else {
            fail(
                ": what follows env: is no name of an environment variable",
                "write env: and letters, digits and _, such as \"env:REDIS_PASSWORD\"",
            )
        };
    }
    if let Some(path) = text.strip_prefix("file:") {
        return if path.starts_with('/') && path.len() > 1 && !path.chars().any(char::is_control) {
            Ok(Secret::File(path.to_owned()))
        } else {
            fail(
                ": what follows file: is no absolute path",
                "write such as \"file:/run/secrets/redis\"",
            )
        };
    }
    fail(
        " is not a reference; a secret never stands in the configuration itself",
        "write \"env:NAME\" or \"file:/PATH\", and change the secret if this file was shared",
    )
}
