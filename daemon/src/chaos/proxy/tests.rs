//! Each fault, and which connections have it.

use tokio::time::timeout_at;

use super::*;

/// A server that answers each piece with itself.
async fn echo(folder: &Path) -> (PathBuf, JoinSet<()>) {
    let path = folder.join("server.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut all = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            all.spawn(async move {
                let (mut from, mut to) = stream.into_split();
                tokio::io::copy(&mut from, &mut to).await.unwrap_or(0);
            });
        }
    });
    (path, tasks)
}

async fn round_trip(stream: &mut UnixStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).await.unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await.unwrap();
    back
}

#[tokio::test]
async fn bytes_come_through_whole_whatever_the_faults_and_late_by_the_delay() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _tasks) = echo(folder.path()).await;
    let proxy = Proxy::start(&folder.path().join("proxy.sock"), &server, 7).unwrap();
    let text: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for faults in [
        Faults::default(),
        Faults {
            slice: 1,
            ..Faults::default()
        },
        Faults {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            ..Faults::default()
        },
        Faults {
            bytes_per_s: 10_000_000,
            ..Faults::default()
        },
    ] {
        proxy.set(faults.clone());
        let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
        let begun = Instant::now();
        assert!(round_trip(&mut stream, &text).await == text, "{faults:?}");
        let least = 2 * faults.delay.saturating_sub(faults.jitter);
        assert!(begun.elapsed() >= least, "{faults:?}");
    }
}

#[tokio::test]
async fn what_is_held_arrives_when_it_is_let_go_and_a_break_ends_connections() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _tasks) = echo(folder.path()).await;
    let proxy = Proxy::start(&folder.path().join("proxy.sock"), &server, 7).unwrap();
    let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
    assert_eq!(round_trip(&mut stream, b"one").await, b"one");
    for (holds_requests, holds_replies) in [(true, false), (false, true), (true, true)] {
        proxy.set(Faults {
            holds_requests,
            holds_replies,
            ..Faults::default()
        });
        stream.write_all(b"two").await.unwrap();
        let mut back = [0; 3];
        let held = Duration::from_millis(50);
        let early = tokio::time::timeout(held, stream.read_exact(&mut back)).await;
        assert!(early.is_err(), "it came through");
        proxy.set(Faults::default());
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"two");
    }
    proxy.break_all();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
    assert_eq!(round_trip(&mut stream, b"three").await, b"three");
}

/// So many connections through the proxy, in the order of their numbers.
async fn connections(proxy: &Proxy, n: usize) -> Vec<UnixStream> {
    let mut all = Vec::new();
    for _ in 0..n {
        let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
        assert_eq!(round_trip(&mut stream, b"ping").await, b"ping");
        all.push(stream);
    }
    all
}

/// Which of them do not get an answer.
async fn held(all: &mut [UnixStream]) -> Vec<bool> {
    let mut held = Vec::new();
    for stream in all.iter_mut() {
        stream.write_all(b"ping").await.unwrap();
    }
    let until = Instant::now() + Duration::from_millis(200);
    for stream in all {
        let answer = timeout_at(until, stream.read_exact(&mut [0; 4])).await;
        held.push(answer.is_err());
    }
    held
}

#[tokio::test]
async fn a_share_of_connections_is_drawn_by_the_seed_and_a_greater_share_has_the_smaller_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _tasks) = echo(folder.path()).await;
    let holds = Faults {
        holds_requests: true,
        ..Faults::default()
    };
    let mut runs = Vec::new();
    for (n, seed) in [7, 7, 8].into_iter().enumerate() {
        let socket = folder.path().join(format!("proxy-{n}.sock"));
        let proxy = Proxy::start(&socket, &server, 1).unwrap();
        let mut all = connections(&proxy, 40).await;
        assert_eq!(proxy.counts(), (0, 0), "no fault, nothing counted");
        proxy.begin(seed);
        proxy.set_share(holds.clone(), 0.0);
        assert_eq!(held(&mut all).await, [false; 40], "none of them");
        proxy.set_share(holds.clone(), 0.3);
        let few = held(&mut all).await;
        let n_held = few.iter().filter(|held| **held).count();
        assert!((1..40).contains(&n_held), "{n_held}");
        assert_eq!(proxy.counts().0, n_held as u64);
        proxy.set(Faults::default());
        for (stream, _) in all.iter_mut().zip(&few).filter(|(_, held)| **held) {
            stream.read_exact(&mut [0; 4]).await.unwrap();
        }
        proxy.set_share(holds.clone(), 0.8);
        let many = held(&mut all).await;
        assert!(few.iter().zip(&many).all(|(few, many)| *many || !few));
        assert_ne!(few, many);
        runs.push(few);
    }
    assert_eq!(runs[0], runs[1], "the same seed");
    assert_ne!(runs[0], runs[2], "another seed");
}

#[tokio::test]
async fn a_share_of_connections_breaks_and_another_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _tasks) = echo(folder.path()).await;
    let proxy = Proxy::start(&folder.path().join("proxy.sock"), &server, 7).unwrap();
    let mut all = connections(&proxy, 40).await;
    let mut n_before = 0;
    for round in 1..=2 {
        proxy.break_share(0.5);
        let mut left = Vec::new();
        let until = Instant::now() + Duration::from_millis(200);
        for mut stream in all {
            let ended = timeout_at(until, stream.read(&mut [0; 1])).await;
            if ended.is_err() {
                left.push(stream);
            }
        }
        let n_broken = proxy.counts().1;
        assert_eq!(n_broken, 40 - left.len() as u64, "round {round}");
        assert!(n_broken > n_before && !left.is_empty(), "{n_broken}");
        n_before = n_broken;
        all = left;
    }
    proxy.begin(7);
    proxy.break_all();
    for stream in &mut all {
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }
    assert_eq!(proxy.counts(), (0, all.len() as u64));
}

#[tokio::test]
async fn it_stands_before_a_port_as_well_and_each_touched_piece_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Endpoint::Tcp {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap_or(0);
        }
    });
    let proxy = Proxy::start(&folder.path().join("proxy.sock"), target, 7).unwrap();
    let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
    assert_eq!(round_trip(&mut stream, b"one").await, b"one");
    assert_eq!(proxy.counts(), (0, 0));
    for faults in [
        Faults {
            delay: Duration::from_millis(1),
            slice: 1,
            ..Faults::default()
        },
        Faults {
            bytes_per_s: 1_000_000,
            ..Faults::default()
        },
        Faults {
            slice: 2,
            ..Faults::default()
        },
    ] {
        proxy.begin(7);
        proxy.set(faults.clone());
        assert_eq!(round_trip(&mut stream, b"two").await, b"two");
        assert_eq!(proxy.counts(), (2, 0), "there and back: {faults:?}");
    }
}

#[tokio::test]
async fn where_the_server_is_away_connections_end_and_it_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = folder.path().join("server.sock");
    let proxy = Proxy::start(&folder.path().join("proxy.sock"), &server, 7).unwrap();
    let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let (_, _tasks) = echo(folder.path()).await;
    let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
    assert_eq!(round_trip(&mut stream, b"one").await, b"one");
}
