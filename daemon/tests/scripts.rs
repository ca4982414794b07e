//! The scripts of the repository, without what takes long: their syntax, their help, and what `lib.sh` does on machines
//! that this one is not. A machine is a folder of stubs that stands alone on PATH.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic names the line"
)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SCRIPTS: [&str; 7] = [
    "scripts/up",
    "scripts/down",
    "scripts/test",
    "scripts/bench",
    "scripts/fire",
    "scripts/mutate",
    ".ci/run",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn scripts_are_sound_and_can_be_run() {
    for script in SCRIPTS.into_iter().chain(["scripts/lib.sh"]) {
        let path = root().join(script);
        let output = Command::new("bash").arg("-n").arg(&path).output().unwrap();
        assert!(output.status.success(), "{script}: {}", text(&output));
        if script != "scripts/lib.sh" {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{script} is to be executable");
            let source = std::fs::read_to_string(&path).unwrap();
            assert!(
                source.contains("\nset -euo pipefail\n"),
                "{script} is to stop at the first fault"
            );
        }
    }
}

#[test]
fn every_script_says_what_it_does_from_any_folder() {
    for script in SCRIPTS {
        for flag in ["--help", "-h"] {
            let output = Command::new(root().join(script))
                .arg(flag)
                .current_dir("/")
                .output()
                .unwrap();
            assert!(output.status.success(), "{script}: {}", text(&output));
            let help = String::from_utf8(output.stdout).unwrap();
            assert!(
                help.starts_with(script) && help.lines().count() >= 3,
                "{script}: {help}"
            );
            assert!(
                !help.contains("set -euo") && !help.contains('#'),
                "{script}: code in its help: {help}"
            );
        }
    }
}

/// A machine that has the tools which every machine has, and `stubs`.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new(os_release: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Self { folder };
        std::fs::write(machine.path("os-release"), os_release).unwrap();
        std::fs::create_dir(machine.path("bin")).unwrap();
        for tool in [
            "bash", "sh", "sed", "dirname", "env", "cat", "chmod", "rm", "touch",
        ] {
            let real = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(tool));
            let real = real.into_iter().find(|path| path.exists()).unwrap();
            symlink(real, machine.path("bin").join(tool)).unwrap();
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stub(&self, name: &str, code: &str) {
        let path = self.path("bin").join(name);
        std::fs::write(
            &path,
            format!("#!/bin/sh\necho \"{name} $*\" >>\"$LOG\"\n{code}\n"),
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `apt-get install` that puts a redis-server on PATH.
    fn has_apt(&self) {
        let bin = self.path("bin").display().to_string();
        self.stub("apt-get", &format!("case \"$*\" in *install*) touch {bin}/redis-server; chmod 755 {bin}/redis-server;; esac"));
        self.stub("sudo", "exec \"$@\"");
    }

    fn run(&self, code: &str) -> Output {
        Command::new(self.path("bin").join("bash"))
            .args([
                "-c",
                &format!(
                    "set -euo pipefail; . '{}'; {code}",
                    root().join("scripts/lib.sh").display()
                ),
            ])
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.folder.path())
            .env("LOG", self.path("log"))
            .env("OS_RELEASE", self.path("os-release"))
            .output()
            .unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

const DEBIAN: &str = "NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n";

#[test]
fn a_server_that_is_there_is_left_as_it_is() {
    for name in ["redis-server", "valkey-server"] {
        let machine = Machine::new(DEBIAN);
        machine.has_apt();
        machine.stub("systemctl", "exit 0");
        machine.stub(name, "");
        let output = machine.run("need_redis");
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(
            machine.log(),
            "",
            "nothing was installed, no service touched"
        );
    }
}

#[test]
fn the_service_that_the_package_started_is_stopped_again() {
    let table = [
        (
            "systemd",
            "systemctl",
            "exit 0",
            "systemctl disable --now redis-server",
        ),
        (
            "an init script",
            "service",
            "exit 0",
            "service redis-server stop",
        ),
    ];
    for (desc, stub, code, expected) in table {
        let machine = Machine::new(DEBIAN);
        machine.has_apt();
        machine.stub(stub, code);
        let output = machine.run("need_redis");
        assert!(output.status.success(), "{desc}: {}", text(&output));
        let log = machine.log();
        assert!(
            log.contains("install -y --no-install-recommends redis-server"),
            "{desc}: {log}"
        );
        assert!(log.contains(expected), "{desc}: {log}");
    }
}

#[test]
fn a_container_without_services_is_no_fault() {
    for (stub, code) in [
        ("systemctl", "echo 'not booted with systemd' >&2; exit 1"),
        ("service", "exit 3"),
        ("none", ""),
    ] {
        let machine = Machine::new("ID=ubuntu\nVERSION_ID=\"24.04\"\n");
        machine.has_apt();
        machine.stub(stub, code);
        let output = machine.run("need_redis");
        assert!(output.status.success(), "{stub}: {}", text(&output));
        assert!(
            !machine.log().contains("stop") && !machine.log().contains("disable"),
            "{stub}: {}",
            machine.log()
        );
    }
}

#[test]
fn elsewhere_it_says_what_to_do_and_installs_nothing() {
    let table = [
        "ID=fedora\nVERSION_ID=42\n",
        "ID=debian\nVERSION_ID=\"11\"\n",
        "ID=ubuntu\nVERSION_ID=\"22.04\"\n",
        "",
    ];
    for os_release in table {
        let machine = Machine::new(os_release);
        machine.has_apt();
        let output = machine.run("need_redis || exit 9");
        assert_eq!(
            output.status.code(),
            Some(9),
            "{os_release}: {}",
            text(&output)
        );
        assert!(
            text(&output).contains("install Redis 7.0 or newer"),
            "{os_release}: {}",
            text(&output)
        );
        assert_eq!(machine.log(), "", "{os_release}");
    }
}

#[test]
fn old_package_lists_are_renewed_once() {
    let machine = Machine::new(DEBIAN);
    machine.has_apt();
    let renewed = machine.path("renewed").display().to_string();
    let bin = machine.path("bin").display().to_string();
    let code = format!(
        "case \"$*\" in update) touch {renewed};; *) test -e {renewed} || exit 100; touch {bin}/redis-server; chmod 755 \
         {bin}/redis-server;; esac"
    );
    machine.stub("apt-get", &code);
    let output = machine.run("need_redis");
    assert!(output.status.success(), "{}", text(&output));
    machine.stub("apt-get", "exit 100");
    let output = machine.run("rm -f \"$HOME/bin/redis-server\"; need_redis || exit 9");
    assert_eq!(output.status.code(), Some(9), "{}", text(&output));
    assert!(
        text(&output).contains("could not install redis-server"),
        "{}",
        text(&output)
    );
}

#[test]
fn the_target_folder_is_the_one_that_cargo_uses() {
    let machine = Machine::new(DEBIAN);
    machine.stub(
        "cargo",
        "echo '{\"target_directory\":\"/from/metadata\",\"version\":1}'",
    );
    let root = root().canonicalize().unwrap().display().to_string();
    for (set, expected) in [
        ("unset CARGO_TARGET_DIR", "/from/metadata".to_owned()),
        (
            "export CARGO_TARGET_DIR=/elsewhere",
            "/elsewhere".to_owned(),
        ),
        ("export CARGO_TARGET_DIR=here", "/here".to_owned()),
    ] {
        let output = machine.run(&format!(
            "cd /; {set}; enter_repo; echo \"$target $CARGO_TARGET_DIR $root $PWD\""
        ));
        let expected = expected.replace("//", "/");
        let found = String::from_utf8(output.stdout.clone())
            .unwrap()
            .replace("//", "/");
        assert_eq!(
            found.trim(),
            format!("{expected} {expected} {root} {root}"),
            "{set}: {}",
            text(&output)
        );
    }
    std::fs::remove_file(machine.path("bin/cargo")).unwrap();
    let output = machine.run("enter_repo");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("install Rust first"),
        "{}",
        text(&output)
    );
}

/// `scripts/up ARGS` on a machine whose cargo builds nothing and whose pipectl only notes what it is asked; on a terminal,
/// or without one. What was run.
fn up(args: &str, is_terminal: bool) -> Vec<String> {
    let machine = Machine::new(DEBIAN);
    machine.stub("redis-server", "");
    machine.stub("cargo", "");
    machine.stub(
        "pipectl",
        "[ \"$PIPELINED_DATA\" ] && echo \"data $PIPELINED_DATA\" >>\"$LOG\"; exit 0",
    );
    std::fs::create_dir_all(machine.path("target/release")).unwrap();
    symlink(
        machine.path("bin/pipectl"),
        machine.path("target/release/pipectl"),
    )
    .unwrap();
    let command = format!("bash '{}' {args}", root().join("scripts/up").display());
    let mut run = if is_terminal {
        let mut run = Command::new("/usr/bin/script");
        run.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
        run
    } else {
        let mut run = Command::new("/bin/bash");
        run.args(["-c", &command]);
        run
    };
    let output = run
        .env("PATH", machine.path("bin"))
        .env("SHELL", machine.path("bin/bash"))
        .env("HOME", machine.folder.path())
        .env("LOG", machine.path("log"))
        .env("CARGO_TARGET_DIR", machine.path("target"))
        .env_remove("PIPELINED_DATA")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{args}: {}", text(&output));
    let config = root().join("pipeline.toml").display().to_string();
    machine
        .log()
        .lines()
        .filter(|line| !line.starts_with("cargo"))
        .map(|line| line.replace(&config, "OURS").trim_end().to_owned())
        .collect()
}

#[test]
fn on_a_terminal_up_opens_the_console_of_the_same_daemon() {
    let table: [(&str, bool, &[&str]); 7] = [
        ("", false, &["pipectl up --config OURS"]),
        ("", true, &["pipectl up --config OURS", "pipectl"]),
        (
            "--config mine.toml --set a=b",
            true,
            &["pipectl up --config mine.toml --set a=b", "pipectl"],
        ),
        (
            "--socket /s --data=/d",
            true,
            &[
                "pipectl up --config OURS --socket /s --data=/d",
                "data /d",
                "pipectl --socket /s",
                "data /d",
            ],
        ),
        (
            "--data /d",
            false,
            &["pipectl up --config OURS --data /d", "data /d"],
        ),
        ("-o json", true, &["pipectl up --config OURS -o json"]),
        ("--no-input", true, &["pipectl up --config OURS --no-input"]),
    ];
    for (args, is_terminal, wanted) in table {
        assert_eq!(up(args, is_terminal), wanted, "{args} {is_terminal}");
    }
}
