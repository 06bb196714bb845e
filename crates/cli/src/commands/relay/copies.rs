//! Copies of ConfigMaps and Secrets on the other cluster. They belong to the Job there and go with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use kubetask_api::labels::FIELD_MANAGER;
use kubetask_core::cluster::{CONFIG_MAPS_DIR, Copied, OWNER, SECRETS_DIR, Spec};

use super::Trouble;

/// Makes all copies, or brings them up to date.
pub(super) async fn make(client: &Client, spec: &Spec, job: &Job) -> Result<(), Trouble> {
    let namespace = job.namespace().unwrap_or_default();
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    for copied in &spec.config_maps {
        let object = config_map(job, copied)?;
        config_maps.patch(&copied.to, &params, &Patch::Apply(&object)).await?;
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    for copied in &spec.secrets {
        if let Some(object) = secret(job, copied)? {
            secrets.patch(&copied.to, &params, &Patch::Apply(&object)).await?;
        }
    }
    Ok(())
}

fn config_map(job: &Job, copied: &Copied) -> Result<ConfigMap, Trouble> {
    let mut data = BTreeMap::new();
    let mut binary = BTreeMap::new();
    for (key, bytes) in keys(&Path::new(CONFIG_MAPS_DIR).join(&copied.from))? {
        match String::from_utf8(bytes) {
            Ok(text) => drop(data.insert(key, text)),
            Err(error) => drop(binary.insert(key, ByteString(error.into_bytes()))),
        }
    }
    Ok(ConfigMap {
        metadata: metadata(job, copied),
        data: (!data.is_empty()).then_some(data),
        binary_data: (!binary.is_empty()).then_some(binary),
        immutable: None,
    })
}

fn secret(job: &Job, copied: &Copied) -> Result<Option<Secret>, Trouble> {
    let data: BTreeMap<String, ByteString> = keys(&Path::new(SECRETS_DIR).join(&copied.from))?
        .into_iter()
        .map(|(key, bytes)| (key, ByteString(bytes)))
        .collect();
    // One for a registry must have its key; a missing one is missing there too, and the Pod says so.
    if data.is_empty() && copied.type_.is_some() {
        return Ok(None);
    }
    let metadata = metadata(job, copied);
    Ok(Some(Secret { metadata, data: Some(data), type_: copied.type_.clone(), ..Secret::default() }))
}

fn metadata(job: &Job, copied: &Copied) -> ObjectMeta {
    let owner = job.annotations().get(OWNER).cloned().unwrap_or_default();
    ObjectMeta {
        name: Some(copied.to.clone()),
        namespace: job.namespace(),
        labels: job.metadata.labels.clone(),
        annotations: Some(BTreeMap::from([(OWNER.to_owned(), owner)])),
        owner_references: Some(vec![OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// The files of a volume: keys and contents. The kubelet keeps them behind a link named `..data`.
fn keys(directory: &Path) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
    let unreadable = |path: PathBuf, error: std::io::Error| Trouble::Later(format!("{}: {error}", path.display()));
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(directory.to_owned(), error)),
    };
    let mut keys = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with("..") || !path.is_file() {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(|error| unreadable(path, error))?;
        keys.push((name, bytes));
    }
    Ok(keys)
}
