//! What engines that do not run containers themselves refuse before they ask whoever does.

use crate::spec::{ContainerSpec, LogSpec};
use crate::traits::{EngineError, Result};

/// Whether the container's identity can be part of a name, and it has an image and room for its log.
pub(crate) fn hosted(spec: &ContainerSpec, engine: &str) -> Result<()> {
    let id = &spec.id.0;
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    if id.is_empty() || id.len() > 200 || !id.bytes().all(inner) {
        return Err(EngineError::Invalid(format!("identity {id:?} is not usable as a name")));
    }
    if spec.image.is_empty() {
        return Err(EngineError::Invalid(format!("the {engine} engine needs an image")));
    }
    log(&spec.log)
}

/// Whether a log has room for anything.
pub(crate) fn log(log: &LogSpec) -> Result<()> {
    if log.max_files == 0 || log.max_bytes == 0 {
        return Err(EngineError::Invalid("the log needs room: at least one file of one byte".to_owned()));
    }
    Ok(())
}
