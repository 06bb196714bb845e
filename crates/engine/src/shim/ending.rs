//! The end of a container: last words, the record of the exit, telling everyone, tidying up.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions};

use super::clients::Role;
use super::keeper::Keeper;
use crate::control::Reply;
use crate::dir::SOCKET;
use crate::log::{Stream, now_nanos};
use crate::sandbox::init;
use crate::spec::Exit;

/// How many seconds to try to put an exit on record.
const RECORD_ATTEMPTS: u32 = 600;

impl Keeper {
    /// Everything of the container is dead: takes its last words, puts the exit on record, tells everyone.
    pub(super) fn finish(mut self) {
        if let Some(pid) = Pid::from_raw(self.running.init) {
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
        while let Ok((message, received)) = init::receive(&self.running.control) {
            self.on_init(message, &received.fds);
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.read_output(stream) {}
        }
        self.log.flush_partial(now_nanos());
        let exit = self.exit();
        self.running.cgroups.remove();
        remove_made(&self.running.state.made);
        let mut recorded = self.directory.write_exit(&exit);
        let exit = recorded.as_ref().unwrap_or(&exit).clone();
        let _ = fs::remove_file(SOCKET);
        self.flush_attached();
        for client in self.clients.iter() {
            let _ = match client.role {
                Role::New => Ok(()),
                Role::Exec(_) => client.reply(&Reply::Code(137), &[]),
                Role::Waits | Role::Attached(_) => client.reply(&Reply::Exit(exit.clone()), &[]),
            };
        }
        let directory = self.directory.clone();
        self.log.sync();
        for _ in 0..RECORD_ATTEMPTS {
            if recorded.is_ok() {
                break;
            }
            // The disk is full. As long as this process lives nobody takes the container for lost.
            std::thread::sleep(Duration::from_secs(1));
            recorded = directory.write_exit(&exit);
        }
        let _ = directory.sync_exit();
        // Nobody has to wait for the rest.
        drop(self);
        for private in ["home", "tmp"] {
            let _ = crate::dir::remove_tree(&directory.file(private));
        }
    }

    fn exit(&self) -> Exit {
        let oom_killed = self.running.cgroups.out_of_memory();
        let finished_at_nanos = now_nanos();
        let status = self.status;
        let signal = status.filter(|&status| libc::WIFSIGNALED(status)).map(|status| libc::WTERMSIG(status));
        let code = status.filter(|&status| libc::WIFEXITED(status)).map(|status| libc::WEXITSTATUS(status));
        match (code, signal) {
            (Some(code), _) => {
                Exit { code, signal: None, oom_killed: oom_killed && code == 137, finished_at_nanos, error: None }
            }
            (None, Some(signal)) => {
                let oom_killed = oom_killed && signal == libc::SIGKILL;
                Exit { code: 128 + signal, signal: Some(signal), oom_killed, finished_at_nanos, error: None }
            }
            // The whole namespace was killed at once.
            (None, None) => {
                let error =
                    (!self.stopping && !oom_killed).then(|| "killed from outside, with everything in it".to_owned());
                Exit { code: 137, signal: Some(libc::SIGKILL), oom_killed, finished_at_nanos, error }
            }
        }
    }

    /// Gives attached clients a moment to take the last output.
    fn flush_attached(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            self.clients.attached().for_each(|(_, attach)| attach.flush());
            let mut fds: Vec<PollFd<'_>> = Vec::new();
            for client in self.clients.iter() {
                if let Role::Attached(attach) = &client.role {
                    fds.extend(attach.waiting().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let (false, false, Ok(timeout)) = (fds.is_empty(), left.is_zero(), Timespec::try_from(left)) else {
                return;
            };
            let _ = poll(&mut fds, Some(&timeout));
        }
    }
}

/// Takes away mount points that were made in directories of the host, unless something was put there meanwhile.
pub(crate) fn remove_made(made: &[PathBuf]) {
    for path in made.iter().rev() {
        let Ok(meta) = fs::symlink_metadata(path) else { continue };
        let _: io::Result<()> = match meta.is_dir() {
            // Only an empty one goes away.
            true => fs::remove_dir(path),
            false if meta.is_file() && meta.len() == 0 => fs::remove_file(path),
            false => Ok(()),
        };
    }
}
