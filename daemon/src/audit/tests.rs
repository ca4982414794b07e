//! Tests of the audit file: the chain, what a break looks like, pages.

use super::*;
use crate::clock::Manual;

struct Bench {
    _dir: tempfile::TempDir,
    path: PathBuf,
    journal: Journal,
    clock: Arc<dyn Clock>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Manual::at_ms(1_700_000_000_000));
        let path = dir.path().join("audit.jsonl");
        Self {
            path,
            journal: Journal::new(Arc::clone(&clock)),
            clock,
            _dir: dir,
        }
    }

    fn open(&self) -> Audit {
        Audit::open(&self.path, Arc::clone(&self.clock), &self.journal).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.path)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn write(&self, lines: &[String]) {
        let mut text = lines.join("\n");
        text.push('\n');
        std::fs::write(&self.path, text).unwrap();
    }

    fn n_warnings(&self) -> usize {
        self.journal
            .last(100)
            .iter()
            .filter(|e| e.name == BROKEN)
            .count()
    }
}

fn act(target: &str) -> Act {
    Act {
        user: "ann".to_owned(),
        uid: 7,
        action: "stage.pause".to_owned(),
        target: target.to_owned(),
        result: "ok".to_owned(),
        ..Act::default()
    }
}

#[tokio::test]
async fn rows_go_on_after_a_restart_and_the_chain_holds() {
    let bench = Bench::new();
    for n in 1..=3 {
        let audit = bench.open();
        assert_eq!(audit.record(act("a")).await.unwrap(), 2 * n - 1);
        assert_eq!(audit.record(act("b")).await.unwrap(), 2 * n);
    }
    assert_eq!(bench.n_warnings(), 0);
    assert_eq!(bench.lines().len(), 6);
}

#[tokio::test]
async fn hostile_text_is_kept_as_given_and_stays_one_line() {
    let bench = Bench::new();
    let audit = bench.open();
    let nasty = "a\nb\u{1b}]0;x\u{7}\u{202e}\",\"hash\":\"\u{0}";
    let sent = Act {
        reason: Some(nasty.to_owned()),
        ..act(nasty)
    };
    audit.record(sent).await.unwrap();
    let page = audit.page(None, 10).await.unwrap();
    assert_eq!(page.rows[0].target, nasty);
    assert_eq!(page.rows[0].reason.as_deref(), Some(nasty));
    assert_eq!(bench.lines().len(), 1);
    drop(audit);
    bench.open();
    assert_eq!(bench.n_warnings(), 0);
}

#[tokio::test]
async fn a_break_is_told_marked_once_and_the_chain_goes_on() {
    type Tamper = fn(&mut Vec<String>);
    let table: [(&str, Tamper, &str); 6] = [
        (
            "a word changed",
            |l| l[1] = l[1].replace("\"b\"", "\"c\""),
            "2",
        ),
        ("a row cut out", |l| drop(l.remove(1)), "2"),
        ("the first row cut out", |l| drop(l.remove(0)), "1"),
        ("the last row cut off", |l| drop(l.pop()), "3"),
        (
            "a line that is no row",
            |l| l.insert(1, "hello".to_owned()),
            "2",
        ),
        ("rows swapped", |l| l.swap(0, 1), "1,2,3"),
    ];
    for (desc, tamper, where_) in table {
        let bench = Bench::new();
        let audit = bench.open();
        for target in ["a", "b", "c"] {
            audit.record(act(target)).await.unwrap();
        }
        drop(audit);
        let mut lines = bench.lines();
        tamper(&mut lines);
        bench.write(&lines);

        let audit = bench.open();
        assert_eq!(bench.n_warnings(), 1, "{desc}");
        let marked = audit.page(None, 1).await.unwrap().rows.remove(0);
        assert_eq!(marked.action, BROKEN, "{desc}");
        assert_eq!(marked.target, where_, "{desc}");
        audit.record(act("d")).await.unwrap();
        let n_lines = bench.lines().len();
        drop(audit);
        bench.open();
        assert_eq!(
            bench.lines().len(),
            n_lines,
            "{desc}: a known break gets no second row"
        );
    }
}

#[tokio::test]
async fn a_line_torn_by_a_crash_is_a_break_and_harms_no_later_row() {
    let bench = Bench::new();
    bench.open().record(act("a")).await.unwrap();
    let mut file = OpenOptions::new().append(true).open(&bench.path).unwrap();
    file.write_all(br#"{"seq":2,"ts":"20"#).unwrap();
    let audit = bench.open();
    audit.record(act("b")).await.unwrap();
    let rows = audit.page(None, 10).await.unwrap().rows;
    let actions: Vec<_> = rows.iter().map(|r| (r.seq, r.action.as_str())).collect();
    assert_eq!(
        actions,
        [
            (1, "stage.pause"),
            (2, "unreadable"),
            (3, BROKEN),
            (4, "stage.pause")
        ]
    );
}

#[tokio::test]
async fn a_file_deleted_as_a_whole_is_a_break() {
    let bench = Bench::new();
    bench.open().record(act("a")).await.unwrap();
    std::fs::remove_file(&bench.path).unwrap();
    bench.open();
    assert_eq!(bench.n_warnings(), 1);
}

#[tokio::test]
async fn a_foreign_line_of_many_megabytes_is_passed_over() {
    let bench = Bench::new();
    let audit = bench.open();
    audit.record(act("a")).await.unwrap();
    drop(audit);
    let mut lines = bench.lines();
    lines.push("x".repeat(3 * 1024 * 1024));
    bench.write(&lines);
    let audit = bench.open();
    audit.record(act("b")).await.unwrap();
    let rows = audit.page(None, 10).await.unwrap().rows;
    assert_eq!(rows.last().unwrap().target, "b");
    assert_eq!(rows.len(), 4);
}

#[tokio::test]
async fn pages_go_back_from_the_newest_and_forward_from_a_row() {
    let bench = Bench::new();
    let audit = bench.open();
    for n in 1..=250 {
        audit.append(&act(&n.to_string())).unwrap();
    }
    let seqs = |page: &Page<snapshot::Audit>| {
        (
            page.rows.first().map(|r| r.seq),
            page.rows.last().map(|r| r.seq),
            page.next.clone(),
        )
    };
    let page = audit.page(None, 100).await.unwrap();
    assert_eq!(
        seqs(&page),
        (Some(151), Some(250), Some("before:151".to_owned()))
    );
    let page = audit.page(Some("before:151"), 100).await.unwrap();
    assert_eq!(
        seqs(&page),
        (Some(51), Some(150), Some("before:51".to_owned()))
    );
    let page = audit.page(Some("before:51"), 100).await.unwrap();
    assert_eq!(seqs(&page), (Some(1), Some(50), None));
    let page = audit.page(Some("240"), 5).await.unwrap();
    assert_eq!(
        seqs(&page),
        (Some(241), Some(245), Some("after:245".to_owned()))
    );
    let page = audit.page(Some("after:245"), 5).await.unwrap();
    assert_eq!(seqs(&page), (Some(246), Some(250), None));
    let page = audit.page(Some("after:999"), 5).await.unwrap();
    assert_eq!(seqs(&page), (None, None, None));
    for bad in ["", "x", "before:", "after:-1", "sideways:3", "\u{1b}[2J"] {
        let error = audit.page(Some(bad), 5).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
    }
}
