//! What can go wrong while a network is made or run, with what to do about it.

use std::path::PathBuf;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// The ParaTime's program cannot be made a bundle.
    #[error("runtime {}: {reason}", path.display())]
    Bundle {
        /// The program.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file or directory could not be used.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path leaves no room for the nodes' sockets.
    #[error(
        "directory {} is too long: the socket {} would have {length} bytes, a socket can have {limit}; use --dir with a shorter path",
        dir.display(), socket.display()
    )]
    PathTooLong {
        /// The directory.
        dir: PathBuf,
        /// The longest socket path in it.
        socket: PathBuf,
        /// Its length.
        length: usize,
        /// The longest possible.
        limit: usize,
    },
    /// The directory holds something else.
    #[error("{} exists and is not a devnet (it has no {marker}); use --dir with another path", dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// What marks a devnet.
        marker: &'static str,
    },
    /// The network in that directory runs.
    #[error("the network in {} is running (pid {pid} of {node}); stop it with `oasis-devnet stop --dir {}`", dir.display(), dir.display())]
    Running {
        /// The directory.
        dir: PathBuf,
        /// A process of it.
        pid: u32,
        /// Which node that is.
        node: String,
    },
    /// There is no network to act on.
    #[error("there is no devnet in {}; start one with `oasis-devnet --dir {}`", dir.display(), dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// Somebody else listens there.
    #[error("port {port} on 127.0.0.1 is taken ({source}); stop what uses it, or choose others with --base-port")]
    PortTaken {
        /// The port.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// A size or time that makes no network.
    #[error("{0}")]
    Plan(String),
    /// The node program is not there.
    #[error("there is no node program at {}: build it with `cargo build --release -p oasis-node`, or name one with --node-binary", path.display())]
    NoBinary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A runtime's program or bundle is not there.
    #[error("there is no runtime at {}: build the examples with `cargo build --release -p simple-keyvalue -p simple-keymanager`, or name another with --paratime or --key-manager", path.display())]
    NoRuntime {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The user that is to run the nodes cannot be made.
    #[error(
        "could not make the user {name} to run the nodes ({reason}); name another with --user, or run them as root with --allow-root"
    )]
    User {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// ParaTimes cannot be put into a sandbox here.
    #[error(
        "bubblewrap does not work here ({reason}); install it with `apt-get install bubblewrap` (and contrib/apparmor/bwrap-oasis where user namespaces are restricted), or run the ParaTime without a sandbox with --unconfined"
    )]
    Sandbox {
        /// Why.
        reason: String,
    },
    /// A fixture that makes no network.
    #[error("fixture {}: {reason}", path.display())]
    Fixture {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// There is no page.
    #[error(transparent)]
    Dashboard(#[from] cli_dashboard::DashboardError),
    /// Keys could not be made or read.
    #[error(transparent)]
    Key(#[from] base_identity::FileError),
    /// The genesis document that was built is not valid; a fault in this program.
    #[error("the genesis document is not valid: {0}")]
    Genesis(String),
    /// A process ended while the network came up or ran.
    #[error("{node} ended: {status}; its last lines, from {}:\n{tail}", log.display())]
    Ended {
        /// Which node.
        node: String,
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// The network did not come up in time.
    #[error("the network was not ready after {seconds} s: {what}; logs are below {}", dir.display())]
    NotReady {
        /// How long it was given.
        seconds: u64,
        /// What was missing.
        what: String,
        /// The directory.
        dir: PathBuf,
    },
    /// A node could not be asked.
    #[error("{node}: {message}")]
    Call {
        /// Which node.
        node: String,
        /// What happened.
        message: String,
    },
}

impl DevnetError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
