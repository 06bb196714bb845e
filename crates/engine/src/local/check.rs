//! What a specification must look like for the local engine to run it.

use std::path::{Component, Path};

use crate::image;
use crate::sandbox::capabilities;
use crate::sandbox::program::is_c_string;
use crate::spec::{ContainerId, ContainerSpec};
use crate::traits::{EngineError, Result};

/// Checks an identity, which is also a file name.
pub(super) fn id(id: &ContainerId) -> Result<()> {
    let text = id.0.as_str();
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    let outer = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    let valid = bytes.len() <= 200 && outer(bytes.first()) && outer(bytes.last()) && bytes.iter().all(|&b| inner(b));
    if valid { Ok(()) } else { Err(invalid(format!("identity {text:?} is not usable as a file name"))) }
}

/// Checks everything else.
pub(super) fn spec(spec: &ContainerSpec) -> Result<()> {
    id(&spec.id)?;
    if spec.command.is_empty() && !image::is_own(&spec.image) {
        return Err(invalid(format!(
            "image {:?}: the local engine does not use images, so it cannot know the image's entrypoint: give a command",
            spec.image
        )));
    }
    for mount in &spec.mounts {
        absolute("mount source", &mount.source)?;
        absolute("mount path", &mount.target)?;
        if mount.target == Path::new("/") {
            return Err(invalid("a mount at / would replace the sandbox".to_owned()));
        }
    }
    spec.working_dir.iter().try_for_each(|path| absolute("working directory", path))?;
    absolute("log path", &spec.log.path)?;
    crate::check::log(&spec.log)?;
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains('=') || !is_c_string(name) || !is_c_string(value) {
            return Err(invalid(format!("environment variable {name:?} cannot be set")));
        }
    }
    if !spec.command.iter().chain(&spec.args).all(is_c_string) {
        return Err(invalid("the command contains a NUL byte".to_owned()));
    }
    if let Some(name) = &spec.hostname
        && (name.is_empty() || name.len() > 64 || !is_c_string(name))
    {
        return Err(invalid(format!("host name {name:?} is not between 1 and 64 bytes long")));
    }
    capabilities::wanted(&spec.security).map_err(invalid)?;
    Ok(())
}

fn absolute(what: &str, path: &Path) -> Result<()> {
    let clean = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && clean && is_c_string(path) {
        Ok(())
    } else {
        Err(invalid(format!("{what} {} must be absolute, without \"..\"", path.display())))
    }
}

fn invalid(message: String) -> EngineError {
    EngineError::Invalid(message)
}

#[cfg(test)]
mod tests {
    use super::id;
    use crate::spec::ContainerId;

    #[test]
    fn identities() {
        let check = |text: &str, valid: bool| assert_eq!(id(&ContainerId(text.to_owned())).is_ok(), valid, "{text:?}");
        check("a", true);
        check("pod-1.main_0", true);
        check("0b", true);
        check("", false);
        check(".", false);
        check("..", false);
        check(".a", false);
        check("a-", false);
        check("a/b", false);
        check("A", false);
        check("a\0b", false);
        check(&"a".repeat(200), true);
        check(&"a".repeat(201), false);
    }
}
