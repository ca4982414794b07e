//! What an error reply of the server means for the caller.

use crate::store::StoreError;

/// Classifies the text of an error reply.
pub(super) fn from_reply(text: &str) -> StoreError {
    // A script's error is prefixed by its code as well; Redis 7 adds "script: <sha>, on @user_script:N." at the end.
    let text = text.trim();
    let word = text.split_whitespace().next().unwrap_or_default();
    let clean = || clean(text);
    match word {
        "NOGROUP" | "UNBLOCKED" => StoreError::GroupGone(clean()),
        "OOM" => StoreError::OutOfMemory(clean()),
        "LOADING" | "BUSY" | "MASTERDOWN" | "TRYAGAIN" => StoreError::Loading(clean()),
        "READONLY" | "UNKILLABLE" | "NOREPLICAS" => StoreError::ReadOnly(clean()),
        "MISCONF" => StoreError::DiskFull(clean()),
        "WRONGTYPE" | "BROKEN" => StoreError::Broken(clean()),
        "FOREIGN" => StoreError::Foreign(clean()),
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => StoreError::Denied(clean()),
        _ if text.contains("-OOM") || text.contains("OOM command not allowed") => {
            StoreError::OutOfMemory(clean())
        }
        _ if text.contains("-MISCONF") => StoreError::DiskFull(clean()),
        _ if text.contains("-READONLY") => StoreError::ReadOnly(clean()),
        _ if text.contains("WRONGTYPE") => StoreError::Broken(clean()),
        _ if text.contains("invalid username-password pair")
            || text.contains("without any password configured") =>
        {
            StoreError::Denied(clean())
        }
        _ => StoreError::Bug(clean()),
    }
}

/// Without the words that are for programs, and without where in the script it happened.
fn clean(text: &str) -> String {
    let text = text.split(" script: ").next().unwrap_or(text).trim();
    let text = text
        .strip_prefix("BROKEN ")
        .or_else(|| text.strip_prefix("FOREIGN "))
        .unwrap_or(text);
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_reply_says_what_to_do() {
        let table = [
            (
                "NOGROUP No such key 'events' or consumer group 'g'",
                "GroupGone",
            ),
            ("UNBLOCKED the stream key no longer exists", "GroupGone"),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "OutOfMemory",
            ),
            ("LOADING Redis is loading the dataset in memory", "Loading"),
            (
                "READONLY You can't write against a read only replica.",
                "ReadOnly",
            ),
            ("MISCONF Errors writing to the AOF file", "DiskFull"),
            (
                "BROKEN key \"events\" holds a list script: abc, on @user_script:3.",
                "Broken",
            ),
            (
                "FOREIGN stream \"events\" belongs to pipeline \"x\"",
                "Foreign",
            ),
            ("NOAUTH Authentication required.", "Denied"),
            ("WRONGPASS invalid username-password pair", "Denied"),
            ("ERR something else", "Bug"),
        ];
        for (text, wanted) in table {
            let got = format!("{:?}", from_reply(text));
            assert!(got.starts_with(wanted), "{text}: {got}");
            assert!(!got.contains("user_script"), "{got}");
        }
    }
}
