//! A method in words: what a dry run shows, before anything is done.

use std::time::Duration;

use pipectl_shared::units::{print_duration, print_percent};

use super::job::{Stops, Timing};
use crate::chaos::{Faults, Order, Point};
use crate::experiments::{
    Act, Amount, Expects, LoadFault, Loss, Method, RecoverFrom, Revert, ServerFault, Step,
};

/// One step, with its time.
pub fn step(step: &Step) -> String {
    format!("{} after the begin: {}", time(step.at_ms), act(&step.act))
}

/// What is done.
pub fn act(act: &Act) -> String {
    match act {
        Act::Inside(order) => self::order(order),
        Act::Server(fault) => server(fault),
        Act::KillDaemon { down_ms: 0 } => {
            "SIGKILL to the daemon, which is started again at once".to_owned()
        }
        Act::KillDaemon { down_ms } => format!(
            "SIGKILL to the daemon, which is started again after {}",
            time(*down_ms)
        ),
        Act::Load(fault) => load(fault),
    }
}

/// What the daemon is ordered to do to itself.
pub fn order(order: &Order) -> String {
    match order {
        Order::Kill {
            consumer,
            point,
            down_ms,
        } => format!(
            "worker {consumer} is dropped {}, and may be started again after {}",
            self::point(*point),
            time(*down_ms)
        ),
        Order::Park { consumer, point } => {
            format!("worker {consumer} stops {}", self::point(*point))
        }
        Order::Release { consumer } => format!("worker {consumer} goes on"),
        Order::Network { faults, share } if *faults == Faults::default() => {
            format!(
                "the network is as before ({} of connections)",
                print_percent(*share)
            )
        }
        Order::Network { faults, share } => {
            format!(
                "{} on {} of connections to Redis",
                network(faults),
                print_percent(*share)
            )
        }
        Order::Break { share } => {
            format!(
                "{} of connections to Redis are broken",
                print_percent(*share)
            )
        }
        Order::Lookup { delay_ms, fails } => format!(
            "lookups take {} longer, {} of them fail",
            time(*delay_ms),
            print_percent(*fails)
        ),
        Order::FlushCaches => "the caches of all lookups are emptied".to_owned(),
        Order::HoldServer { ms } => {
            format!("the managed Redis is not started again for {}", time(*ms))
        }
        Order::Clear => "everything in the daemon is taken back".to_owned(),
        Order::Count => "faults that hit are counted".to_owned(),
    }
}

fn point(point: Point) -> &'static str {
    match point {
        Point::AfterRead => "after it has read entries",
        Point::BeforeCommit => "before it commits",
        Point::AfterCommit => "after its commit, before it knows the answer",
    }
}

fn network(faults: &Faults) -> String {
    let mut words = Vec::new();
    if !faults.delay.is_zero() || !faults.jitter.is_zero() {
        let jitter = if faults.jitter.is_zero() {
            String::new()
        } else {
            format!(" +- {}", print_duration(faults.jitter))
        };
        words.push(format!(
            "{}{jitter} on each way",
            print_duration(faults.delay)
        ));
    }
    if faults.holds_requests {
        words.push("requests do not arrive".to_owned());
    }
    if faults.holds_replies {
        words.push("replies do not arrive".to_owned());
    }
    if faults.slice > 0 {
        words.push(format!("pieces of {} bytes", faults.slice));
    }
    if faults.bytes_per_s > 0 {
        words.push(format!("{} bytes a second", faults.bytes_per_s));
    }
    words.join(", ")
}

fn server(fault: &ServerFault) -> String {
    match fault {
        ServerFault::Kill => "SIGKILL to the managed Redis".to_owned(),
        ServerFault::Pause { ms } => format!("CLIENT PAUSE ALL for {}", time(*ms)),
        ServerFault::Stop => "SIGSTOP to the managed Redis".to_owned(),
        ServerFault::MaxMemory { percent } => {
            format!("maxmemory becomes {percent}% of what is used")
        }
        ServerFault::DestroyGroup { stream, group } => {
            format!("XGROUP DESTROY {stream} {group}")
        }
        ServerFault::DelConsumer {
            stream,
            group,
            consumer,
        } => format!(
            "XGROUP DELCONSUMER {stream} {group} {}",
            consumer.as_deref().unwrap_or("(whichever holds most)")
        ),
        ServerFault::Trim { stream, n, .. } => {
            format!("XTRIM {stream} past {n} undelivered entries of the run's own")
        }
        ServerFault::ScriptFlush => "SCRIPT FLUSH".to_owned(),
    }
}

fn load(fault: &LoadFault) -> String {
    match fault {
        LoadFault::Poison { share } => {
            format!(
                "{} of the run's events cannot be worked",
                print_percent(*share)
            )
        }
        LoadFault::Duplicate { share } => {
            format!(
                "{} of the run's events are sent twice",
                print_percent(*share)
            )
        }
        LoadFault::Burst { factor } => format!("{factor} times as many events"),
        LoadFault::HotKey { share } => {
            format!("{} of the run's events have one key", print_percent(*share))
        }
    }
}

/// How something is taken back.
pub fn revert(revert: Revert) -> &'static str {
    match revert {
        Revert::Inside => "everything set in the daemon is taken back",
        Revert::Unpause => "CLIENT UNPAUSE",
        Revert::Continue => "SIGCONT to the managed Redis",
        Revert::MaxMemory => "maxmemory as it was",
        Revert::Load => "the run's events are as before",
        Revert::Daemon => "the daemon runs",
        Revert::Server => "Redis answers",
        Revert::Groups => "every consumer group is there",
        Revert::DeadLetters => "the run's own dead letters are counted, then purged",
    }
}

/// The hypothesis: names and tolerances.
pub fn hypothesis(method: &Method, freshness_ms: u64) -> Vec<(String, String)> {
    let Expects {
        availability,
        recover_ms,
        fresh_during,
        lost,
        dead,
        deduplicated,
        claimed,
        backend_keys,
    } = &method.expects;
    let from = match method.recover_from {
        RecoverFrom::Revert => "the end of the fault",
        RecoverFrom::Injection => "the fault",
        RecoverFrom::ServerOpen => "the server taking connections",
    };
    let amount = |amount: &Amount| match amount {
        Amount::None => Some("= 0"),
        Amount::Injected => Some("= injected"),
        Amount::Any => None,
    };
    let lost = match lost {
        Loss::None => "= 0".to_owned(),
        Loss::WithServer { ms } => format!("= 0 but what Redis lost of its last {}", time(*ms)),
        Loss::Injected => "= injected, and the ledger tells it as lost".to_owned(),
        Loss::Unaccounted => "= injected, and the ledger tells it as unaccounted".to_owned(),
    };
    let row = |name: &str, tolerance: String| (name.to_owned(), tolerance);
    let mut rows = vec![
        row(
            "availability",
            format!(">= {}", print_percent(*availability)),
        ),
        row("recovery", format!("<= {} from {from}", time(*recover_ms))),
        row(
            "freshness",
            format!(
                "<= {} before and after{}",
                time(freshness_ms),
                if *fresh_during { ", and during" } else { "" }
            ),
        ),
        row("lost", lost),
        row("duplicated", "= 0".to_owned()),
        row("ledger", "balanced".to_owned()),
    ];
    rows.extend(amount(dead).map(|text| row("dead letters", text.to_owned())));
    rows.extend(amount(deduplicated).map(|text| row("deduplicated", text.to_owned())));
    if *claimed {
        rows.push(row("claimed by another worker", ">= 1".to_owned()));
    }
    if *backend_keys {
        rows.push(row("lookups of the backend", "<= distinct keys".to_owned()));
    }
    rows
}

/// What stops a run early.
pub fn stop_when(stops: &Stops) -> Vec<String> {
    vec![
        format!(
            "availability over 10 s below {}",
            print_percent(stops.availability)
        ),
        format!("an event not in effect after {}", time(stops.freshness_ms)),
        format!(
            "Redis above {} of its memory limit",
            print_percent(stops.memory)
        ),
        "a person or the lever says stop".to_owned(),
    ]
}

/// About how long a run takes, milliseconds: what follows the fault is short where all goes well.
pub fn about_ms(method: &Method, timing: &Timing) -> u64 {
    // Recovery and draining take a second or two each.
    timing.warm_ms + timing.before_ms + method.for_ms + timing.hold_ms + 4_000
}

fn time(ms: u64) -> String {
    print_duration(Duration::from_millis(ms))
}
