//! Programs in running containers, and the containers' own streams.

use std::pin::Pin;

use futures::SinkExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use super::pod::MAIN;
use super::{failed, unavailable};
use crate::input::Input;
use crate::runtime::words;
use crate::spec::ContainerId;
use crate::traits::{EngineError, ExecSpec, Result, Session, TermSize};

/// What one stream holds while nobody reads it.
const BUFFER: usize = 64 * 1024;
/// Longest output of a program of ours that is read.
const LONGEST_OUTPUT: u64 = 64 * 1024;

/// Finds out by what a container's image can run a program as another user. Arguments: the user.
const HOW_TO_BECOME: &str = r#"
[ "$(id -u)" = "$1" ] && { echo self; exit; }
[ "$(id -u)" = 0 ] || { echo "$(id -u)"; exit 1; }
if setpriv --reuid=0 --regid=0 --clear-groups true 2>/dev/null; then echo setpriv
elif setuidgid 0:0 true 2>/dev/null; then echo setuidgid
elif su-exec 0:0 true 2>/dev/null; then echo su-exec
elif gosu 0:0 true 2>/dev/null; then echo gosu
elif chroot --userspec=0:0 / true 2>/dev/null; then echo chroot
elif n=$(grep "^[^:]*:[^:]*:$1:" /etc/passwd 2>/dev/null) && command -v su >/dev/null; then echo "su ${n%%:*}"
else echo none; exit 1; fi"#;

/// Params with all streams that are wanted.
fn params(container: &str, stdin: bool, tty: bool) -> AttachParams {
    AttachParams::default()
        .container(container)
        .stdin(stdin)
        .stdout(true)
        .stderr(!tty)
        .tty(tty)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER)
        .max_stderr_buf_size(BUFFER)
}

/// Runs a program.
pub(super) async fn exec(api: &Api<Pod>, pod: &str, spec: &ExecSpec) -> Result<Session> {
    let command = command(api, pod, spec).await?;
    let process = api.exec(pod, command, &params(MAIN, spec.stdin, spec.tty)).await.map_err(refused)?;
    Ok(connect(process, spec.tty, true, None))
}

/// Connects to a container's own streams. `ended` tells its exit code.
pub(super) async fn attach(
    api: &Api<Pod>,
    pod: &str,
    stdin: bool,
    tty: bool,
    ended: impl Future<Output = Result<i32>> + Send + 'static,
) -> Result<Session> {
    let process = api.attach(pod, &params(MAIN, stdin, tty)).await.map_err(refused)?;
    Ok(connect(process, tty, false, Some(Box::pin(ended))))
}

/// Why an exec or attach did not come about.
fn refused(error: kube::Error) -> EngineError {
    match error {
        kube::Error::Api(status) if status.code == 404 => EngineError::NotFound(status.message),
        kube::Error::Api(status) if matches!(status.code, 400 | 409) => EngineError::Invalid(status.message),
        // The container may have ended just now.
        kube::Error::UpgradeConnection(error) => {
            EngineError::Invalid(format!("cannot connect to the container: {}", super::chain(&error)))
        }
        error => failed(error),
    }
}

/// The command for a program: what the API has no words for, the image's own programs do.
async fn command(api: &Api<Pod>, pod: &str, spec: &ExecSpec) -> Result<Vec<String>> {
    let length: usize = spec.command.iter().map(String::len).sum();
    // It is part of the request's address.
    if length > 100_000 {
        return Err(EngineError::Start("argument list too long".to_owned()));
    }
    let mut command = spec.command.clone();
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    if !spec.env.is_empty() {
        let mut all = owned(&["env"]);
        all.extend(spec.env.iter().map(|(name, value)| format!("{name}={value}")));
        all.append(&mut command);
        command = all;
    }
    if let Some(directory) = &spec.working_dir {
        let mut all = owned(&["sh", "-c", "cd \"$0\" && exec \"$@\""]);
        all.push(directory.to_string_lossy().into_owned());
        all.append(&mut command);
        command = all;
    }
    if let Some(user) = spec.user {
        let both = format!("{user}:{user}");
        let how = output(api, pod, MAIN, &owned(&["sh", "-c", HOW_TO_BECOME, "sh", &user.to_string()])).await;
        let how = how.map_err(|error| match error {
            EngineError::Start(why) => {
                EngineError::Start(format!("running as another user needs a shell in the image: {why}"))
            }
            other => other,
        })?;
        let mut all = match how.1.trim() {
            "self" => Vec::new(),
            "setpriv" => {
                owned(&["setpriv", &format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"])
            }
            "chroot" => owned(&["chroot", &format!("--userspec={both}"), "/"]),
            tool @ ("setuidgid" | "su-exec" | "gosu") => owned(&[tool, &both]),
            su if su.starts_with("su ") => {
                let name = su.trim_start_matches("su ");
                owned(&["su", "-s", "/bin/sh", name, "-c", "exec \"$0\" \"$@\"", "--"])
            }
            own if own.parse::<u32>().is_ok() => {
                let why = format!(
                    "the container runs as user {own}, who cannot become user {user}: start it as root, or as {user}"
                );
                return Err(EngineError::Start(why));
            }
            _ => {
                let why = format!(
                    "Kubernetes runs programs as the container's own user only, and the image has nothing to become user {user} \
                     with (setpriv, setuidgid, su-exec, gosu, chroot of GNU, or su and an entry in /etc/passwd)"
                );
                return Err(EngineError::Start(why));
            }
        };
        all.append(&mut command);
        command = all;
    }
    Ok(command)
}

/// Runs a program of ours to its end: its code, and its output.
pub(super) async fn output(api: &Api<Pod>, pod: &str, container: &str, command: &[String]) -> Result<(i32, String)> {
    let process = api.exec(pod, command.to_vec(), &params(container, false, false)).await.map_err(refused)?;
    finish(connect(process, false, true, None)).await
}

/// Runs a program of ours with a file as its input: its code, and what it said.
pub(super) async fn feed(
    api: &Api<Pod>,
    pod: &str,
    container: &str,
    command: &[String],
    mut input: tokio::fs::File,
) -> Result<(i32, String)> {
    let process = api.exec(pod, command.to_vec(), &params(container, true, false)).await.map_err(refused)?;
    let mut session = connect(process, false, true, None);
    let stdin = session.stdin.take();
    let feeding = async {
        let Some(mut stdin) = stdin else { return };
        // What reads it may end first: its exit code tells why.
        let _ = tokio::io::copy(&mut input, &mut stdin).await;
        let _ = stdin.shutdown().await;
    };
    let ((), ended) = tokio::join!(feeding, finish(session));
    ended
}

/// Reads a session to its end.
async fn finish(session: Session) -> Result<(i32, String)> {
    let Session { stdin: _stdin, stdout, stderr, exit, resize: _resize } = session;
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let take = async {
        let mut part = stdout.take(LONGEST_OUTPUT);
        let _ = part.read_to_end(&mut said).await;
        let _ = tokio::io::copy(&mut part.into_inner(), &mut tokio::io::sink()).await;
    };
    let complain = async {
        let Some(stderr) = stderr else { return };
        let mut part = stderr.take(LONGEST_OUTPUT);
        let _ = part.read_to_end(&mut complained).await;
        let _ = tokio::io::copy(&mut part.into_inner(), &mut tokio::io::sink()).await;
    };
    tokio::join!(take, complain);
    let code = exit.await.unwrap_or_else(|_| Err(unavailable("the program's exit code was lost")))?;
    said.append(&mut complained);
    Ok((code, String::from_utf8_lossy(&said).into_owned()))
}

/// A session over the streams of a connection.
fn connect(
    mut process: AttachedProcess,
    tty: bool,
    ends: bool,
    ended: Option<Pin<Box<dyn Future<Output = Result<i32>> + Send>>>,
) -> Session {
    let stdin = process
        .stdin()
        .map(|half| Box::new(Input { half: Some(half), tells: true, ends }) as Box<dyn AsyncWrite + Send + Unpin>);
    let stdout: Box<dyn tokio::io::AsyncRead + Send + Unpin> = match process.stdout() {
        Some(stdout) => Box::new(stdout),
        None => Box::new(tokio::io::empty()),
    };
    let stderr = process.stderr().filter(|_| !tty).map(|stderr| Box::new(stderr) as Box<_>);
    let (resize, mut sizes) = mpsc::channel::<TermSize>(8);
    if let Some(mut sink) = process.terminal_size() {
        tokio::spawn(async move {
            while let Some(size) = sizes.recv().await {
                if sink.send(TerminalSize { width: size.columns, height: size.rows }).await.is_err() {
                    return;
                }
            }
        });
    }
    let status = process.take_status();
    let (mut sender, exit) = oneshot::channel();
    tokio::spawn(async move {
        let status = async {
            match status {
                Some(status) => status.await,
                None => None,
            }
        };
        let told = tokio::select! {
            told = status => told,
            // Nobody waits for it: the connection is closed, which is all that the API offers.
            () = sender.closed() => return,
        };
        // Whoever reads the output reads it to its end.
        let joining = tokio::spawn(process.join());
        let code = match ended {
            Some(ended) => {
                tokio::select! {
                    code = ended => code,
                    () = sender.closed() => return,
                }
            }
            None => code(told),
        };
        let _ = sender.send(code);
        let _ = joining.await;
    });
    Session { stdin, stdout, stderr, resize, exit }
}

/// The exit code in a status.
fn code(status: Option<Status>) -> Result<i32> {
    let Some(status) = status else { return Err(unavailable("the connection to the container was lost")) };
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let mut codes = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = codes.next().and_then(|cause| cause.message.as_deref()?.parse().ok());
    code.ok_or_else(|| EngineError::Start(words(&status.message.unwrap_or_default())))
}

/// The program's code of an attach, once the container ended.
pub(super) async fn code_of(engine: &super::KubernetesEngine, id: &ContainerId) -> Result<i32> {
    use crate::traits::ContainerEngine as _;
    engine.wait(id).await.map(|exit| exit.code)
}
