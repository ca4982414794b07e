//! The socket on the disk: modes, what is replaced, what is refused.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::doors::roles::Accounts;
use crate::doors::socket::{BindError, Bound, bind};

async fn bind_in(dir: &std::path::Path) -> Result<Bound, BindError> {
    bind(&dir.join("control.sock"), &Accounts::default()).await
}

#[tokio::test]
async fn folder_and_socket_are_ours_alone_where_there_is_no_group() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let bound = bind_in(&folder).await.unwrap();
    let mode = |path: &std::path::Path| {
        std::fs::symlink_metadata(path)
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        (mode(&folder), mode(bound.path()), bound.is_shared),
        (0o700, 0o600, false)
    );
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        1,
        "nothing temporary is left"
    );
    drop(bound);
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        0,
        "the socket is removed"
    );
}

#[tokio::test]
async fn with_the_group_folder_and_socket_are_its_own() {
    if !rustix::process::geteuid().is_root() {
        return only_as_root("with_the_group_folder_and_socket_are_its_own");
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let accounts = Accounts::parse("", "pipelined:x:4321:\n");
    let bound = bind(&folder.join("control.sock"), &accounts).await.unwrap();
    let (of_folder, of_socket) = (
        std::fs::metadata(&folder).unwrap(),
        std::fs::metadata(bound.path()).unwrap(),
    );
    assert_eq!((of_folder.mode() & 0o7777, of_folder.gid()), (0o750, 4321));
    assert_eq!((of_socket.mode() & 0o7777, of_socket.gid()), (0o660, 4321));
    assert!(bound.is_shared);
}

/// Names a test that this machine cannot run, unless it is said that this is meant.
fn only_as_root(name: &str) {
    let is_meant = std::env::var_os("PIPELINED_TESTS_UNPRIVILEGED").is_some();
    assert!(
        is_meant,
        "{name} needs root; set PIPELINED_TESTS_UNPRIVILEGED=1 to leave it out"
    );
    println!("left out: {name}");
}

#[tokio::test]
async fn what_stands_at_the_path_is_replaced_only_if_it_is_our_stale_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    // Stale: bound by a process that is gone.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let bound = bind_in(dir.path()).await.unwrap();
    // Live.
    assert!(matches!(bind_in(dir.path()).await, Err(BindError::Live(_))));
    assert!(
        UnixStream::connect(&path).await.is_ok(),
        "the live one goes on"
    );
    drop(bound);
    // A file.
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(
        bind_in(dir.path()).await,
        Err(BindError::Foreign(_, "no socket"))
    ));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    // A symbolic link, to nowhere and to a socket.
    let other = dir.path().join("other.sock");
    for _ in 0..2 {
        symlink(&other, &path).unwrap();
        assert!(matches!(
            bind_in(dir.path()).await,
            Err(BindError::Foreign(_, "a symbolic link"))
        ));
        std::fs::remove_file(&path).unwrap();
        if !other.exists() {
            drop(std::os::unix::net::UnixListener::bind(&other).unwrap());
        }
    }
    // Somebody else's stale socket.
    if rustix::process::geteuid().is_root() {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        std::os::unix::fs::chown(&path, Some(4321), None).unwrap();
        assert!(matches!(
            bind_in(dir.path()).await,
            Err(BindError::Foreign(_, "another user's socket"))
        ));
    } else {
        only_as_root("somebody else's stale socket");
    }
}

#[tokio::test]
async fn paths_that_cannot_work_are_refused_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(100)).join("control.sock");
    let error = bind(&long, &Accounts::default()).await.unwrap_err();
    assert!(
        matches!(error, BindError::TooLong(..)) && error.to_string().contains("at most 100"),
        "{error}"
    );
    assert!(!long.parent().unwrap().exists(), "nothing was made");
    let root = bind(std::path::Path::new("/"), &Accounts::default())
        .await
        .unwrap_err();
    assert!(matches!(root, BindError::NoName(_)));
    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(
        bind_in(&open).await,
        Err(BindError::OpenFolder(_))
    ));
}

#[tokio::test]
async fn of_many_that_bind_at_once_one_wins_and_can_be_reached() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let dir = dir.path().to_owned();
        tasks.spawn(async move { bind_in(&dir).await });
    }
    let results = tasks.join_all().await;
    let winners: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
    assert_eq!(winners.len(), 1);
    assert!(
        UnixStream::connect(dir.path().join("control.sock"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_socket_that_took_our_place_is_not_removed_by_us() {
    let dir = tempfile::tempdir().unwrap();
    let bound = bind_in(dir.path()).await.unwrap();
    std::fs::remove_file(bound.path()).unwrap();
    let other = std::os::unix::net::UnixListener::bind(bound.path()).unwrap();
    let path = bound.path().to_owned();
    drop(bound);
    assert!(path.exists());
    drop(other);
}
