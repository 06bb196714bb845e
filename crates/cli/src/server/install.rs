//! Installs what KubeTask needs into the embedded server: its definitions, and the service account that the examples
//! and the in-cluster installation use. Does nothing where it is there already.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, CustomResourceExt, ResourceExt};

use crate::commands::apply::FIELD_MANAGER;
use crate::error::{CommandError, CommandResult, chain};

/// Annotation with the version and commit whose definitions are installed.
const INSTALLED_BY: &str = "kubetask.io/installed-by";
/// KubeTask's usual namespace.
const NAMESPACE: &str = "kubetask-system";
/// The service account that agents use by convention.
const AGENT_ACCOUNT: &str = "kubetask-agent";

/// Installs what is not there yet, and returns once the server serves it.
pub(super) async fn install(client: &Client) -> CommandResult<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let ours = crate::version::long();
    let marker = kubetask_api::Task::crd_name();
    let installed = api.get_opt(marker).await?;
    let current = installed.is_some_and(|crd| crd.annotations().get(INSTALLED_BY).is_some_and(|by| by == ours));
    // A build without a commit cannot tell whether its definitions changed.
    if current && crate::version::commit() != "unknown" {
        return Ok(());
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let mut definitions = kubetask_api::crds();
    // The one that is looked at comes last: after a crash in between, everything is installed again.
    definitions.sort_by_key(|crd| crd.name_any() == marker);
    for mut crd in definitions {
        crd.metadata.annotations.get_or_insert_with(BTreeMap::new).insert(INSTALLED_BY.to_owned(), ours.to_owned());
        let name = crd.name_any();
        api.patch(&name, &params, &Patch::Apply(&crd)).await?;
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        established.await.map_err(|e| CommandError::failure(chain(&e)))?;
    }
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
