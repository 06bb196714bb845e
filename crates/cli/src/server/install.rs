//! Installs what KubeTask needs into the embedded server: its definitions, and the service account that the examples
//! and the in-cluster installation use. Does nothing where it is there already.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kubetask_operator::install::{definitions, installed_by};

use crate::commands::apply::FIELD_MANAGER;
use crate::error::{CommandError, CommandResult, chain};

/// KubeTask's usual namespace.
const NAMESPACE: &str = "kubetask-system";
/// The service account that agents use by convention.
const AGENT_ACCOUNT: &str = "kubetask-agent";

/// Installs what is not there yet, and returns once the server serves it.
pub(super) async fn install(client: &Client) -> CommandResult<()> {
    let ours = crate::version::long();
    let installed = installed_by(client).await.map_err(|e| CommandError::failure(chain(&e)))?;
    // A build without a commit cannot tell whether its definitions changed.
    if installed.as_deref() == Some(ours) && crate::version::commit() != "unknown" {
        return Ok(());
    }
    definitions(client, ours).await.map_err(|e| CommandError::failure(chain(&e)))?;
    agent_account(client).await
}

/// The service account of agents in their usual namespace. The namespace is made by the controllers, about now.
async fn agent_account(client: &Client) -> CommandResult<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let there = await_condition(namespaces, NAMESPACE, |namespace: Option<&Namespace>| namespace.is_some());
    there.await.map_err(|e| CommandError::failure(chain(&e)))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let mut account = ServiceAccount::default();
    account.metadata.name = Some(AGENT_ACCOUNT.to_owned());
    account.automount_service_account_token = Some(false);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    accounts.patch(AGENT_ACCOUNT, &params, &Patch::Apply(&account)).await?;
    Ok(())
}
