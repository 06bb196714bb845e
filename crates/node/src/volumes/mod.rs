//! Volumes: what a pod's containers see of files.
//!
//! [`set_up`] puts every volume of a pod in place (again and again: it is how content is updated too) and answers with
//! [`Places`]; [`mounts`] says which of them one container sees where. Blocking: called off the async threads.

mod atomic;
mod host_path;
pub(crate) mod payload;
mod subpath;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use kubetask_engine::spec::Mount;

use crate::env::downward::NodeFacts;
use crate::env::expand::expand;
use crate::names::Layout;
use crate::objects::Fetched;
use payload::{Tokens, is_private, payload};

/// Where a pod's volumes are.
pub(crate) type Places = BTreeMap<String, Place>;

/// One volume that is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its path on the host.
    pub(crate) path: PathBuf,
    /// Whether containers may not write to it.
    pub(crate) read_only: bool,
}

/// What was found out before: everything that is not a matter of files.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// ConfigMaps and Secrets.
    pub(crate) fetched: Fetched,
    /// Service account tokens by volume.
    pub(crate) tokens: BTreeMap<String, Result<Tokens, String>>,
    /// Directories of claims by volume.
    pub(crate) claims: BTreeMap<String, Result<PathBuf, String>>,
}

/// Puts all volumes of `pod` in place.
///
/// # Errors
/// The kubelet's words for every volume that could not be put in place.
pub(crate) fn set_up(pod: &Pod, layout: &Layout, inputs: &Inputs, node: &NodeFacts) -> Result<Places, Vec<String>> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let group = spec.and_then(|spec| spec.security_context.as_ref()?.fs_group).and_then(|id| u32::try_from(id).ok());
    let mut errors = Vec::new();
    let mut places = Places::new();
    for volume in spec.into_iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        match set_up_one(pod, uid, volume, layout, inputs, node, group) {
            Ok(place) => drop(places.insert(volume.name.clone(), place)),
            Err(error) => errors.push(format!("MountVolume.SetUp failed for volume \"{}\" : {error}", volume.name)),
        }
    }
    if errors.is_empty() { Ok(places) } else { Err(errors) }
}

fn set_up_one(
    pod: &Pod,
    uid: &str,
    volume: &Volume,
    layout: &Layout,
    inputs: &Inputs,
    node: &NodeFacts,
    group: Option<u32>,
) -> Result<Place, String> {
    let failed = |error: io::Error| error.to_string();
    let none = Tokens::new();
    let tokens = match inputs.tokens.get(&volume.name) {
        Some(tokens) => tokens.as_ref().map_err(Clone::clone)?,
        None => &none,
    };
    let private = is_private(volume);
    if let Some(payload) = payload(pod, volume, &inputs.fetched, tokens, node)? {
        let path = if private { layout.private_volume(uid, &volume.name) } else { layout.volume(uid, &volume.name) };
        private_parent(&path).and_then(|()| atomic::write(&path, &payload, group)).map_err(failed)?;
        return Ok(Place { path, read_only: true });
    }
    if let Some(source) = &volume.empty_dir {
        let memory = source.medium.as_deref() == Some("Memory");
        let path = if memory { layout.private_volume(uid, &volume.name) } else { layout.volume(uid, &volume.name) };
        private_parent(&path).and_then(|()| open_directory(&path, group)).map_err(failed)?;
        return Ok(Place { path, read_only: false });
    }
    if let Some(source) = &volume.host_path {
        return host_path::check(source).map(|path| Place { path, read_only: false });
    }
    if let Some(source) = &volume.persistent_volume_claim {
        let claim = inputs.claims.get(&volume.name).cloned();
        let path = claim.unwrap_or_else(|| Err(format!("claim {} was not looked up", source.claim_name)))?;
        private_parent(&path).and_then(|()| open_directory(&path, group)).map_err(failed)?;
        return Ok(Place { path, read_only: source.read_only == Some(true) });
    }
    // A volume without any source is an emptyDir: that is what the API server makes of it.
    Err("this kind of volume is not supported by this node".to_owned())
}

/// Directories that hold volumes are closed to everyone else; what a volume itself allows is its own matter.
fn private_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(0o700).create(parent),
        None => Ok(()),
    }
}

/// A directory in which any user of the pod may write.
fn open_directory(path: &Path, group: Option<u32>) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    }
    let set_gid = if group.is_some() && std::os::unix::fs::chown(path, None, group).is_ok() { 0o2000 } else { 0 };
    fs::set_permissions(path, Permissions::from_mode(0o777 | set_gid))
}

/// What `container` sees of the volumes, parents before what lies inside them. `env` resolves `subPathExpr`.
///
/// # Errors
/// The kubelet's words; the container then waits with `CreateContainerConfigError`.
pub(crate) fn mounts(container: &Container, places: &Places, env: &[(String, String)]) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let place = places.get(&mount.name).ok_or_else(|| format!("volume \"{}\" not found", mount.name))?;
        let read_only = place.read_only || mount.read_only == Some(true);
        let expression = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty());
        let sub = match expression {
            Some(expression) => Some(expand_all(expression, env)?),
            None => mount.sub_path.clone().filter(|text| !text.is_empty()),
        };
        let source = match sub {
            None => place.path.clone(),
            Some(sub) => subpath::resolve(&place.path, Path::new(&sub), place.read_only).map_err(|error| {
                let (volume, name) = (&mount.name, &container.name);
                format!("failed to prepare subPath for volumeMount \"{volume}\" of container \"{name}\": {error}")
            })?,
        };
        let target = PathBuf::from(&mount.mount_path);
        let target = if target.is_absolute() { target } else { Path::new("/").join(target) };
        mounts.push(Mount { source, target, read_only });
    }
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(mounts)
}

/// Every reference of a `subPathExpr` has to resolve.
fn expand_all(expression: &str, env: &[(String, String)]) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let text = expand(expression, |name| {
        let value = env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        if value.is_none() {
            missing.replace(Some(name.to_owned()));
        }
        value
    });
    match missing.into_inner() {
        Some(name) => Err(format!("missing value for \"{name}\"")),
        None => Ok(text),
    }
}

/// Removes a pod's volumes: nothing of it runs any more, and Secrets should not lie around. Claims stay.
pub(crate) fn discard(layout: &Layout, uid: &str) -> io::Result<()> {
    for path in [layout.private(uid), layout.volumes(uid)] {
        remove_tree(&path)?;
    }
    Ok(())
}

/// Removes everything of a pod, its volumes included. Claims stay.
pub(crate) fn tear_down(layout: &Layout, uid: &str) -> io::Result<()> {
    for path in [layout.private(uid), layout.pod(uid)] {
        remove_tree(&path)?;
    }
    Ok(())
}

/// Removes a tree in which programs may have left directories without permissions; symbolic links are not followed.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unlock(path);
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn unlock(path: &Path) {
    let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
