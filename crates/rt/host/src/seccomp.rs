//! The system calls that a sandboxed runtime may make, as a program of the kernel's filter machine.
//!
//! The same calls are allowed as with the reference (`go/runtime/host/sandbox/process/seccomp_linux.go`): a fixed list with
//! any arguments, `clone` without new namespaces, everything else fails with `EPERM`; `clone3` fails with `ENOSYS`, so
//! that C libraries fall back to `clone`. Calls of another architecture end the process.

macro_rules! numbers {
    ($($name:ident)*) => { &[$((stringify!($name), $name as u32)),*] };
}

/// Names and numbers of the calls that are allowed with any arguments, on every architecture.
const ALLOWED: &[(&str, u32)] = {
    use libc::*;
    numbers! {
        SYS_accept SYS_accept4 SYS_adjtimex SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_clock_getres
        SYS_clock_gettime SYS_clock_nanosleep SYS_close SYS_connect SYS_copy_file_range SYS_dup SYS_dup3
        SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_eventfd2 SYS_execve SYS_execveat SYS_exit
        SYS_exit_group SYS_faccessat SYS_fadvise64 SYS_fallocate SYS_fanotify_mark SYS_fchdir SYS_fchmod
        SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock
        SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex
        SYS_get_robust_list SYS_getcpu SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid
        SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority
        SYS_getrandom SYS_getresgid SYS_getresuid SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt
        SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr SYS_inotify_add_watch SYS_inotify_init1
        SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy SYS_io_getevents SYS_io_setup SYS_io_submit SYS_ioctl
        SYS_ioprio_get SYS_ioprio_set SYS_kill SYS_lgetxattr SYS_linkat SYS_listen SYS_listxattr SYS_llistxattr
        SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_memfd_create SYS_mincore SYS_mkdirat SYS_mlock
        SYS_mlock2 SYS_mlockall SYS_mmap SYS_mprotect SYS_mq_getsetattr SYS_mq_notify SYS_mq_open
        SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap SYS_msgctl SYS_msgget SYS_msgrcv
        SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall SYS_munmap SYS_nanosleep SYS_newfstatat SYS_openat
        SYS_pipe2 SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv SYS_prlimit64 SYS_pselect6 SYS_pwrite64 SYS_pwritev
        SYS_read SYS_readahead SYS_readlinkat SYS_readv SYS_recvfrom SYS_recvmmsg SYS_recvmsg
        SYS_remap_file_pages SYS_removexattr SYS_renameat2 SYS_restart_syscall SYS_rt_sigaction
        SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend
        SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max SYS_sched_get_priority_min
        SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam SYS_sched_getscheduler
        SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam
        SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop SYS_semtimedop
        SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_set_robust_list SYS_set_tid_address SYS_setfsgid
        SYS_setfsuid SYS_setgid SYS_setgroups SYS_setitimer SYS_setpgid SYS_setpriority SYS_setregid
        SYS_setresgid SYS_setresuid SYS_setreuid SYS_setsid SYS_setsockopt SYS_setuid SYS_setxattr SYS_shmat
        SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown SYS_sigaltstack SYS_signalfd4 SYS_socket SYS_socketpair
        SYS_splice SYS_statfs SYS_symlinkat SYS_sync SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill SYS_timer_create
        SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime SYS_timerfd_create
        SYS_timerfd_gettime SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate SYS_umask SYS_uname
        SYS_unlinkat SYS_utimensat SYS_vmsplice SYS_wait4 SYS_waitid SYS_write SYS_writev
    }
};

/// Those that only exist on x86-64.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[(&str, u32)] = {
    use libc::*;
    numbers! {
        SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create
        SYS_epoll_ctl_old SYS_epoll_wait SYS_epoll_wait_old SYS_eventfd SYS_fork SYS_futimesat
        SYS_get_thread_area SYS_getdents SYS_getpgrp SYS_getrlimit SYS_inotify_init SYS_lchown SYS_link
        SYS_lstat SYS_mkdir SYS_modify_ldt SYS_open SYS_pause SYS_pipe SYS_poll SYS_readlink SYS_rename
        SYS_renameat SYS_rmdir SYS_select SYS_set_thread_area SYS_setrlimit SYS_signalfd SYS_stat SYS_symlink
        SYS_sync_file_range SYS_time SYS_unlink SYS_utime SYS_utimes SYS_vfork
    }
};
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[(&str, u32)] = &[];

/// Flags of `clone` that make namespaces.
const NAMESPACE_FLAGS: u32 = 0x7c02_0000;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Calls of the x32 convention have this bit.
#[cfg(target_arch = "x86_64")]
const X32: Option<u32> = Some(0x4000_0000);
#[cfg(not(target_arch = "x86_64"))]
const X32: Option<u32> = None;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

/// Where the kernel puts what a filter sees.
const AT_NUMBER: u32 = 0;
const AT_ARCHITECTURE: u32 = 4;
const AT_FIRST_ARGUMENT: u32 = 16;

/// One instruction of the filter machine (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    operand: u32,
}

const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;

const fn statement(code: u16, operand: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, operand }
}

const fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

/// Allowed numbers as ranges, ascending.
fn ranges() -> Vec<(u32, u32)> {
    let mut numbers: Vec<u32> = ALLOWED.iter().chain(ALLOWED_HERE).map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut out: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match out.last_mut() {
            Some((_, last)) if last.saturating_add(1) == number => *last = number,
            _ => out.push((number, number)),
        }
    }
    out
}

fn program() -> Vec<Instruction> {
    let deny = statement(RETURN, ERRNO | libc::EPERM as u32);
    let mut out = vec![
        statement(LOAD, AT_ARCHITECTURE),
        jump(JUMP_EQUAL, ARCHITECTURE, 1, 0),
        statement(RETURN, KILL_PROCESS),
        statement(LOAD, AT_NUMBER),
    ];
    if let Some(bit) = X32 {
        out.extend([jump(JUMP_AT_LEAST, bit, 0, 1), statement(RETURN, KILL_PROCESS)]);
    }
    out.extend([
        jump(JUMP_EQUAL, libc::SYS_clone3 as u32, 0, 1),
        statement(RETURN, ERRNO | libc::ENOSYS as u32),
        jump(JUMP_EQUAL, libc::SYS_clone as u32, 0, 4),
        statement(LOAD, AT_FIRST_ARGUMENT),
        jump(JUMP_ANY_BIT, NAMESPACE_FLAGS, 0, 1),
        deny,
        statement(RETURN, ALLOW),
    ]);
    for (first, last) in ranges() {
        out.extend([
            jump(JUMP_AT_LEAST, last.saturating_add(1), 3, 0),
            jump(JUMP_AT_LEAST, first, 0, 1),
            statement(RETURN, ALLOW),
            deny,
        ]);
    }
    out.push(deny);
    out
}

/// The filter as the kernel and `bwrap --seccomp` take it.
pub fn filter() -> Vec<u8> {
    let mut out = Vec::new();
    for i in program() {
        out.extend_from_slice(&i.code.to_ne_bytes());
        out.extend_from_slice(&[i.jump_true, i.jump_false]);
        out.extend_from_slice(&i.operand.to_ne_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel does.
    fn verdict(architecture: u32, number: u32, argument: u32) -> u32 {
        let program = program();
        let (mut at, mut value) = (0usize, 0u32);
        loop {
            let i = program[at];
            at += 1;
            let taken = match i.code {
                LOAD => {
                    value = match i.operand {
                        AT_NUMBER => number,
                        AT_ARCHITECTURE => architecture,
                        AT_FIRST_ARGUMENT => argument,
                        other => panic!("loads {other}"),
                    };
                    continue;
                }
                RETURN => return i.operand,
                JUMP_EQUAL => value == i.operand,
                JUMP_AT_LEAST => value >= i.operand,
                JUMP_ANY_BIT => value & i.operand != 0,
                other => panic!("code {other}"),
            };
            at += usize::from(if taken { i.jump_true } else { i.jump_false });
        }
    }

    fn here(number: i64) -> u32 {
        verdict(ARCHITECTURE, u32::try_from(number).expect("a number"), 0)
    }

    #[test]
    fn allows_exactly_the_list() {
        let allowed: std::collections::BTreeSet<u32> =
            ALLOWED.iter().chain(ALLOWED_HERE).map(|(_, number)| *number).collect();
        for number in 0..2000 {
            let expected = if allowed.contains(&number) || number == libc::SYS_clone as u32 {
                ALLOW
            } else if number == libc::SYS_clone3 as u32 {
                ERRNO | libc::ENOSYS as u32
            } else {
                ERRNO | libc::EPERM as u32
            };
            assert_eq!(verdict(ARCHITECTURE, number, 0), expected, "{number}");
        }
        assert_eq!(verdict(ARCHITECTURE, 0x3fff_ffff, 0), ERRNO | libc::EPERM as u32);
    }

    #[test]
    fn refuses_what_leads_out_of_a_sandbox() {
        for number in [
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_perf_event_open,
            libc::SYS_io_uring_setup,
            libc::SYS_process_vm_readv,
            libc::SYS_open_by_handle_at,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_userfaultfd,
            libc::SYS_sethostname,
        ] {
            assert_eq!(here(number), ERRNO | libc::EPERM as u32, "{number}");
        }
    }

    #[test]
    fn clone_makes_threads_but_no_namespaces() {
        let clone = |flags: i32| verdict(ARCHITECTURE, libc::SYS_clone as u32, flags as u32);
        assert_eq!(clone(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND), ALLOW);
        assert_eq!(clone(libc::SIGCHLD), ALLOW);
        for flag in [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
        ] {
            assert_eq!(clone(flag | libc::SIGCHLD), ERRNO | libc::EPERM as u32, "{flag:x}");
        }
    }

    #[test]
    fn other_conventions_end_the_process() {
        assert_eq!(verdict(0x4000_0003, 1, 0), KILL_PROCESS);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(verdict(ARCHITECTURE, 0x4000_0000, 0), KILL_PROCESS);
        // Jumps stay within the program and it is no longer than the kernel takes.
        assert!(program().len() <= 4096);
        assert_eq!(filter().len(), program().len() * 8);
    }
}
