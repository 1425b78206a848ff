//! The account that servers run under: never root, and everybody else's servers under their own.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use anyhow::{Context, bail};

/// An ordinary account of this machine, to which root gives its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// The accounts that root uses for servers, the best first; one of them is on every Debian.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// The account for servers, or `None` when this process is not root and they run as it does.
pub fn for_servers() -> anyhow::Result<Option<Account>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    match CANDIDATES.iter().find_map(|name| find(&passwd, name)) {
        Some(account) => Ok(Some(account)),
        None => bail!("servers do not run as root, and neither of the accounts {CANDIDATES:?} exists"),
    }
}

fn find(passwd: &str, wanted: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| *name == wanted)?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name: name.to_owned(), uid, gid })
    })
}

/// Makes the directory and everything above it, if need be, and sees to it that nobody but the account (and
/// root) gets into it. A directory that is there and somebody else's is refused.
pub fn private_dir(dir: &Path, account: Option<&Account>) -> anyhow::Result<()> {
    let existed = dir.exists();
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let owner = fs::symlink_metadata(dir)?.uid();
    let wanted = account.map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
    if owner != wanted {
        if existed && account.is_none() {
            bail!(
                "{} belongs to user {owner}: run as that user, or set EVENTLY_DATA_DIR to a directory of your own",
                dir.display()
            );
        }
        let gid = account.map(|account| account.gid);
        // What is inside belongs to whoever ran the servers before: root may take over its own, no one else's.
        if existed && fs::read_dir(dir)?.next().is_some() {
            bail!("{} is not empty and belongs to user {owner}, not to user {wanted}", dir.display());
        }
        chown(dir, Some(wanted), gid).with_context(|| format!("cannot give {} away", dir.display()))?;
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_an_account_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgresql:x:9:9::/:/bin/sh\npostgres:x:101:104:P,,,:/:/bin/sh\n";
        let account = find(passwd, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (101, 104));
        assert_eq!(find(passwd, "nobody"), None);
    }
}
