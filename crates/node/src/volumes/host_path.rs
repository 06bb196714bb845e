//! `hostPath` volumes: a path of the host, of the kind that was promised.

use std::fs::{self, DirBuilder, Metadata, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// The path, once it is there and of the right kind.
///
/// # Errors
/// The kubelet's words.
pub(crate) fn check(source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = Path::new(&source.path);
    if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
        return Err(format!("hostPath must be an absolute path without '..': {}", source.path));
    }
    let kind = source.type_.as_deref().unwrap_or_default();
    let missing = !path.exists();
    let failed = |error: std::io::Error| format!("hostPath {}: {error}", source.path);
    match kind {
        "" => {
            // Whatever is there; a directory where nothing is, since a mount needs something to show.
            if missing {
                DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed)?;
            }
            return Ok(path.to_path_buf());
        }
        "DirectoryOrCreate" if missing => DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed)?,
        "FileOrCreate" if missing => {
            OpenOptions::new().create(true).append(true).mode(0o644).open(path).map_err(failed)?;
        }
        _ => {}
    }
    let metadata = fs::metadata(path).map_err(|_| wrong(source, kind))?;
    if is(kind, &metadata)? { Ok(path.to_path_buf()) } else { Err(wrong(source, kind)) }
}

fn is(kind: &str, metadata: &Metadata) -> Result<bool, String> {
    let file_type = metadata.file_type();
    Ok(match kind {
        "Directory" | "DirectoryOrCreate" => file_type.is_dir(),
        "File" | "FileOrCreate" => file_type.is_file(),
        "Socket" => file_type.is_socket(),
        "CharDevice" => file_type.is_char_device(),
        "BlockDevice" => file_type.is_block_device(),
        _ => return Err(format!("unknown hostPath type: {kind}")),
    })
}

fn wrong(source: &HostPathVolumeSource, kind: &str) -> String {
    let what = match kind {
        "Directory" | "DirectoryOrCreate" => "a directory",
        "File" | "FileOrCreate" => "a file",
        "Socket" => "a socket file",
        "CharDevice" => "a character device",
        _ => "a block device",
    };
    format!("hostPath type check failed: {} is not {what}", source.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let case = |path: &str, kind: &str, expect: Result<(), &str>| {
            let path = if path.starts_with('/') || path.contains("..") {
                path.to_owned()
            } else {
                directory.path().join(path).display().to_string()
            };
            let source = HostPathVolumeSource { path: path.clone(), type_: Some(kind.to_owned()) };
            let expect = expect.map(|()| PathBuf::from(&path)).map_err(|text| text.replace("PATH", &path));
            assert_eq!(check(&source), expect, "{path} {kind}");
        };
        case("file", "File", Ok(()));
        case("file", "", Ok(()));
        case("file", "Directory", Err("hostPath type check failed: PATH is not a directory"));
        case("none", "File", Err("hostPath type check failed: PATH is not a file"));
        case("none", "Socket", Err("hostPath type check failed: PATH is not a socket file"));
        case("made/deep", "DirectoryOrCreate", Ok(()));
        case("made/file", "FileOrCreate", Ok(()));
        case("made/file", "Directory", Err("hostPath type check failed: PATH is not a directory"));
        case("file", "Odd", Err("unknown hostPath type: Odd"));
        case("/dev/null", "CharDevice", Ok(()));
        case("relative/..", "", Err("hostPath must be an absolute path without '..': PATH"));
    }
}
