//! The console in a terminal of tmux, driven by key presses. A tmux server of its own for each, gone when dropped.
//!
//! Everything the console wrote is kept and judged by the strict terminal of `console/tests/common/strict.rs`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::house::{House, PATIENCE, pipectl_bin, signal, text, wait_for};

use super::strict::Strict;

/// A console in a terminal.
pub struct Console {
    dir: tempfile::TempDir,
    size: (u16, u16),
}

/// How a console is started.
pub struct Setting<'a> {
    pub size: (u16, u16),
    /// Environment beside what every terminal has.
    pub env: &'a [(&'a str, &'a str)],
    /// Arguments of `pipectl`.
    pub args: &'a [&'a str],
}

impl Setting<'_> {
    pub fn sized(columns: u16, rows: u16) -> Self {
        Self {
            size: (columns, rows),
            env: &[],
            args: &[],
        }
    }
}

/// What the pane runs: the modes of the terminal before and after, the console in between, its pid and exit code. It waits
/// for `go`, so that tmux keeps what is written from the first byte.
const SCRIPT: &str = r#"#!/bin/sh
cd "$1" || exit 9
shift
while [ ! -e go ]; do sleep 0.02; done
stty -a > before
sh -c 'echo $$ > pid.new; mv pid.new pid; exec "$@"' sh "$@"
code=$?
stty -a > after
echo "the console ended with $code"
echo "$code" > code.new; mv code.new code
exec sleep 600
"#;

impl Console {
    /// Opens it on the daemon of a house; it need not run.
    #[track_caller]
    pub fn open(house: &House, setting: &Setting<'_>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("tmux-")
            .tempdir()
            .expect("a temporary folder");
        std::fs::write(dir.path().join("run.sh"), SCRIPT).expect("write the script");
        let console = Self {
            dir,
            size: setting.size,
        };
        let mut words: Vec<String> = vec!["env".to_owned()];
        words.extend(
            [
                "LC_ALL",
                "LC_CTYPE",
                "SSH_CONNECTION",
                "NO_COLOR",
                "COLORTERM",
                "PIPELINED_SOCKET",
                "XDG_CONFIG_HOME",
            ]
            .map(|name| format!("--unset={name}")),
        );
        let home = console.path("home").display().to_string();
        words.extend([
            format!("HOME={home}"),
            format!("XDG_STATE_HOME={home}/state"),
            "LANG=C.UTF-8".to_owned(),
            "TERM=tmux-256color".to_owned(),
        ]);
        words.extend(
            setting
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        words.extend([
            "sh".to_owned(),
            console.path("run.sh").display().to_string(),
            console.dir.path().display().to_string(),
            pipectl_bin().display().to_string(),
            "--socket".to_owned(),
            house.socket().display().to_string(),
        ]);
        words.extend(setting.args.iter().map(|arg| (*arg).to_owned()));
        let quoted: Vec<String> = words
            .iter()
            .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
            .collect();
        let (columns, rows) = setting.size;
        console.tmux(&[
            "new-session",
            "-d",
            "-x",
            &columns.to_string(),
            "-y",
            &rows.to_string(),
            &quoted.join(" "),
            ";",
            // The whole window is the console's; it waits for `go` until it is.
            "set-option",
            "-g",
            "status",
            "off",
        ]);
        console.tmux(&[
            "resize-window",
            "-x",
            &columns.to_string(),
            "-y",
            &rows.to_string(),
        ]);
        let kept = format!("cat > '{}'", console.path("bytes").display());
        console.tmux(&["pipe-pane", &kept]);
        std::fs::write(console.path("go"), "").expect("let it go");
        console
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where it looks for its settings.
    pub fn settings(dir: &Path) -> PathBuf {
        dir.join("pipectl/config.toml")
    }

    #[track_caller]
    fn tmux(&self, args: &[&str]) -> String {
        let out = Command::new("tmux")
            .args(["-u", "-f", "/dev/null", "-S"])
            .arg(self.path("tmux.sock"))
            .args(args)
            .env("LANG", "C.UTF-8")
            .env_remove("LC_ALL")
            .env_remove("TMUX")
            .stdin(Stdio::null())
            .output()
            .expect("start tmux; ./scripts/test installs it, or: apt-get install tmux");
        assert!(out.status.success(), "tmux {args:?}: {}", text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Presses keys one after the other, by tmux' names: `x`, `Enter`, `Escape`, `Space`, `Tab`, `C-c`.
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        for key in keys {
            self.tmux(&["send-keys", "-t", ":", "--", key]);
        }
    }

    /// Types text into a field.
    #[track_caller]
    pub fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-t", ":", "-l", "--", text]);
    }

    /// What is on the screen.
    #[track_caller]
    pub fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-t", ":"])
    }

    /// Waits until this is on the screen; the whole of it.
    #[track_caller]
    pub fn sees(&self, wanted: &str) -> String {
        self.sees_one(wanted, |screen| screen.contains(wanted))
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    pub fn sees_one(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let screen = self.text();
            if is_so(&screen) {
                return screen;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "waited {PATIENCE:?} for {what:?}; there is\n{screen}"
            );
            std::thread::park_timeout(std::time::Duration::from_millis(30));
        }
    }

    /// Waits until this is no longer on the screen.
    #[track_caller]
    pub fn sees_no(&self, unwanted: &str) -> String {
        self.sees_one(&format!("no {unwanted}"), |screen| {
            !screen.contains(unwanted)
        })
    }

    /// A person reads: dialogs take no keys in their first moment.
    pub fn is_read(&self) {
        std::thread::park_timeout(std::time::Duration::from_millis(250));
    }

    /// Time for a frame: ten are drawn a second.
    pub fn is_drawn(&self) {
        std::thread::park_timeout(std::time::Duration::from_millis(110));
    }

    /// Waits until the bar says that this screen is shown.
    #[track_caller]
    pub fn is_on(&self, name: &str) {
        self.sees_one(&format!("[{name}]"), |screen| {
            Self::shown(screen).as_deref() == Some(name)
        });
    }

    /// Colours that it has set so far, as the parameters of their sequences.
    pub fn colours(&self) -> Vec<Vec<u16>> {
        let bytes = std::fs::read(self.path("bytes")).expect("what it wrote");
        let mut strict = Strict::new(self.size.0, self.size.1);
        strict.take(&bytes);
        strict.colours().to_vec()
    }

    /// The line that begins with the cursor's mark.
    pub fn cursor_line(screen: &str) -> Option<&str> {
        screen
            .lines()
            .skip(2)
            .find(|line| line.starts_with('▶') || line.starts_with('>'))
    }

    /// Opens help of the screen and leaves it: a console that does this is alive and takes keys.
    #[track_caller]
    pub fn answers(&self) {
        self.press(&["?"]);
        self.sees("help: ");
        self.press(&["Escape"]);
        self.sees_no("help: ");
    }

    /// The name of the shown screen, from the bar.
    pub fn shown(screen: &str) -> Option<String> {
        let bar = screen.lines().nth(1)?;
        let (_, rest) = bar.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    }

    #[track_caller]
    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.size = (columns, rows);
        self.tmux(&[
            "resize-window",
            "-x",
            &columns.to_string(),
            "-y",
            &rows.to_string(),
        ]);
    }

    /// Pastes as a terminal does that knows no bracketed paste.
    #[track_caller]
    pub fn paste(&self, bytes: &[u8]) {
        let path = self.path("paste");
        std::fs::write(&path, bytes).expect("write the paste");
        self.tmux(&["load-buffer", &path.display().to_string()]);
        // -r: line ends as they are.
        self.tmux(&["paste-buffer", "-d", "-r", "-t", ":"]);
    }

    /// Sends a signal to the console.
    pub fn signal(&self, name: &str) {
        let pid = wait_for("the console's pid", || {
            let pid = std::fs::read_to_string(self.path("pid")).ok()?;
            pid.trim().parse().ok()
        });
        signal(pid, name);
    }

    /// Waits until it has ended; the exit code. The terminal must be as it was before.
    #[track_caller]
    pub fn ended(&self) -> i32 {
        let code = wait_for("the console to end", || {
            let code = std::fs::read_to_string(self.path("code")).ok()?;
            code.trim().parse::<i32>().ok()
        });
        self.sees(&format!("the console ended with {code}"));
        let flags = self.tmux(&[
            "display-message",
            "-p",
            "-t",
            ":",
            "#{alternate_on} #{cursor_flag}",
        ]);
        assert_eq!(
            flags.trim(),
            "0 1",
            "the ordinary screen, with the cursor shown"
        );
        // Its first line is the size.
        let modes = |name: &str| {
            let all = std::fs::read_to_string(self.path(name)).expect("the modes of stty");
            all.split_once('\n').expect("lines").1.to_owned()
        };
        assert_eq!(modes("after"), modes("before"));
        assert!(modes("after").contains(" icanon") && modes("after").contains(" echo "));
        self.is_ours();
        code
    }

    /// `q`, and everything in order.
    #[track_caller]
    pub fn quit(&self) {
        self.press(&["q"]);
        assert_eq!(self.ended(), 0);
    }

    /// Insists that the console wrote nothing but its own sequences.
    #[track_caller]
    pub fn is_ours(&self) {
        let bytes = std::fs::read(self.path("bytes")).expect("what it wrote");
        let mut strict = Strict::new(self.size.0, self.size.1);
        strict.take(&bytes);
        assert!(!bytes.is_empty());
        assert_eq!(strict.faults(), <[String; 0]>::default());
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(self.path("tmux.sock"))
            .arg("kill-server")
            .stderr(Stdio::null())
            .status();
    }
}
