//! What happens in a child between fork and exec, and the thread that forks.
//!
//! The only place with `unsafe`: the system wants these things done in the child.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    sync::{OnceLock, mpsc},
};

use tokio::process::{Child, Command};

/// Number of the first descriptor that is handed to a child; the others follow.
pub(crate) const FIRST_FD: RawFd = 3;

/// Most descriptors that are handed to a child.
pub(crate) const MAX_FDS: usize = 12;

/// What a child gets beside its command line.
#[derive(Debug, Default)]
pub(crate) struct ChildSetup {
    /// Descriptors, to become [`FIRST_FD`] and those after it.
    pub(crate) fds: Vec<OwnedFd>,
    /// Bytes of address space.
    pub(crate) memory_bytes: Option<u64>,
    /// Processes of the user.
    pub(crate) processes: Option<u64>,
    /// The `cgroup.procs` file of the group that it joins.
    pub(crate) cgroup: Option<File>,
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that forks. A child can only be told to die with the *thread* that made it, and the async runtime's threads
/// come and go; this one stays.
fn spawner() -> io::Result<&'static mpsc::Sender<Job>> {
    static SPAWNER: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();
    SPAWNER
        .get_or_init(|| {
            let (sender, receiver) = mpsc::channel::<Job>();
            let run = move || receiver.into_iter().for_each(|job| job());
            std::thread::Builder::new().name("runtime-spawner".into()).spawn(run).ok().map(|_| sender)
        })
        .as_ref()
        .ok_or_else(|| io::Error::other("cannot start the thread that starts processes"))
}

/// Starts a process that is killed when this process ends. To be called in a tokio runtime.
pub(crate) async fn spawn(mut command: Command, setup: ChildSetup) -> io::Result<Child> {
    if setup.fds.len() > MAX_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for a child"));
    }
    prepare(&mut command, setup);
    let runtime = tokio::runtime::Handle::current();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let job = Box::new(move || {
        let _entered = runtime.enter();
        // The standard library tells exec errors over a descriptor of its own, which must not be one of the child's.
        let _occupied = occupy_low_fds();
        let _ = sender.send(command.spawn());
    });
    spawner()?.send(job).map_err(|_| io::Error::other("the thread that starts processes ended"))?;
    receiver.await.map_err(|_| io::Error::other("the thread that starts processes failed"))?
}

fn occupy_low_fds() -> Vec<File> {
    let limit = FIRST_FD + RawFd::try_from(MAX_FDS).unwrap_or(0);
    let mut out = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        if file.as_raw_fd() >= limit {
            break;
        }
        out.push(file);
    }
    out
}

fn set_limit(resource: libc::__rlimit_resource_t, value: Option<u64>) -> io::Result<()> {
    let Some(value) = value else {
        return Ok(());
    };
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the pointer is to a live value of the right type; the call has no other requirement.
    if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn prepare(command: &mut Command, setup: ChildSetup) {
    let parent = std::process::id();
    // Room that the child fills; it must not allocate.
    let mut moved = [-1 as RawFd; MAX_FDS];
    let in_child = move || -> io::Result<()> {
        // SAFETY: plain system calls without pointers.
        unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before that took effect.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        if let Some(cgroup) = &setup.cgroup {
            // SAFETY: the buffer is live and its length is right; the descriptor is open as `cgroup` is.
            if unsafe { libc::write(cgroup.as_raw_fd(), c"0".as_ptr().cast(), 1) } != 1 {
                return Err(io::Error::last_os_error());
            }
        }
        set_limit(libc::RLIMIT_AS, setup.memory_bytes)?;
        set_limit(libc::RLIMIT_NPROC, setup.processes)?;
        let beyond = FIRST_FD + setup.fds.len() as RawFd;
        for (slot, fd) in moved.iter_mut().zip(&setup.fds) {
            // SAFETY: the descriptor is open as `fd` is; the copy is above every final number.
            *slot = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, beyond) };
            if *slot < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        for (i, fd) in moved.iter().take(setup.fds.len()).enumerate() {
            // SAFETY: the descriptor was opened above; what the target number meant in this child is not needed any more.
            if unsafe { libc::dup2(*fd, FIRST_FD + i as RawFd) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only; it neither allocates nor takes locks (errors are plain numbers).
    unsafe {
        command.as_std_mut().pre_exec(in_child);
    }
}
