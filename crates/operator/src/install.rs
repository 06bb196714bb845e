//! Installs KubeTask's definitions into a cluster.

use std::collections::BTreeMap;

use futures::future;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::{self, await_condition, conditions};
use kube::{Client, CustomResourceExt, ResourceExt};

use crate::FIELD_MANAGER;

/// Annotation with the version whose definitions are installed.
pub const INSTALLED_BY: &str = "kubetask.io/installed-by";

/// Why definitions were not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The server was asked what is installed.
    #[error("look at what is installed")]
    Look(#[source] Box<kube::Error>),
    /// The server did not take a definition.
    #[error("install {name}")]
    Apply {
        /// The definition's name.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A definition was taken, but is not served.
    #[error("wait until {name} is served")]
    Serve {
        /// The definition's name.
        name: String,
        /// Why.
        #[source]
        source: Box<wait::Error>,
    },
}

/// Whose definitions are installed completely, as told to [`definitions`]; `None` when there are none, or when nobody
/// said.
///
/// # Errors
/// When the server does not answer.
pub async fn installed_by(client: &Client) -> Result<Option<String>, InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let marker = api.get_opt(kubetask_api::Task::crd_name()).await;
    let marker = marker.map_err(|source| InstallError::Look(Box::new(source)))?;
    Ok(marker.and_then(|crd| crd.annotations().get(INSTALLED_BY).cloned()))
}

/// Installs all definitions, in place of older ones, and returns once the server serves them.
///
/// # Errors
/// When the server does not take one.
pub async fn definitions(client: &Client, by: &str) -> Result<(), InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let (marker, others): (Vec<_>, Vec<_>) =
        kubetask_api::crds().into_iter().partition(|crd| crd.name_any() == kubetask_api::Task::crd_name());
    // The one that is looked at comes last: after a crash in between, everything is installed again.
    for part in [others, marker] {
        future::try_join_all(part.into_iter().map(|crd| definition(&api, crd, by))).await?;
    }
    Ok(())
}

async fn definition(
    api: &Api<CustomResourceDefinition>,
    mut crd: CustomResourceDefinition,
    by: &str,
) -> Result<(), InstallError> {
    let name = crd.name_any();
    crd.metadata.annotations.get_or_insert_with(BTreeMap::new).insert(INSTALLED_BY.to_owned(), by.to_owned());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let applied = api.patch(&name, &params, &Patch::Apply(&crd)).await;
    applied.map_err(|source| InstallError::Apply { name: name.clone(), source: Box::new(source) })?;
    let served = await_condition(api.clone(), &name, conditions::is_crd_established()).await;
    served.map_err(|source| InstallError::Serve { name: name.clone(), source: Box::new(source) })?;
    Ok(())
}
