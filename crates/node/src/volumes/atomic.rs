//! Volumes of files that change as a whole: a reader sees all files of one version, never a mixture.
//!
//! Each version is a directory of its own, `..data` is a symbolic link to the current one, and what a program opens
//! are links through `..data`. Swapping that one link swaps the content.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use jiff::Timestamp;

use super::payload::{Entry, Payload};

const DATA: &str = "..data";

/// Makes `directory` hold exactly `payload`; says whether anything changed.
///
/// # Errors
/// Those of the file system; the version before then stays in place.
pub(crate) fn write(directory: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let current = fs::read_link(directory.join(DATA)).ok();
    if let Some(current) = &current
        && holds(&directory.join(current), payload)
    {
        return Ok(false);
    }
    let version = format!("..{}", Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%N"));
    let fresh = directory.join(&version);
    if let Err(error) = write_version(&fresh, payload, group).and_then(|()| swap(directory, &version)) {
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    link(directory, payload)?;
    remove_old(directory, &version)?;
    Ok(true)
}

fn write_version(directory: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(directory)?;
    // Whatever the process's umask is, the container's user must get in.
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    for (path, Entry { data, mode }) in payload {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            for ancestor in
                parent.ancestors().take_while(|ancestor| *ancestor != directory).collect::<Vec<_>>().iter().rev()
            {
                match fs::create_dir(ancestor) {
                    Ok(()) => fs::set_permissions(ancestor, Permissions::from_mode(0o755))?,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(data)?;
        let mode = if group.is_some() { mode | 0o040 } else { *mode };
        if group.is_some() {
            // Only root may; without it the file's own mode has to do.
            let _ = std::os::unix::fs::fchown(&file, None, group);
        }
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn swap(directory: &Path, version: &str) -> io::Result<()> {
    let temporary = directory.join("..data_tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(version, &temporary)?,
    }
    fs::rename(&temporary, directory.join(DATA))
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// What programs see: a link for every top-level name, and none for names that are gone.
fn link(directory: &Path, payload: &Payload) -> io::Result<()> {
    let names: BTreeSet<&str> = payload.keys().map(|path| top(path)).collect();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(name.as_ref()) {
            fs::remove_file(directory.join(name.as_ref()))?;
        }
    }
    for name in names {
        match symlink(Path::new(DATA).join(name), directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    Ok(())
}

fn remove_old(directory: &Path, keep: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("..") && name != DATA && name != keep && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a version holds exactly this.
fn holds(directory: &Path, payload: &Payload) -> bool {
    let mut found = BTreeMap::new();
    collect(directory, String::new(), &mut found).is_ok() && found == *payload
}

fn collect(directory: &Path, prefix: String, found: &mut Payload) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            collect(&entry.path(), format!("{name}/"), found)?;
        } else {
            found.insert(name, Entry { data: fs::read(entry.path())?, mode: metadata.permissions().mode() & 0o777 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(path, data)| ((*path).to_owned(), Entry { data: data.as_bytes().to_vec(), mode: 0o640 }))
            .collect()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.retain(|name| !name.starts_with("..2"));
        names.sort();
        names
    }

    #[test]
    fn content_is_swapped_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v");
        assert!(write(&path, &payload(&[("a", "1"), ("d/e", "2")]), None).unwrap());
        assert_eq!(names(&path), ["..data", "a", "d"]);
        assert_eq!(fs::read_to_string(path.join("d/e")).unwrap(), "2");
        assert_eq!(fs::metadata(path.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        let before = fs::read_link(path.join("..data")).unwrap();
        assert!(!write(&path, &payload(&[("a", "1"), ("d/e", "2")]), None).unwrap(), "nothing changed");
        assert_eq!(fs::read_link(path.join("..data")).unwrap(), before);
        assert!(write(&path, &payload(&[("a", "9"), ("b", "3")]), None).unwrap());
        assert_eq!(names(&path), ["..data", "a", "b"]);
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "9");
        assert!(!path.join(before).exists(), "the version before is gone");
        assert!(write(&path, &payload(&[]), None).unwrap());
        assert_eq!(names(&path), ["..data"]);
    }

    #[test]
    fn a_version_left_half_written_by_a_crash_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir(path.join("..2020_01_01_00_00_00.000000000")).unwrap();
        symlink("..nowhere", path.join("..data_tmp")).unwrap();
        assert!(write(path, &payload(&[("a", "1")]), None).unwrap());
        assert_eq!(names(path), ["..data", "a"]);
        assert_eq!(fs::read_dir(path).unwrap().count(), 3);
    }
}
