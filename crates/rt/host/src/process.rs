//! A runtime's process: started, watched, killed. Source: `go/runtime/host/sandbox/process/naked.go`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    os::fd::OwnedFd,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use tokio::{
    process::{Child, Command},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::HostError,
    exec::{self, ChildSetup},
    limits::{Confinement, ResourceLimits},
    logs::{self, ComponentLog, Source},
};

/// What to start.
#[derive(Debug)]
pub struct ProcessSpec {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables of its environment.
    pub env: BTreeMap<String, OsString>,
    /// Whether it gets the node's environment beside.
    pub inherit_env: bool,
    /// Descriptors that become number 3 and those after it.
    pub fds: Vec<OwnedFd>,
    /// Bounds.
    pub limits: ResourceLimits,
    /// Who it is, in the log.
    pub source: Source,
    /// File that gets its output.
    pub log: Option<Arc<ComponentLog>>,
}

/// A running process. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    exit: watch::Receiver<Option<String>>,
    kill: CancellationToken,
    tasks: TaskTracker,
}

impl Process {
    /// Starts a process. To be called in a tokio runtime.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn spawn(spec: ProcessSpec) -> Result<Self, HostError> {
        let failed = |e: std::io::Error| HostError::Start(format!("{}: {e}", spec.path.display()));
        let confinement = Confinement::prepare(&spec.limits, &spec.source);
        let mut command = Command::new(&spec.path);
        command.args(&spec.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).process_group(0);
        if !spec.inherit_env {
            command.env_clear();
        }
        command.envs(&spec.env);
        let setup = ChildSetup {
            fds: spec.fds,
            memory_bytes: confinement.address_space(),
            processes: confinement.user_processes(),
            cgroup: confinement.open_group().map_err(failed)?,
        };
        let mut child = exec::spawn(command, setup).await.map_err(failed)?;
        let pid = child.id().unwrap_or_default();
        let tasks = TaskTracker::new();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        if let Some(stdout) = stdout {
            tasks.spawn(logs::forward(stdout, spec.source.clone(), spec.log.clone()));
        }
        if let Some(stderr) = stderr {
            tasks.spawn(logs::forward(stderr, spec.source, spec.log));
        }
        let (sender, exit) = watch::channel(None);
        let kill = CancellationToken::new();
        tasks.spawn(watch_over(child, pid, kill.clone(), sender, confinement));
        tasks.close();
        Ok(Self { pid, exit, kill, tasks })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it, with all processes of its group.
    pub fn kill(&self) {
        self.kill.cancel();
    }

    /// Waits until it ended; says how.
    pub async fn exited(&self) -> String {
        let mut exit = self.exit.clone();
        let text = exit.wait_for(Option::is_some).await.map(|text| text.clone());
        text.ok().flatten().unwrap_or_else(|| "process is no longer watched".into())
    }

    /// How it ended, if it did.
    pub fn exit(&self) -> Option<String> {
        self.exit.borrow().clone()
    }

    /// Kills it and waits until it is reaped. Its output is read to the end, unless somebody else keeps the pipe open.
    pub async fn finish(&self) {
        self.kill();
        self.exited().await;
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), self.tasks.wait()).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn watch_over(
    mut child: Child,
    pid: u32,
    kill: CancellationToken,
    exit: watch::Sender<Option<String>>,
    confinement: Confinement,
) {
    let status = tokio::select! {
        status = child.wait() => status,
        () = kill.cancelled() => {
            kill_group(pid);
            let _ = child.start_kill();
            child.wait().await
        }
    };
    // What it left behind in its group goes too.
    kill_group(pid);
    confinement.release().await;
    let text = match status {
        Ok(status) => describe(status),
        Err(e) => format!("cannot wait for the process: {e}"),
    };
    exit.send_replace(Some(text));
}

fn kill_group(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "process ended".into(),
        (Some(code), _) => format!("process terminated with exit code {code}"),
        (None, Some(signal)) => format!("process died due to signal {signal}"),
        (None, None) => "process ended in an unknown way".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base_prims::Namespace;
    use wire_runtime::bundle::ComponentId;

    use super::*;

    fn shell(script: &str) -> ProcessSpec {
        ProcessSpec {
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: BTreeMap::new(),
            inherit_env: false,
            fds: Vec::new(),
            limits: ResourceLimits::default(),
            source: Source {
                runtime_id: Namespace::default(),
                runtime_name: "test".into(),
                component: ComponentId::Ronl,
                provisioner: "test".into(),
            },
            log: None,
        }
    }

    async fn ends(script: &str) -> String {
        let process = Process::spawn(shell(script)).await.expect("starts");
        tokio::time::timeout(Duration::from_secs(20), process.exited()).await.expect("ends")
    }

    #[tokio::test]
    async fn tells_how_it_ended() {
        assert_eq!(ends("exit 0").await, "process ended");
        assert_eq!(ends("exit 3").await, "process terminated with exit code 3");
        assert_eq!(ends("kill -9 $$").await, "process died due to signal 9");
        let missing = ProcessSpec { path: "/nowhere/at/all".into(), ..shell("") };
        assert!(matches!(Process::spawn(missing).await, Err(HostError::Start(e)) if e.contains("/nowhere/at/all")));
    }

    #[tokio::test]
    async fn kills_the_whole_group() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; sleep 1000", file.display());
        let process = Process::spawn(shell(&script)).await.expect("starts");
        let child = loop {
            match std::fs::read_to_string(&file).unwrap_or_default().trim().parse::<i32>() {
                Ok(pid) => break pid,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        process.finish().await;
        assert_eq!(process.exit().as_deref(), Some("process died due to signal 9"));
        for _ in 0..400 {
            let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the process that it started is still there");
    }

    #[tokio::test]
    async fn environment_and_descriptors_are_what_was_asked() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("out");
        // One of the node's own descriptors, which is nobody else's business.
        let (secret, _writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
        let number = std::os::fd::AsRawFd::as_raw_fd(&secret);
        let mut spec = shell(&format!(
            "cat <&3 > {0}; echo \"$A-$HOME\" >> {0}; [ -e /proc/self/fd/{number} ] && echo leaked >> {0}; exit 0",
            out.display()
        ));
        spec.env.insert("A".into(), "b".into());
        spec.env.insert("PATH".into(), "/bin:/usr/bin".into());
        spec.fds.push(reader);
        let process = Process::spawn(spec).await.expect("starts");
        std::io::Write::write_all(&mut std::fs::File::from(writer), b"hello\n").expect("written");
        process.exited().await;
        let text = std::fs::read_to_string(&out).expect("readable");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, ["hello", "b-"]);
    }
}
