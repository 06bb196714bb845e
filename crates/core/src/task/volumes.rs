//! The volumes of a Task's pod and where its containers see them.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath,
    ProjectedVolumeSource, SecretProjection, SecretVolumeSource, Volume, VolumeMount, VolumeProjection,
};
use kubetask_api::agent::{AgentSpec, Credential, Workspace};

use super::human::STATE_DIR;
use crate::context::{DirMount, Resolved, Store, WORKSPACE, fetch};

/// The volume names.
const FILES: &str = "kubetask-files";
const SECRETS: &str = "kubetask-secrets";
const FETCHED: &str = "kubetask-fetched";
const TOOLS: &str = "kubetask-tools";
const HUMAN: &str = "kubetask-human";
const BASE: &str = "kubetask-base";
const WORKSPACE_VOLUME: &str = "workspace";
/// Where the tools are, in the agent.
pub(super) const TOOLS_DIR: &str = "/tools";
/// Permissions of credential files.
const CREDENTIAL_MODE: i32 = 0o600;

/// The volumes of a Task's pod and where its containers see them.
#[derive(Default)]
pub(super) struct Volumes {
    /// The pod's volumes.
    pub volumes: Vec<Volume>,
    /// The agent's mounts.
    pub agent: Vec<VolumeMount>,
    /// Mounts of `kubetask context fetch`.
    pub fetch: Vec<VolumeMount>,
    /// Mounts of each `kubetask context git`.
    pub git: Vec<Vec<VolumeMount>>,
    /// Mounts of `kubetask context changes`; empty when no repository's changes are collected.
    pub changes: Vec<VolumeMount>,
    /// Mounts of the tools' init container.
    pub tools: Vec<VolumeMount>,
}

/// Builds them. `stored` is the name of the Task's ConfigMap and Secret.
pub(super) fn build(agent: &AgentSpec, resolved: &Resolved, stored: &str) -> Volumes {
    let mut out = Volumes::default();
    out.volumes.push(workspace(agent.workspace.as_ref()));
    out.agent.push(mount(WORKSPACE_VOLUME, WORKSPACE));
    out.stored(resolved, stored);
    for (index, dir) in resolved.dirs.iter().enumerate() {
        let name = format!("dir-{index}");
        out.agent.push(read_only(mount(&name, &dir.path)));
        out.volumes.push(directory(name, dir, stored));
    }
    out.repositories(resolved);
    if agent.tools_image.is_some() {
        out.volumes.push(empty_dir(TOOLS));
        out.tools.push(mount(TOOLS, "/kubetask/tools"));
        out.agent.push(read_only(mount(TOOLS, TOOLS_DIR)));
    }
    for (index, credential) in agent.credentials.iter().enumerate() {
        out.credential(index, credential);
    }
    out
}

impl Volumes {
    /// The Task's ConfigMap and Secret, and what init containers fetch.
    fn stored(&mut self, resolved: &Resolved, stored: &str) {
        let fetches = !resolved.fetch.files.is_empty();
        let uses = |store| resolved.files.iter().any(|f| f.store == store);
        if uses(Store::ConfigMap) || fetches {
            let source = ConfigMapVolumeSource { name: stored.to_owned(), ..ConfigMapVolumeSource::default() };
            self.volumes.push(Volume { name: FILES.to_owned(), config_map: Some(source), ..Volume::default() });
        }
        let parts = resolved.fetch.files.iter().flat_map(|f| &f.parts);
        let secret_parts = parts
            .into_iter()
            .any(|p| matches!(p, fetch::FetchPart::Local { file } if file.starts_with(fetch::SECRETS_DIR)));
        if uses(Store::Secret) || secret_parts {
            let source = SecretVolumeSource { secret_name: Some(stored.to_owned()), ..SecretVolumeSource::default() };
            self.volumes.push(Volume { name: SECRETS.to_owned(), secret: Some(source), ..Volume::default() });
        }
        if fetches {
            self.volumes.push(empty_dir(FETCHED));
            self.fetch.push(read_only(mount(FILES, fetch::FILES_DIR)));
            if secret_parts {
                self.fetch.push(read_only(mount(SECRETS, fetch::SECRETS_DIR)));
            }
            self.fetch.push(mount(FETCHED, fetch::OUT_DIR));
        }
        for file in &resolved.files {
            let volume = match file.store {
                Store::ConfigMap => FILES,
                Store::Secret => SECRETS,
                Store::Fetched => FETCHED,
            };
            let sub_path = Some(file.key.clone());
            self.agent.push(VolumeMount { sub_path, ..read_only(mount(volume, &file.path)) });
        }
    }

    /// Where the agent's container leaves word that it waits for a person.
    pub(super) fn human(&mut self) {
        self.volumes.push(empty_dir(HUMAN));
        self.agent.push(mount(HUMAN, STATE_DIR));
    }

    fn repositories(&mut self, resolved: &Resolved) {
        for (index, checkout) in resolved.repositories.iter().enumerate() {
            let path = &checkout.git.path;
            let mut mounts = Vec::new();
            if path == WORKSPACE || path.strip_prefix(WORKSPACE).is_some_and(|rest| rest.starts_with('/')) {
                mounts.push(mount(WORKSPACE_VOLUME, WORKSPACE));
            } else {
                let name = format!("repository-{index}");
                mounts.push(mount(&name, path));
                self.agent.push(mount(&name, path));
                self.volumes.push(empty_dir(&name));
            }
            if checkout.git.base.is_some() {
                self.base(&mut mounts);
            }
            if let Some(directory) = checkout.git.local_directory() {
                let name = format!("repository-{index}-source");
                mounts.push(read_only(mount(&name, directory)));
                let source = HostPathVolumeSource { path: directory.to_owned(), type_: Some("Directory".to_owned()) };
                self.volumes.push(Volume { name, host_path: Some(source), ..Volume::default() });
            }
            let secrets = [
                ("credentials", fetch::CREDENTIALS_DIR, &checkout.credentials),
                ("work", fetch::WORK_DIR, &checkout.work),
            ];
            for (what, directory, secret) in secrets {
                let Some(secret) = secret else { continue };
                let name = format!("repository-{index}-{what}");
                mounts.push(read_only(mount(&name, directory)));
                let source = SecretVolumeSource {
                    secret_name: Some(secret.clone()),
                    default_mode: Some(0o400),
                    ..SecretVolumeSource::default()
                };
                self.volumes.push(Volume { name, secret: Some(source), ..Volume::default() });
            }
            self.git.push(mounts);
        }
    }

    /// Lets a repository's init container keep how it is, and another container look at both. `mounts` has the checkout.
    fn base(&mut self, mounts: &mut Vec<VolumeMount>) {
        let own = mount(BASE, fetch::BASE_DIR);
        if self.changes.is_empty() {
            self.volumes.push(empty_dir(BASE));
            self.changes.push(own.clone());
        }
        for checkout in mounts.iter().map(|checkout| read_only(checkout.clone())) {
            if !self.changes.contains(&checkout) {
                self.changes.push(checkout);
            }
        }
        mounts.push(own);
    }

    fn credential(&mut self, index: usize, credential: &Credential) {
        let Some(path) = &credential.mount_path else { return };
        let mode = Some(credential.file_mode.unwrap_or(CREDENTIAL_MODE));
        let name = format!("credential-{index}");
        let mut source = SecretVolumeSource {
            secret_name: Some(credential.secret_ref.name.clone()),
            ..SecretVolumeSource::default()
        };
        let mut mounted = read_only(mount(&name, path));
        match &credential.secret_ref.key {
            Some(key) => {
                let file = "content".to_owned();
                source.items = Some(vec![KeyToPath { key: key.clone(), path: file.clone(), mode }]);
                mounted.sub_path = Some(file);
            }
            None => source.default_mode = mode,
        }
        self.agent.push(mounted);
        self.volumes.push(Volume { name, secret: Some(source), ..Volume::default() });
    }
}

fn workspace(workspace: Option<&Workspace>) -> Volume {
    let mut volume = Volume { name: WORKSPACE_VOLUME.to_owned(), ..Volume::default() };
    let wanted = workspace.cloned().unwrap_or_default();
    if let Some(claim) = wanted.persistent_volume_claim {
        volume.persistent_volume_claim = Some(claim);
    } else if let Some(path) = wanted.host_path {
        volume.host_path = Some(path);
    } else {
        volume.empty_dir = Some(wanted.empty_dir.unwrap_or_default());
    }
    volume
}

/// One source alone is a plain volume; several, or files among them, are projected into one.
fn directory(name: String, dir: &DirMount, stored: &str) -> Volume {
    let mut volume = Volume { name, ..Volume::default() };
    if let ([source], true) = (dir.sources.as_slice(), dir.files.is_empty()) {
        let optional = source.optional.then_some(true);
        if source.secret {
            let secret_name = Some(source.name.clone());
            volume.secret = Some(SecretVolumeSource { secret_name, optional, ..SecretVolumeSource::default() });
        } else {
            let name = source.name.clone();
            volume.config_map = Some(ConfigMapVolumeSource { name, optional, ..ConfigMapVolumeSource::default() });
        }
        return volume;
    }
    let whole = dir.sources.iter().map(|s| projection(s.secret, &s.name, s.optional, None));
    let files = dir.files.iter().map(|(store, key, path)| {
        let items = vec![KeyToPath { key: key.clone(), path: path.clone(), mode: None }];
        projection(*store == Store::Secret, stored, false, Some(items))
    });
    let sources = Some(whole.chain(files).collect());
    volume.projected = Some(ProjectedVolumeSource { sources, default_mode: None });
    volume
}

fn projection(secret: bool, name: &str, optional: bool, items: Option<Vec<KeyToPath>>) -> VolumeProjection {
    let optional = optional.then_some(true);
    let name = name.to_owned();
    if secret {
        VolumeProjection { secret: Some(SecretProjection { name, optional, items }), ..VolumeProjection::default() }
    } else {
        let config_map = Some(ConfigMapProjection { name, optional, items });
        VolumeProjection { config_map, ..VolumeProjection::default() }
    }
}

fn empty_dir(name: &str) -> Volume {
    let empty_dir = Some(EmptyDirVolumeSource::default());
    Volume { name: name.to_owned(), empty_dir, ..Volume::default() }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

fn read_only(mount: VolumeMount) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..mount }
}
