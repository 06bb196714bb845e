//! The shim's one event loop: output, exit, stop, exec and attach all pass through it, in one order.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::attach::Attach;
use super::clients::{Clients, Role};
use super::launch::Running;
use crate::control::{Reply, Report, Request};
use crate::dir::{Config, ContainerDir};
use crate::log::{LogWriter, Stream, now_nanos};
use crate::sandbox::init::{self, FromInit, ToInit};
use crate::sys;

/// After this long a line without an end is written to the log as far as it goes, so that a prompt can be seen.
const PARTIAL_LINE: Duration = Duration::from_millis(500);

/// How long the container gets to end when the shim itself is told to (the machine shuts down).
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Most input that is held for a program that does not read.
const MAX_INPUT: usize = 64 * 1024;

const OUTPUT_BUFFER: usize = 64 * 1024;

/// Where the program's output comes from.
pub(super) enum Outputs {
    /// Output and error output; `None` once ended.
    Pipes(Option<OwnedFd>, Option<OwnedFd>),
    /// The master of its terminal.
    Terminal(OwnedFd),
}

/// Keeps one running container until it has ended.
pub(super) struct Keeper {
    pub(super) directory: ContainerDir,
    config: Config,
    pub(super) log: LogWriter,
    last_output: Instant,
    output_buffer: Vec<u8>,
    listener: OwnedFd,
    pub(super) running: Running,
    pub(super) clients: Clients,
    /// Input on its way to the program.
    input: Vec<u8>,
    input_ends: bool,
    execs: u32,
    kill_at: Option<Instant>,
    pub(super) stopping: bool,
    pub(super) status: Option<i32>,
}

/// What a ready descriptor means.
#[derive(Clone, Copy)]
enum Event {
    Signal,
    Init,
    InitDied,
    Connection,
    Output(Stream),
    InputTaken,
    Client(u32),
    ClientInput(u32),
    ClientTakes(u32),
}

impl Keeper {
    pub(super) fn new(
        directory: ContainerDir,
        config: Config,
        log: LogWriter,
        listener: OwnedFd,
        running: Running,
    ) -> Self {
        Self {
            directory,
            config,
            log,
            last_output: Instant::now(),
            output_buffer: Vec::new(),
            listener,
            running,
            clients: Clients::default(),
            input: Vec::new(),
            input_ends: false,
            execs: 0,
            kill_at: None,
            stopping: false,
            status: None,
        }
    }

    /// What to tell the engine that started it.
    pub(super) fn started(&self) -> Report {
        let state = &self.running.state;
        Report::Started { program: state.program, started_at_nanos: state.started_at_nanos }
    }

    /// Runs until the container has ended and that is on record.
    pub(super) fn run(mut self) {
        for fd in self.output_fds().into_iter().flatten() {
            let _ = sys::set_nonblocking(fd);
        }
        if let Some(input) = &self.running.input {
            let _ = sys::set_nonblocking(input);
        }
        let signals = sys::signal_fd(&[libc::SIGTERM]).ok();
        loop {
            let events = self.wait(signals.as_ref());
            let mut died = false;
            for event in events {
                match event {
                    Event::InitDied => died = true,
                    Event::Signal => {
                        signals.iter().for_each(sys::drain_signals);
                        self.stop(SHUTDOWN_GRACE);
                    }
                    other => self.handle(other),
                }
            }
            self.on_time();
            if died {
                return self.finish();
            }
        }
    }

    /// The descriptors that output comes from now.
    fn output_fds(&self) -> [Option<&OwnedFd>; 2] {
        match &self.running.outputs {
            Outputs::Pipes(output, errors) => [output.as_ref(), errors.as_ref()],
            Outputs::Terminal(master) => [Some(master), None],
        }
    }

    fn wait(&self, signals: Option<&OwnedFd>) -> Vec<Event> {
        let mut watched: Watched<'_> = Vec::with_capacity(8);
        if let Some(signals) = signals {
            watch(&mut watched, Event::Signal, signals, PollFlags::IN);
        }
        watch(&mut watched, Event::Init, &self.running.control, PollFlags::IN);
        watch(&mut watched, Event::InitDied, &self.running.init_fd, PollFlags::IN);
        watch(&mut watched, Event::Connection, &self.listener, PollFlags::IN);
        let behind =
            |client: &super::clients::Client| matches!(&client.role, Role::Attached(attach) if attach.is_behind());
        if !self.clients.iter().any(behind) {
            for (stream, fd) in [Stream::Stdout, Stream::Stderr].into_iter().zip(self.output_fds()) {
                if let Some(fd) = fd {
                    watch(&mut watched, Event::Output(stream), fd, PollFlags::IN);
                }
            }
        }
        if let Some(input) = self.running.input.as_ref().filter(|_| !self.input.is_empty()) {
            watch(&mut watched, Event::InputTaken, input, PollFlags::OUT);
        }
        for client in self.clients.iter() {
            watch(&mut watched, Event::Client(client.id), &client.socket, PollFlags::IN);
            if let Role::Attached(attach) = &client.role {
                if let Some(input) = attach.input.as_ref().filter(|_| self.input.len() < MAX_INPUT) {
                    watch(&mut watched, Event::ClientInput(client.id), input, PollFlags::IN);
                }
                for output in attach.waiting() {
                    watch(&mut watched, Event::ClientTakes(client.id), output, PollFlags::OUT);
                }
            }
        }
        let mut fds: Vec<PollFd<'_>> =
            watched.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let timeout = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|left| Timespec::try_from(left + Duration::from_millis(1)).ok());
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let ready = fds.iter().map(|fd| !fd.revents().is_empty());
        watched.iter().zip(ready).filter_map(|((event, ..), ready)| ready.then_some(*event)).collect()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let partial = self.log.has_partial().then(|| self.last_output + PARTIAL_LINE);
        let attached = self.clients.iter().filter_map(|client| match &client.role {
            Role::Attached(attach) => attach.deadline(),
            _ => None,
        });
        attached.chain(partial).chain(self.kill_at).min()
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.kill();
        }
        if self.log.has_partial() && self.last_output + PARTIAL_LINE <= now {
            self.log.flush_partial(now_nanos());
        }
        let late: Vec<u32> = self
            .clients
            .attached()
            .filter_map(|(id, attach)| attach.deadline().is_some_and(|at| at <= now).then_some(id))
            .collect();
        for id in late {
            self.refuse(id, "the client did not read for too long");
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Signal | Event::InitDied => {}
            Event::Init => match init::receive(&self.running.control) {
                Ok((message, received)) => self.on_init(message, &received.fds),
                // Its death is reported by the other descriptor; until then this one would wake us without end.
                Err(_) => self.kill(),
            },
            Event::Connection => {
                let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
                if let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
                    self.clients.add(socket);
                }
            }
            Event::Output(stream) => drop(self.read_output(stream)),
            Event::InputTaken => self.pass_input(),
            Event::Client(id) => self.read_client(id),
            Event::ClientInput(id) => self.read_input(id),
            Event::ClientTakes(id) => {
                self.clients.attached().filter(|(client, _)| *client == id).for_each(|(_, a)| a.flush())
            }
        }
    }

    /// Reads once. `false`: nothing more for now.
    pub(super) fn read_output(&mut self, stream: Stream) -> bool {
        let mut buffer = std::mem::take(&mut self.output_buffer);
        // Made when there is something to read: a silent container needs none.
        buffer.resize(OUTPUT_BUFFER, 0);
        let more = self.read_output_into(stream, &mut buffer);
        self.output_buffer = buffer;
        more
    }

    fn read_output_into(&mut self, stream: Stream, buffer: &mut [u8]) -> bool {
        let Some(fd) = self.output_fds()[stream as usize] else { return false };
        match rustix::io::read(fd, &mut *buffer) {
            Ok(length) if length > 0 => {
                self.last_output = Instant::now();
                self.log.write(stream, &buffer[..length], now_nanos());
                self.clients.attached().for_each(|(_, attach)| attach.write(stream, &buffer[..length]));
                true
            }
            Err(rustix::io::Errno::AGAIN) => false,
            Err(rustix::io::Errno::INTR) => true,
            // Ended; a terminal says so by an error.
            _ => {
                match (&mut self.running.outputs, stream) {
                    (Outputs::Pipes(output, _), Stream::Stdout) => *output = None,
                    (Outputs::Pipes(_, errors), Stream::Stderr) => *errors = None,
                    (outputs @ Outputs::Terminal(_), _) => *outputs = Outputs::Pipes(None, None),
                }
                false
            }
        }
    }

    pub(super) fn on_init(&mut self, message: FromInit, fds: &[OwnedFd]) {
        match message {
            FromInit::Ended(status) => self.status = Some(status),
            FromInit::Running { id } => {
                let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
                if let Some(client) = self.clients.of_exec(id) {
                    let _ = client.reply(&Reply::Running, &fds);
                }
            }
            FromInit::Code { id, code } => self.end_exec(id, &Reply::Code(code)),
            FromInit::Refused { id, message } => self.end_exec(id, &Reply::Refused(message)),
        }
    }

    fn end_exec(&mut self, exec: u32, reply: &Reply) {
        if let Some(client) = self.clients.of_exec(exec) {
            let _ = client.reply(reply, &[]);
            let id = client.id;
            self.clients.remove(id);
        }
    }

    fn refuse(&mut self, client: u32, why: &str) {
        if let Some(client) = self.clients.remove(client) {
            let _ = client.reply(&Reply::Refused(why.to_owned()), &[]);
        }
    }

    fn read_client(&mut self, id: u32) {
        let Some(client) = self.clients.get(id) else { return };
        match client.read() {
            Ok(requests) => requests.into_iter().for_each(|request| self.obey(id, request)),
            Err(_) => {
                if let Some(Role::Exec(id)) = self.clients.remove(id).map(|client| client.role) {
                    // Nobody waits for it any more.
                    let _ = init::send(&self.running.control, &ToInit::Kill { id }, &[]);
                }
            }
        }
    }

    fn obey(&mut self, id: u32, request: Request) {
        let tty = self.config.spec.tty;
        let Some(client) = self.clients.get(id) else { return };
        match (request, &mut client.role) {
            (Request::Wait, Role::New) => client.role = Role::Waits,
            (Request::Stop { grace_millis }, Role::New) => {
                client.role = Role::Waits;
                self.stop(Duration::from_millis(grace_millis));
            }
            (Request::Exec(program), Role::New) => {
                self.execs += 1;
                client.role = Role::Exec(self.execs);
                let fds = std::mem::take(&mut client.fds);
                let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
                let message = ToInit::Exec { id: self.execs, program };
                if let Err(error) = init::send(&self.running.control, &message, &fds) {
                    self.refuse(id, &error.to_string());
                }
            }
            (Request::Attach { input }, Role::New) => match Attach::new(std::mem::take(&mut client.fds), input) {
                Ok(attach) => {
                    client.role = Role::Attached(attach);
                    let _ = client.reply(&Reply::Running, &[]);
                }
                Err(error) => self.refuse(id, &error.to_string()),
            },
            (Request::Resize { columns, rows }, Role::Attached(_)) => {
                if let Outputs::Terminal(master) = &self.running.outputs {
                    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                    let _ = rustix::termios::tcsetwinsize(master, size);
                }
            }
            (Request::CloseInput, Role::Attached(attach)) if !tty => {
                attach.closes_input = true;
                if attach.input.is_none() {
                    self.end_input();
                }
            }
            (Request::CloseInput, Role::Attached(_)) => {}
            _ => self.refuse(id, "not now"),
        }
    }

    /// Takes what a client sends to the program.
    fn read_input(&mut self, id: u32) {
        let mut buffer = [0; 16 * 1024];
        let Some(Role::Attached(attach)) = self.clients.get(id).map(|client| &mut client.role) else { return };
        let Some(input) = &attach.input else { return };
        match rustix::io::read(input, &mut buffer) {
            Ok(length) if length > 0 => {
                if self.running.input.is_some() {
                    self.input.extend_from_slice(&buffer[..length]);
                    self.pass_input();
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            _ => {
                attach.input = None;
                if attach.closes_input {
                    self.end_input();
                }
            }
        }
    }

    fn end_input(&mut self) {
        self.input_ends = true;
        self.pass_input();
    }

    fn pass_input(&mut self) {
        while let Some(input) = self.running.input.as_ref().filter(|_| !self.input.is_empty()) {
            match rustix::io::write(input, &self.input) {
                Ok(length) => drop(self.input.drain(..length)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => {
                    // The program reads no more.
                    self.running.input = None;
                    self.input = Vec::new();
                }
            }
        }
        if self.input_ends {
            self.running.input = None;
        }
    }

    fn stop(&mut self, grace: Duration) {
        if grace.is_zero() {
            self.stopping = true;
            return self.kill();
        }
        if !self.stopping {
            self.stopping = true;
            let _ = init::send(&self.running.control, &ToInit::Signal(libc::SIGTERM), &[]);
        }
        // A later, shorter wish counts; a later, longer one does not.
        let at = Instant::now().checked_add(grace);
        self.kill_at = self.kill_at.into_iter().chain(at).min();
    }

    fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.running.init_fd, Signal::KILL);
    }
}

type Watched<'a> = Vec<(Event, BorrowedFd<'a>, PollFlags)>;

fn watch<'a>(watched: &mut Watched<'a>, event: Event, fd: &'a OwnedFd, flags: PollFlags) {
    watched.push((event, fd.as_fd(), flags));
}
