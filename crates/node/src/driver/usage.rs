//! Watches what emptyDir volumes with a `sizeLimit` hold, as the kubelet does: now and then, and a pod that uses more than it
//! may is evicted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Driver;
use crate::machine::Event;
use crate::quantity;

/// How often is looked. The kubelet looks as often.
const INTERVAL: Duration = Duration::from_secs(10);

/// One volume with a limit.
#[derive(Debug, Clone)]
struct Limited {
    name: String,
    path: PathBuf,
    /// As the pod's author wrote it.
    written: String,
    bytes: u64,
}

impl Driver {
    /// Watches the volumes with a limit, if there are any, as long as the pod is here.
    pub(super) fn watch_usage(&self) {
        let volumes = self.machine.pod().spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let limited: Vec<Limited> = volumes
            .filter_map(|volume| {
                let written = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
                let bytes = quantity::units(written).and_then(|bytes| u64::try_from(bytes).ok())?;
                let path = self.places.get(&volume.name)?.path.clone();
                Some(Limited { name: volume.name.clone(), path, written: written.0.clone(), bytes })
            })
            .filter(|limited| limited.bytes > 0)
            .collect();
        if limited.is_empty() {
            return;
        }
        let (events, stop) = (self.events.clone(), self.shared.stop.clone());
        let watch = async move {
            while !events.is_closed() {
                tokio::time::sleep(INTERVAL).await;
                let volumes = limited.clone();
                let look = move || volumes.into_iter().find(|volume| usage(&volume.path, volume.bytes) > volume.bytes);
                if let Ok(Some(over)) = tokio::task::spawn_blocking(look).await {
                    let message =
                        format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", over.name, over.written);
                    events.tell(Event::Evict(message));
                    return;
                }
            }
        };
        self.shared.tasks.spawn(async move { stop.run_until_cancelled(watch).await });
    }
}

/// Bytes on disk below a directory, as far as it takes to know that they are more than `enough`. No link is followed.
fn usage(path: &Path, enough: u64) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    let mut directories = vec![path.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            total += metadata.blocks() * 512;
            if total > enough {
                return total;
            }
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_directory_holds() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let held = usage(dir.path(), u64::MAX);
        assert!((100_000..300_000).contains(&held), "{held}");
        assert!(usage(dir.path(), 50_000) > 50_000);
        assert_eq!(usage(&dir.path().join("missing"), 1), 0);
    }
}
