//! The few system calls that rustix does not offer safely: forking, namespaces, mount attributes, lock queries.
//!
//! Everything unsafe of this crate is in this file, so that its callers can be read without asking what may break.
#![expect(unsafe_code, reason = "system calls without a safe wrapper; each block says why it is sound")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Which side of a fork one is on.
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old process: the child's id.
    Parent(i32),
}

/// Forks. Only for the shim and its children, which have one thread: what other threads held would stay locked forever.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the process has a single thread (a shim starts none), so the child may run any code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Which side of [`clone_into_namespaces`] one is on.
pub(crate) enum Clone {
    /// The new process, the first one of its process id namespace.
    Child,
    /// The old process: the child's id and a descriptor of it.
    Parent(i32, OwnedFd),
}

/// Forks into new namespaces (`CLONE_NEW…`). The same condition as for [`fork`].
pub(crate) fn clone_into_namespaces(flags: i32) -> io::Result<Clone> {
    let mut pidfd: RawFd = -1;
    let flags = u64::from(flags.cast_unsigned()) | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    // struct clone_args, version 0: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    let args: [u64; 8] =
        [flags, std::ptr::from_mut(&mut pidfd) as u64, 0, 0, u64::from(libc::SIGCHLD.cast_unsigned()), 0, 0, 0];
    // SAFETY: no stack is given, so this is a fork; single-threaded as above; the kernel writes one descriptor to `pidfd`.
    match unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Clone::Child),
        pid => {
            // SAFETY: the call succeeded, so the kernel opened this descriptor for us alone.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Clone::Parent(i32::try_from(pid).map_err(io::Error::other)?, pidfd))
        }
    }
}

/// Ends the process at once, without running anything of the parent's that a fork inherited.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Mount attributes.
pub(crate) mod attribute {
    /// Read-only.
    pub(crate) const RDONLY: u64 = 0x1;
    /// Set-uid bits do nothing.
    pub(crate) const NOSUID: u64 = 0x2;
    /// Device files do nothing.
    pub(crate) const NODEV: u64 = 0x4;
}

/// Sets attributes of a mount, and of those below it if `recursive`.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    let attr: [u64; 4] = [attributes, 0, 0, 0];
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads the empty path and `size` bytes of `attr`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    check(result)
}

/// Takes the lock of the whole file, which ends with the last descriptor of this opening. `false`: somebody has it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    let lock = whole_file_lock();
    // SAFETY: the kernel reads the structure.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            busy if matches!(busy.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            error => Err(error),
        },
    }
}

/// Whether somebody has the lock, without touching it.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = whole_file_lock();
    // SAFETY: the kernel reads and writes the structure.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) } {
        0 => Ok(lock.l_type != libc::F_UNLCK as libc::c_short),
        _ => Err(io::Error::last_os_error()),
    }
}

fn whole_file_lock() -> libc::flock {
    // SAFETY: all zeros is a valid value of this structure of integers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Blocks these signals and gives a descriptor that becomes readable when one of them comes.
pub(crate) fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by `sigemptyset`; the descriptor is new and ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Takes the signals out of such a descriptor.
pub(crate) fn drain_signals(fd: &OwnedFd) {
    let mut buffer = [0u8; 1024];
    while rustix::io::read(fd, &mut buffer).is_ok_and(|length| length > 0) {}
}

/// Gives every signal its default action and unblocks it: what a new program expects.
pub(crate) fn reset_signals() {
    // SAFETY: sets actions and mask of this single-threaded process; errors (SIGKILL, unknown numbers) do not matter.
    unsafe {
        // Those after 31 have never been touched here.
        for signal in 1..=31 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Ignores a signal.
pub(crate) fn ignore_signal(signal: i32) {
    // SAFETY: sets the action of one signal.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Sends a signal. `pid` may be negative: a process group.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, signal) }.into())
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) {
    // SAFETY: the callers own no descriptor in this range that they use again.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Closes every descriptor except these, which become 3, 4, … in this order. Returns how many there are.
pub(crate) fn keep_only(fds: Vec<OwnedFd>, close_on_exec: bool) -> io::Result<usize> {
    // First out of the way of the low numbers, then down to them.
    let high = fds.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 64)).collect::<Result<Vec<_>, _>>()?;
    let count = high.len();
    for (fd, number) in high.iter().zip(3..) {
        // SAFETY: whatever had this number is closed below anyway, and its owners are forgotten.
        check(unsafe { libc::dup3(fd.as_raw_fd(), number, if close_on_exec { libc::O_CLOEXEC } else { 0 }) }.into())?;
    }
    fds.into_iter().chain(high).for_each(std::mem::forget);
    close_from(3 + u32::try_from(count).map_err(io::Error::other)?);
    Ok(count)
}

/// Whether a descriptor of this number is open.
pub(crate) fn is_open(number: RawFd) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Makes `fd` the descriptor `number`, inheritable.
pub(crate) fn dup_to(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        return rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).map_err(Into::into);
    }
    // SAFETY: `number` is a standard stream or one that the caller gave up.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into())
}

/// Takes over a descriptor that was inherited under a number.
pub(crate) fn inherited(number: RawFd) -> OwnedFd {
    // SAFETY: the shim owns its standard streams and what it was started with; each is taken over once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Replaces the program. Returns only if it failed.
pub(crate) fn exec(path: &Path, arguments: &[CString], environment: &[CString]) -> io::Error {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return io::Error::from_raw_os_error(libc::EINVAL);
    };
    let pointers = |strings: &[CString]| {
        strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect::<Vec<_>>()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Switches user and group for good. Only in single-threaded processes.
pub(crate) fn become_user(uid: Option<u32>, gid: Option<u32>, groups: Option<&[u32]>) -> io::Result<()> {
    // SAFETY: the kernel reads `groups`; the other calls take numbers.
    unsafe {
        if let Some(groups) = groups {
            check(libc::setgroups(groups.len() as _, groups.as_ptr()).into())?;
        }
        if let Some(gid) = gid {
            check(libc::setresgid(gid, gid, gid).into())?;
        }
        if let Some(uid) = uid {
            check(libc::setresuid(uid, uid, uid).into())?;
        }
    }
    Ok(())
}

/// Leaves the keyring of whoever started this process behind: what is in it is theirs.
pub(crate) fn new_session_keyring() {
    // SAFETY: joins an anonymous keyring; without keyrings in the kernel it fails and there is nothing to leave.
    unsafe { libc::syscall(libc::SYS_keyctl, 1, std::ptr::null::<libc::c_char>()) };
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: all zeros is a valid `ifreq`; the name fits and stays terminated; the kernel reads the structure.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request).into())
    }
}

/// Opens a mount point's own descriptor, to set its attributes.
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Makes a descriptor non-blocking.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Registers a non-blocking descriptor with the runtime.
pub(crate) fn async_fd(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays the same open file as long as it exists, and it is inside.
    unsafe { tokio::io::unix::AsyncFd::register(fd) }.map_err(Into::into)
}
