//! `kubetask uninstall`: nothing of KubeTask stays in the cluster.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Client, ResourceExt};
use kubetask_core::deploy::{NAMESPACE, PART_OF, Release};

use super::install;
use crate::args::GlobalArgs;
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::output::Output;

/// Arguments of `kubetask uninstall`.
#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Delete the Tasks, Agents and everything else of KubeTask's kinds that is still there
    #[arg(long)]
    pub force: bool,
    /// Leave the definitions, and with them every Task and Agent
    #[arg(long, conflicts_with = "force")]
    pub keep_crds: bool,
    /// Longest time to wait until objects are gone
    #[arg(long, value_name = "DURATION", value_parser = crate::duration::parse, default_value = "2m")]
    pub timeout: Duration,
}

/// KubeTask's kinds; those that make others come first.
const OURS: &[(&str, &str)] = &[
    ("CronTask", "crontasks"),
    ("BatchRun", "batchruns"),
    ("Task", "tasks"),
    ("Batch", "batches"),
    ("Agent", "agents"),
    ("KubeTaskConfig", "kubetaskconfigs"),
];

/// Runs the command.
///
/// # Errors
/// When there are objects that would be lost, or the cluster says no.
pub async fn run(args: UninstallArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let client = install::client(global).await?;
    let namespace = global.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
    let release = Release::by_command(&namespace, crate::version::short());
    let plan = look(&client, &release).await?;
    plan.refuse(&args)?;
    if !args.yes && !confirmed(&plan, &args, output)? {
        output.say("nothing was changed");
        return Ok(exit_codes::FAILURE);
    }
    carry_out(&client, &plan, &args, output).await?;
    Ok(exit_codes::OK)
}

/// What is there.
pub struct Plan {
    /// Objects of KubeTask's kinds, by kind.
    ours: Vec<(ApiResource, Vec<(String, String)>)>,
    /// Objects of the installation.
    installed: Vec<(ApiResource, String, String)>,
    /// Namespaces that were made by `kubetask install`.
    namespaces: Vec<String>,
    /// Whether it was Helm that installed it.
    helm: bool,
}

/// Looks at what is there.
///
/// # Errors
/// When the server says no.
pub async fn look(client: &Client, release: &Release) -> CommandResult<Plan> {
    let mut ours = Vec::new();
    for (kind, plural) in OURS {
        let gvk = GroupVersionKind::gvk("kubetask.io", "v1alpha1", kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        match api.list_metadata(&ListParams::default()).await {
            Ok(list) => {
                let names: Vec<_> =
                    list.items.iter().map(|o| (o.namespace().unwrap_or_default(), o.name_any())).collect();
                ours.push((resource, names));
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    let installed = install::found(client, &release.managed_by).await?;
    let helm = installed.is_empty() && !install::found(client, "Helm").await?.is_empty();
    let selector = format!("{PART_OF}=kubetask,app.kubernetes.io/managed-by={}", release.managed_by);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespaces = namespaces.list_metadata(&ListParams::default().labels(&selector)).await?;
    Ok(Plan {
        ours,
        installed: installed.into_iter().map(|(r, o)| (r, o.namespace().unwrap_or_default(), o.name_any())).collect(),
        namespaces: namespaces.items.iter().map(ResourceExt::name_any).collect(),
        helm,
    })
}

impl Plan {
    /// Says no where something would be lost unasked.
    ///
    /// # Errors
    /// Why not.
    pub fn refuse(&self, args: &UninstallArgs) -> CommandResult<()> {
        if self.helm {
            return Err(CommandError::usage("this KubeTask was installed by Helm")
                .hint("`helm uninstall RELEASE` removes it; `kubectl delete crd -l` removes its definitions"));
        }
        let there = self.count();
        if !there.is_empty() && !args.force && !args.keep_crds {
            return Err(CommandError::usage(format!("the cluster still has {there}, which would be deleted"))
                .hint("--force deletes them; --keep-crds leaves them and KubeTask's definitions"));
        }
        Ok(())
    }

    /// `3 tasks, 1 agent`, or nothing.
    fn count(&self) -> String {
        let counted = self.ours.iter().filter(|(_, names)| !names.is_empty());
        counted.map(|(resource, names)| format!("{} {}", names.len(), resource.plural)).collect::<Vec<_>>().join(", ")
    }
}

fn confirmed(plan: &Plan, args: &UninstallArgs, output: Output) -> CommandResult<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::usage("this deletes KubeTask from the cluster").hint("--yes says that it may"));
    }
    output.say(format!("This deletes {} objects of the operator", plan.installed.len()));
    if !args.keep_crds {
        let there = plan.count();
        output.say(format!("  and the definitions of KubeTask{}{there}", if there.is_empty() { "" } else { " with " }));
        for namespace in &plan.namespaces {
            output.say(format!("  and the namespace {namespace} with everything in it"));
        }
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "Go on? [y/N] ").and_then(|()| stderr.flush())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Deletes in the order in which nothing is left hanging: what the operator has to clean up while it still runs, then
/// the operator, then its rights and the definitions.
///
/// # Errors
/// When the server says no, or something does not go in time.
pub async fn carry_out(client: &Client, plan: &Plan, args: &UninstallArgs, output: Output) -> CommandResult<()> {
    if !args.keep_crds {
        for (resource, names) in &plan.ours {
            for (namespace, name) in names {
                install::remove(&install::api(client, resource, namespace), name).await?;
                output.data(&format!("{} deleted", install::title_of(resource, name)));
            }
        }
        gone(args.timeout, "objects of KubeTask", async || {
            let mut left = 0;
            for (resource, _) in plan.ours.iter().filter(|(_, names)| !names.is_empty()) {
                let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
                left += api.list_metadata(&ListParams::default()).await?.items.len();
            }
            Ok(left)
        })
        .await?;
    }
    for (resource, namespace, name) in &plan.installed {
        install::remove(&install::api(client, resource, namespace), name).await?;
        output.data(&format!("{} deleted", install::title_of(resource, name)));
    }
    if args.keep_crds {
        return Ok(());
    }
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definitions =
        Api::<DynamicObject>::all_with(client.clone(), &ApiResource::erase::<CustomResourceDefinition>(&()));
    for (_, plural) in OURS {
        let name = format!("{plural}.kubetask.io");
        if crds.get_metadata_opt(&name).await?.is_some() {
            install::remove(&definitions, &name).await?;
            output.data(&format!("customresourcedefinition.apiextensions.k8s.io/{name} deleted"));
        }
    }
    let all = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::erase::<Namespace>(&()));
    for namespace in &plan.namespaces {
        install::remove(&all, namespace).await?;
        output.data(&format!("namespace/{namespace} deleted"));
    }
    gone(args.timeout, "the definitions", async || {
        let mut left = 0;
        for (_, plural) in OURS {
            left += usize::from(crds.get_metadata_opt(&format!("{plural}.kubetask.io")).await?.is_some());
        }
        Ok(left)
    })
    .await
}

/// Waits until nothing is left.
async fn gone(timeout: Duration, what: &str, mut left: impl AsyncFnMut() -> CommandResult<usize>) -> CommandResult<()> {
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let left = left().await?;
        if left == 0 {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            let message = format!("{what}: {left} are still there after {}s", timeout.as_secs());
            let hint = "a finalizer may hold them: look at their metadata.finalizers";
            return Err(CommandError::timeout(message).hint(hint));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
