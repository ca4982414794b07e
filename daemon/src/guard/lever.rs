//! The lever: one switch that stops the experiment under way and blocks new ones until it is taken back. It is a file, so
//! that it survives the daemon.

use std::io;
use std::path::PathBuf;

use pipectl_shared::chaos::Lever;

use super::shelf::read_bounded;
use crate::datadir::write_whole;

/// Largest file in bytes; a reason has at most 1 KiB.
const FILE_MAX: u64 = 16 * 1024;

/// Where it is kept.
#[derive(Debug, Clone)]
pub(super) struct LeverFile(pub(super) PathBuf);

impl LeverFile {
    /// As it stands. A file that cannot be read counts as pulled: whoever pulled it meant it. Blocks.
    pub(super) fn read(&self) -> Lever {
        let why = match read_bounded(&self.0, FILE_MAX) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Lever::default(),
            Err(fault) => fault.to_string(),
            Ok(text) => match serde_json::from_str(&text) {
                Ok(lever) => return lever,
                Err(fault) => fault.to_string(),
            },
        };
        Lever {
            pulled: true,
            by: None,
            reason: Some(format!("read {}: {why}", self.0.display())),
            since_ms: None,
        }
    }

    /// On the disk when this returns. Blocks.
    pub(super) fn write(&self, lever: &Lever) -> io::Result<()> {
        write_whole(&self.0, &serde_json::to_vec(lever)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_and_counts_as_pulled_when_it_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = LeverFile(folder.path().join("lever.json"));
        assert!(!file.read().pulled);
        let lever = Lever {
            pulled: true,
            by: Some("ann".to_owned()),
            reason: Some("the sale".to_owned()),
            since_ms: Some(7),
        };
        file.write(&lever).unwrap();
        assert_eq!(LeverFile(file.0.clone()).read(), lever);
        std::fs::write(&file.0, "{\"pulled\": fal").unwrap();
        assert!(file.read().pulled);
        std::fs::write(&file.0, "x".repeat(100_000)).unwrap();
        assert!(file.read().pulled);
    }
}
