//! `kubetask env start`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use kubetask_engine::kubernetes::{Mapping, Place};
use kubetask_engine::spec::{ContainerSpec, LogSpec, Mount, Network, PullPolicy, Resources, Security};
use kubetask_engine::traits::ExecSpec;
use kubetask_engine::{ContainerEngine, EngineError};

use super::record::{Environments, Record, is_name};
use super::{StartArgs, end, said, variables};
use crate::args::GlobalArgs;
use crate::error::{CommandError, CommandResult, chain};
use crate::exit_codes;
use crate::interact::{self, Ended, Session};
use crate::output::Output;
use crate::settings::{Backend, Settings};

/// Where the workspace is.
const WORKSPACE: &str = "/workspace";
/// What keeps an environment alive, and ends it at once when it is asked to.
const KEEP_ALIVE: &str = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done";
/// Paths under which a claim stands for the engine; nothing of this machine is there.
const CLAIMS: &str = "/.kubetask-claims";

/// Runs the command.
///
/// # Errors
/// When it does not run in time; it is ended then.
pub(super) async fn run(
    args: StartArgs,
    global: &GlobalArgs,
    environments: &Environments,
    output: Output,
) -> CommandResult {
    let mut settings = Settings::load()?;
    settings.kubeconfig = global.kubeconfig.clone().or(settings.kubeconfig);
    settings.context = global.context.clone().or(settings.context);
    settings.namespace = global.namespace.clone().or(settings.namespace);
    let engine = args.engine.unwrap_or_else(|| settings.engine());
    if args.image.is_empty() && engine != Backend::Local {
        return Err(CommandError::usage(format!("the {} engine needs an image", engine.name())).hint("--image IMAGE"));
    }
    let name = args.name.clone().unwrap_or_else(|| format!("env-{:06x}", rand::random::<u32>() & 0xff_ffff));
    if !is_name(&name) {
        return Err(CommandError::usage(format!("{name:?}: a name has up to 40 small letters, digits and '-'")));
    }
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let record = Record {
        name: name.clone(),
        engine,
        image: args.image.clone(),
        created: Timestamp::now(),
        kubeconfig: settings.kubeconfig.clone().map(absolute),
        context: settings.context.clone(),
        namespace: settings.namespace.clone(),
    };
    let variables = variables(&args.env)?;
    let space = space(&args, engine, &settings, &environments.directory(&name))?;
    let mut options = settings.kubernetes();
    options.start_timeout = args.timeout;
    options.mappings = space.mapping.into_iter().collect();
    let place = environments.engine(engine, options)?;
    // Nothing is written down, and nothing has to be taken back, where the engine is not there at all.
    let there = place.probe().await.map_err(|error| CommandError::failure(chain(&error)))?;
    output.say(format!("starting with {}", there.description));
    environments.add(&record)?;
    let spec = ContainerSpec {
        id: record.id(),
        labels: [("kubetask.io/environment".to_owned(), name.clone())].into(),
        image: if args.image.is_empty() { "local/environment".to_owned() } else { args.image.clone() },
        command: if args.command.is_empty() {
            ["sh", "-c", KEEP_ALIVE].map(str::to_owned).to_vec()
        } else {
            args.command
        },
        args: Vec::new(),
        env: variables,
        working_dir: Some(WORKSPACE.into()),
        hostname: Some(name.clone()),
        mounts: vec![Mount { source: space.source.clone(), target: WORKSPACE.into(), read_only: false }],
        resources: Resources::default(),
        network: Network::Host,
        security: Security { run_as_user: args.user, ..Security::default() },
        tty: false,
        stdin: false,
        log: LogSpec { path: environments.directory(&name).join("log"), max_bytes: 10 << 20, max_files: 2 },
    };
    let started = async {
        if space.own {
            make_own(&space.source, args.user)?;
        }
        start(place.as_ref(), &spec, args.timeout).await?;
        match &args.git {
            Some(repository) => clone(place.as_ref(), &spec, &name, repository, output).await,
            None => Ok(()),
        }
    };
    if let Err(error) = started.await {
        if let Err(left) = end(&record, environments, Duration::ZERO).await {
            output.warn(format!("environment {name} is not cleaned up: {}", left.lines.join("; ")));
        }
        return Err(error);
    }
    output.data(&name);
    Ok(exit_codes::OK)
}

/// What becomes /workspace.
struct Space {
    source: PathBuf,
    mapping: Option<Mapping>,
    /// Whether it is a new directory, which goes with the environment.
    own: bool,
}

fn space(args: &StartArgs, engine: Backend, settings: &Settings, directory: &Path) -> CommandResult<Space> {
    let cluster = engine == Backend::Kubernetes;
    if args.pvc.is_some() && !cluster {
        let text = format!("--pvc: there are no claims in the {} engine", engine.name());
        return Err(CommandError::usage(text).hint("--workspace DIR shows a directory of this machine"));
    }
    let chosen = args.workspace.is_some() || args.host_path.is_some();
    if let Some(claim) = args.pvc.as_ref().or(settings.pvc_name.as_ref().filter(|_| cluster && !chosen)) {
        let (name, path) = claim.split_once('/').unwrap_or((claim, ""));
        let root = Path::new(CLAIMS).join(name);
        let mapping = Some(Mapping { path: root.clone(), place: Place::Claim(name.to_owned()) });
        return Ok(Space { source: if path.is_empty() { root } else { root.join(path) }, mapping, own: false });
    }
    if let Some(path) = &args.host_path {
        if !path.is_absolute() {
            return Err(CommandError::usage(format!("--host-path {}: give an absolute path", path.display())));
        }
        let mapping = Some(Mapping { path: path.clone(), place: Place::NodePath(path.clone()) });
        return Ok(Space { source: path.clone(), mapping, own: false });
    }
    if let Some(path) = &args.workspace {
        let real =
            path.canonicalize().map_err(|e| CommandError::usage(format!("--workspace {}: {e}", path.display())))?;
        if !real.is_dir() {
            return Err(CommandError::usage(format!("--workspace {}: not a directory", path.display())));
        }
        return Ok(Space { source: real, mapping: None, own: false });
    }
    Ok(Space { source: directory.join("workspace"), mapping: None, own: true })
}

/// An empty workspace that every user of the environment may write to. It belongs to the environment's own user where that
/// can be: git trusts no other's.
fn make_own(path: &Path, user: Option<u32>) -> CommandResult<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let made = std::fs::create_dir_all(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)));
    made.map_err(|error| CommandError::failure(format!("{}: {error}", path.display())))?;
    if let Err(error) = std::os::unix::fs::chown(path, user, None) {
        tracing::debug!(%error, path = %path.display(), "the workspace stays the caller's");
    }
    Ok(())
}

async fn start(engine: &dyn ContainerEngine, spec: &ContainerSpec, timeout: Duration) -> CommandResult<()> {
    let work = async {
        engine.ensure_image(&spec.image, PullPolicy::IfNotPresent).await?;
        engine.start(spec).await
    };
    // The cluster's engine keeps the time itself, and knows what it waited for.
    let state = match tokio::time::timeout(timeout + Duration::from_secs(5), work).await {
        Ok(state) => state,
        Err(_) => {
            let reason = "its image is still being fetched".to_owned();
            Err(EngineError::Waiting { engine: engine.name(), reason })
        }
    };
    let state = state.map_err(|error| match error {
        EngineError::Waiting { reason, .. } => {
            CommandError::timeout(format!("it does not run after {timeout:?}: {reason}"))
                .hint("--timeout gives it longer")
        }
        error => CommandError::failure(chain(&error)),
    })?;
    match state.exit {
        Some(exit) => Err(CommandError::failure(format!("it ended at once, with exit code {}", exit.code))
            .hint("what keeps it alive is the command after `--`")),
        None => Ok(()),
    }
}

/// Clones a repository into the workspace.
async fn clone(
    engine: &dyn ContainerEngine,
    spec: &ContainerSpec,
    name: &str,
    repository: &str,
    output: Output,
) -> CommandResult<()> {
    let (url, reference) = repository.split_once('#').unwrap_or((repository, ""));
    if url.starts_with('-') || reference.starts_with('-') {
        return Err(CommandError::usage(format!("--git {repository}: not a URL")));
    }
    for command in commands(url, reference) {
        let exec = ExecSpec {
            command: command.clone(),
            env: vec![("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned())],
            working_dir: Some(WORKSPACE.into()),
            ..ExecSpec::default()
        };
        let session = engine.exec(&spec.id, &exec).await.map_err(|error| said(name, &error))?;
        match interact::run_engine(session, Session::default(), output).await? {
            Ended::Code(0) => {}
            Ended::Code(code) => {
                let step = command.get(1).map_or("", String::as_str);
                return Err(CommandError::failure(format!("git {step} {repository}: exit code {code}")));
            }
            Ended::Detached => return Err(CommandError::failure("git was interrupted")),
        }
    }
    Ok(())
}

/// What brings a repository into the working directory: at its usual branch, at a branch or tag, or at a commit.
fn commands(url: &str, reference: &str) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let commit = matches!(reference.len(), 40 | 64) && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
    if commit {
        // Servers give any commit of a branch by way of the branch, and few by its name.
        let clone = words(&["git", "clone", "--quiet", "--no-checkout", "--", url, "."]);
        return vec![clone, words(&["git", "checkout", "--quiet", "--detach", reference, "--"])];
    }
    match reference {
        "" => vec![words(&["git", "clone", "--quiet", "--", url, "."])],
        branch => vec![words(&["git", "clone", "--quiet", "--branch", branch, "--", url, "."])],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_repository_comes() {
        let check = |reference: &str, expect: &[&str]| {
            let lines: Vec<String> = commands("u", reference).iter().map(|words| words.join(" ")).collect();
            assert_eq!(lines, expect, "{reference}");
        };
        check("", &["git clone --quiet -- u ."]);
        check("main", &["git clone --quiet --branch main -- u ."]);
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let checkout = format!("git checkout --quiet --detach {commit} --");
        check(commit, &["git clone --quiet --no-checkout -- u .", &checkout]);
    }
}
