//! What the sections of the system screen say.

use pipectl_shared::rpc::Role as Rights;
use pipectl_shared::snapshot::Snapshot;

use super::{Line, Section, cores, said, size};
use crate::facts::Link;
use crate::model::Model;
use crate::output::human::{UNKNOWN, count, duration_ms, duration_s, or_unknown};
use crate::screens::stages::{Piece, aged, aged_role, choose, mark};
use crate::theme::Role;
use crate::widgets::{Gauge, Ink};

fn label(text: &str) -> Piece {
    (text.to_owned(), Role::Dim)
}

fn value(ink: &Ink<'_>, name: &str, figure: String) -> Piece {
    let figure = aged(ink, figure);
    let text = if name.is_empty() {
        figure
    } else {
        format!("{name} {figure}")
    };
    (text, aged_role(ink, Role::Plain))
}

fn used_of(ink: &Ink<'_>, used: Option<u64>, total: Option<u64>) -> String {
    let used = aged(ink, or_unknown(used, size));
    format!("{used} of {}", or_unknown(total, size))
}

pub(super) fn host(ink: &Ink<'_>, snapshot: &Snapshot) -> Section {
    let host = &snapshot.host;
    let load = aged(ink, or_unknown(host.load_1m, |load| format!("{load:.2}")));
    let n_cores = match host.cores {
        0 => UNKNOWN.to_owned(),
        n => n.to_string(),
    };
    let disk_used = match (host.disk_total_bytes, host.disk_free_bytes) {
        (Some(total), Some(free)) => Some(total.saturating_sub(free)),
        _ => None,
    };
    let free = aged(ink, or_unknown(host.disk_free_bytes, size));
    let disk = format!("{free} free of {}", or_unknown(host.disk_total_bytes, size));
    let memory = used_of(ink, host.memory_used_bytes, host.memory_total_bytes);
    Section {
        title: "host",
        lines: vec![
            Line::Pieces(vec![
                (said(&host.name).to_owned(), Role::Strong),
                value(ink, "load", format!("{load} (1 min)")),
            ]),
            Line::Gauge("cpu", Gauge::new(host.cpu), format!("of {n_cores} cores")),
            Line::Gauge(
                "memory",
                Gauge::of(host.memory_used_bytes, host.memory_total_bytes),
                memory,
            ),
            Line::Gauge("disk", Gauge::of(disk_used, host.disk_total_bytes), disk),
        ],
    }
}

pub(super) fn daemon(ink: &Ink<'_>, snapshot: &Snapshot) -> Section {
    let daemon = &snapshot.status.daemon;
    let host = &snapshot.host;
    Section {
        title: "daemon",
        lines: vec![
            Line::Pieces(vec![
                (format!("pipelined {}", said(&daemon.version)), Role::Strong),
                (format!("pid {}", daemon.pid), Role::Plain),
                (format!("instance {}", said(&daemon.instance)), Role::Plain),
                value(ink, "up", duration_s(snapshot.status.uptime_s)),
            ]),
            Line::Pieces(vec![
                value(ink, "memory", or_unknown(daemon.rss_bytes, size)),
                value(
                    ink,
                    "cpu",
                    format!("{} (10 s)", or_unknown(daemon.cpu_cores, cores)),
                ),
            ]),
            Line::Pieces(vec![
                value(ink, "open files", or_unknown(host.open_files, count)),
                value(ink, "threads", or_unknown(host.threads, count)),
                value(ink, "history", size(daemon.history_bytes)),
            ]),
        ],
    }
}

pub(super) fn redis(model: &Model, ink: &Ink<'_>, snapshot: &Snapshot) -> Section {
    let redis = &snapshot.status.redis;
    let is_up = redis.state == "up";
    let (unicode, ascii) = if is_up { ('●', '+') } else { ('✖', 'X') };
    let glyph = mark(model, unicode, ascii);
    let state = (
        format!("{glyph} {}", said(&redis.state)),
        aged_role(ink, if is_up { Role::Good } else { Role::Bad }),
    );
    let version = or_unknown(redis.version.clone(), |version| version);
    let mut lines = vec![Line::Pieces(vec![
        state,
        (format!("redis {version}"), Role::Strong),
        (redis.mode.clone(), Role::Plain),
    ])];
    // A managed server has no address that means anything to a person.
    if redis.url != redis.mode {
        lines.push(Line::Pieces(vec![(redis.url.clone(), Role::Plain)]));
    }
    let used = aged(ink, or_unknown(redis.used_memory_bytes, size));
    // A limit that is not there is no share of anything.
    match redis.max_memory_bytes {
        Some(max) => lines.push(Line::Gauge(
            "redis mem",
            Gauge::of(redis.used_memory_bytes, Some(max)),
            format!("{used} of {}", size(max)),
        )),
        None => lines.push(Line::Pieces(vec![
            label("redis mem"),
            (used, aged_role(ink, Role::Strong)),
            label("no limit known"),
        ])),
    }
    if let Some(down) = redis.down_ms {
        let text = format!("not reachable for {}", duration_ms(down));
        lines.push(Line::Pieces(vec![(text, Role::Bad)]));
    }
    if let Some(error) = &redis.error {
        lines.push(Line::Pieces(vec![(error.clone(), Role::Warn)]));
    }
    if redis.spooled > 0 {
        let text = format!("{} events wait in the spool", count(redis.spooled));
        lines.push(Line::Pieces(vec![(text, Role::Warn)]));
    }
    Section {
        title: "redis",
        lines,
    }
}

pub(super) fn connection(model: &Model, ink: &Ink<'_>) -> Section {
    let mut lines = Vec::new();
    match &model.facts.link {
        Link::Up { socket } => lines.push(Line::Pieces(vec![
            (format!("{} connected", choose(model, '●', '+')), Role::Good),
            (socket.clone(), Role::Plain),
        ])),
        Link::Connecting { attempt } => {
            let text = format!("connecting (attempt {attempt})");
            lines.push(Line::Pieces(vec![(text, Role::Warn)]));
        }
        Link::Down {
            attempt,
            retry_at_ms,
            ..
        } => {
            let left = duration_ms(retry_at_ms.saturating_sub(model.now_ms));
            let text = format!("not connected, again in {left} (after attempt {attempt})");
            lines.push(Line::Pieces(vec![(text, Role::Bad)]));
        }
        Link::Refused { .. } => {
            let text = "refused; it is not tried again".to_owned();
            lines.push(Line::Pieces(vec![(text, Role::Bad)]));
        }
    }
    match &model.facts.hello {
        Some(hello) => {
            let rights = match (model.options.read_only, hello.role) {
                (true, _) => "read-only by --read-only",
                (false, Rights::Viewer) => "viewer (read-only)",
                (false, Rights::Operator) => "operator",
                (false, Rights::Admin) => "admin",
            };
            lines.push(Line::Pieces(vec![
                (format!("you are {}", hello.identity.user), Role::Plain),
                (format!("(uid {})", hello.identity.uid), Role::Dim),
                (format!("role {rights}"), Role::Plain),
            ]));
            lines.push(Line::Pieces(vec![
                (format!("protocol {}", hello.protocol), Role::Plain),
                (format!("configuration {}", hello.config_hash), Role::Plain),
                (
                    format!("console {}", env!("CARGO_PKG_VERSION")),
                    aged_role(ink, Role::Plain),
                ),
            ]));
        }
        None => lines.push(Line::Pieces(vec![label("it has not greeted yet")])),
    }
    Section {
        title: "this connection",
        lines,
    }
}
