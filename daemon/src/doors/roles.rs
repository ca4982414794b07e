//! What a peer may do, by its uid and gid and the system's groups (semantics.md section 8).
//!
//! Reads `/etc/passwd` and `/etc/group` anew for each connection, so that a change counts at once. Other sources of
//! accounts (LDAP, sssd) are not asked: there the peer's primary group counts, which the kernel tells us.

use std::fs;

use pipectl_shared::rpc::{Identity, Role};

/// Group whose members may read.
pub(super) const GROUP_VIEWERS: &str = "pipelined";
/// Group whose members may run experiments, if they may come in at all.
pub(super) const GROUP_CHAOS: &str = "pipelined-chaos";
/// Group whose members may act.
pub(super) const GROUP_OPERATORS: &str = "pipelined-ops";

/// Users and groups of the system, as two files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// `(name, uid, primary gid)`
    users: Vec<(String, u32, u32)>,
    /// `(name, gid, names of members)`
    groups: Vec<(String, u32, Vec<String>)>,
}

impl Accounts {
    /// Reads the system's files; one that cannot be read counts as empty. Blocks on two small local files.
    pub fn read() -> Self {
        let text = |path| {
            fs::read(path)
                .map(|b| String::from_utf8_lossy(&b).into_owned())
                .unwrap_or_default()
        };
        Self::parse(&text("/etc/passwd"), &text("/etc/group"))
    }

    /// From the files' texts; lines that make no sense are passed over.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let lines = |text: &'_ str| -> Vec<Vec<String>> {
            text.lines()
                .map(|l| l.split(':').map(str::to_owned).collect())
                .collect()
        };
        let user = |f: &Vec<String>| {
            Some((
                f.first()?.clone(),
                f.get(2)?.parse().ok()?,
                f.get(3)?.parse().ok()?,
            ))
        };
        let group_of = |f: &Vec<String>| {
            let members = f
                .get(3)?
                .split(',')
                .map(|m| m.trim().to_owned())
                .filter(|m| !m.is_empty())
                .collect();
            Some((f.first()?.clone(), f.get(2)?.parse().ok()?, members))
        };
        Self {
            users: lines(passwd).iter().filter_map(user).collect(),
            groups: lines(group).iter().filter_map(group_of).collect(),
        }
    }

    /// Id of a group by its name.
    pub fn gid(&self, group: &str) -> Option<u32> {
        self.groups
            .iter()
            .find(|(name, ..)| name == group)
            .map(|(_, gid, _)| *gid)
    }

    /// Login name of a uid, or `uid:N`.
    pub fn user(&self, uid: u32) -> String {
        self.users
            .iter()
            .find(|(_, id, _)| *id == uid)
            .map_or_else(|| format!("uid:{uid}"), |(name, ..)| name.clone())
    }

    /// Whether a peer with this uid and primary gid is in a group.
    fn is_member(&self, uid: u32, gid: u32, group: &str) -> bool {
        let Some((_, id, members)) = self.groups.iter().find(|(name, ..)| name == group) else {
            return false;
        };
        // Several names may share a uid; each counts.
        let mut users = self.users.iter().filter(|(_, u, _)| *u == uid);
        gid == *id || users.any(|(name, _, primary)| primary == id || members.contains(name))
    }

    /// What this peer may do; `None` = nothing, not even look. `max` can only lower it.
    pub fn role(&self, uid: u32, gid: u32, own_uid: u32, max: Role) -> Option<Role> {
        let role = if uid == 0 || uid == own_uid {
            Role::Admin
        } else if self.is_member(uid, gid, GROUP_OPERATORS) {
            Role::Operator
        } else if self.is_member(uid, gid, GROUP_VIEWERS) {
            Role::Viewer
        } else {
            return None;
        };
        Some(role.min(max))
    }

    /// Whether this peer may run experiments: an admin, or a member of the group for it who may at least look. Acting is
    /// another right. A configuration that leaves no admin takes it from root and the daemon's own user, too.
    pub fn may_chaos(&self, uid: u32, gid: u32, role: Role) -> bool {
        role == Role::Admin || self.is_member(uid, gid, GROUP_CHAOS)
    }

    /// Who the peer is, for the greeting and the audit file.
    pub fn identity(&self, uid: u32, gid: u32, pid: Option<i32>) -> Identity {
        Identity {
            uid,
            gid,
            pid,
            user: self.user(uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        daemon:x:900:900::/:/usr/sbin/nologin\n\
        ann:x:1000:1000:Ann,,,:/home/ann:/bin/sh\n\
        bob:x:1001:1001::/home/bob:/bin/sh\n\
        cy:x:1002:950::/home/cy:/bin/sh\n\
        dee:x:1003:1003::/home/dee:/bin/sh\n\
        dee2:x:1003:1003::/home/dee:/bin/sh\n\
        broken line\n:::\nbad:x:minus:1::\n";
    const GROUP: &str =
        "root:x:0:\npipelined:x:950:ann, dee2\npipelined-ops:x:951:bob\nbroken\nx:y:z:w\n";

    #[test]
    fn roles_follow_uid_and_groups_and_configuration_can_only_lower() {
        use Role::{Admin, Operator, Viewer};
        let table = [
            ("root", 0, 0, Admin, Some(Admin)),
            ("the daemon's own uid", 900, 900, Admin, Some(Admin)),
            (
                "a member of pipelined-ops",
                1001,
                1001,
                Admin,
                Some(Operator),
            ),
            ("a member of pipelined", 1000, 1000, Admin, Some(Viewer)),
            (
                "pipelined as primary group in passwd",
                1002,
                7,
                Admin,
                Some(Viewer),
            ),
            (
                "pipelined as the peer's own group",
                4242,
                950,
                Admin,
                Some(Viewer),
            ),
            (
                "pipelined-ops as the peer's own group",
                4242,
                951,
                Admin,
                Some(Operator),
            ),
            ("second name of one uid", 1003, 1003, Admin, Some(Viewer)),
            ("nobody", 4242, 4242, Admin, None),
            (
                "nobody, and a configuration that would allow all",
                4242,
                4242,
                Admin,
                None,
            ),
            ("root lowered", 0, 0, Operator, Some(Operator)),
            ("root lowered to viewer", 0, 0, Viewer, Some(Viewer)),
            ("operator lowered", 1001, 1001, Viewer, Some(Viewer)),
            ("a viewer is not raised", 1000, 1000, Operator, Some(Viewer)),
        ];
        let accounts = Accounts::parse(PASSWD, GROUP);
        for (desc, uid, gid, max, role) in table {
            assert_eq!(accounts.role(uid, gid, 900, max), role, "{desc}");
        }
    }

    #[test]
    fn experiments_are_a_right_of_their_own() {
        use Role::{Admin, Operator, Viewer};
        let group =
            "pipelined:x:950:ann,bob\npipelined-ops:x:951:bob,cy\npipelined-chaos:x:952:ann,dee\n";
        let accounts = Accounts::parse(PASSWD, group);
        let table = [
            ("root", 0, 0, Admin, Some(true)),
            ("the daemon's own uid", 900, 900, Admin, Some(true)),
            ("root where nobody is admin", 0, 0, Operator, Some(false)),
            ("an operator", 1001, 1001, Admin, Some(false)),
            ("a viewer in the group", 1000, 1000, Admin, Some(true)),
            (
                "the same, with roles lowered",
                1000,
                1000,
                Viewer,
                Some(true),
            ),
            (
                "the group as the peer's own, and an operator",
                1001,
                952,
                Admin,
                Some(true),
            ),
            ("in the group, and in no other", 1003, 1003, Admin, None),
        ];
        for (desc, uid, gid, max, expected) in table {
            let role = accounts.role(uid, gid, 900, max);
            let may = role.map(|role| accounts.may_chaos(uid, gid, role));
            assert_eq!(may, expected, "{desc}");
        }
    }

    #[test]
    fn without_the_groups_only_root_and_the_daemon_come_in() {
        let accounts = Accounts::parse(PASSWD, "root:x:0:\n");
        assert_eq!(accounts.gid(GROUP_VIEWERS), None);
        for uid in [1000, 1001, 1002, 4242] {
            assert_eq!(accounts.role(uid, 950, 900, Role::Admin), None);
        }
        assert_eq!(accounts.role(0, 0, 900, Role::Admin), Some(Role::Admin));
    }

    #[test]
    fn names_are_found_or_made_up_from_the_number() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        assert_eq!(accounts.user(1000), "ann");
        assert_eq!(accounts.user(77), "uid:77");
        assert_eq!(accounts.gid(GROUP_VIEWERS), Some(950));
    }
}
