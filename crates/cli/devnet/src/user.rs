//! Who runs the nodes: whoever started the network, or, if that is root, a user without rights.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::DevnetError;

/// Name of the user that runs the nodes of networks that root starts.
pub(crate) const USER_NAME: &str = "oasis-devnet";

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

impl User {
    /// The user of that name, if there is one, from `/etc/passwd`.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        lines.find_map(|fields| {
            let (found, uid, gid) = (fields.first()?, fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
            (*found == name).then(|| Self { name: name.to_owned(), uid, gid })
        })
    }

    /// The user of that name, made if there is none. Says whether it was made.
    ///
    /// # Errors
    /// If there is none and none can be made.
    pub fn find_or_create(name: &str) -> Result<(Self, bool), DevnetError> {
        if let Some(user) = Self::find(name) {
            return Ok((user, false));
        }
        let arguments = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"];
        let path = std::env::var("PATH").unwrap_or_default();
        let made = Command::new("useradd")
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .args(arguments)
            .args(["--shell", "/usr/sbin/nologin", name])
            .output();
        let reason = match made {
            Ok(output) if output.status.success() => "it is not in /etc/passwd afterwards".to_owned(),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => format!("useradd: {error}"),
        };
        match Self::find(name) {
            Some(user) => Ok((user, true)),
            None => Err(DevnetError::User { name: name.to_owned(), reason }),
        }
    }

    /// Lets a command run as this user.
    pub fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives a directory and everything in it to this user.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn take(&self, path: &Path) -> Result<(), DevnetError> {
        let metadata = path.symlink_metadata().map_err(DevnetError::io("inspect", path))?;
        if metadata.is_symlink() {
            return Ok(());
        }
        if (metadata.uid(), metadata.gid()) != (self.uid, self.gid) {
            chown(path, Some(self.uid), Some(self.gid)).map_err(DevnetError::io("give away", path))?;
        }
        if metadata.is_dir() {
            for entry in std::fs::read_dir(path).map_err(DevnetError::io("read", path))? {
                self.take(&entry.map_err(DevnetError::io("read", path))?.path())?;
            }
        }
        Ok(())
    }

    /// Whether this user can use a directory and run these programs; if not, says what it cannot.
    ///
    /// # Errors
    /// What is not possible.
    pub fn check(&self, dir: &Path, programs: &[&Path]) -> Result<(), String> {
        let can = |test: &str, path: &Path| {
            let mut command = Command::new("test");
            command.arg(test).arg(path).current_dir("/").stdin(Stdio::null());
            self.apply(&mut command);
            command.status().is_ok_and(|status| status.success())
        };
        if !can("-w", dir) {
            return Err(format!("{} cannot use {}", self.name, dir.display()));
        }
        match programs.iter().find(|program| !can("-x", program)) {
            Some(program) => Err(format!("{} cannot run {}", self.name, program.display())),
            None => Ok(()),
        }
    }
}

/// Whether a sandbox can be made by that user, or by this process; if not, what bubblewrap says.
///
/// # Errors
/// Why not.
pub(crate) fn check_sandbox(binary: &Path, user: Option<&User>) -> Result<(), String> {
    let mut command = Command::new(binary);
    command.args(["--unshare-all", "--ro-bind", "/", "/", "true"]).current_dir("/").stdin(Stdio::null());
    if let Some(user) = user {
        user.apply(&mut command);
    }
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(text.lines().next().unwrap_or("it failed without a word").trim().to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}
