//! Fetches remote files and assembles those in which they take part.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use kubetask_core::context::aggregate;
use kubetask_core::context::fetch::{FetchFile, FetchHeader, FetchPart, FetchPlan};

use crate::error::{CommandError, CommandResult};
use crate::exit_codes;

/// Greatest size of one remote file in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// How often a file is asked for before the Task fails.
const ATTEMPTS: u32 = 4;

pub(super) fn run(plan: &Path) -> CommandResult {
    let failed = |e: &dyn std::fmt::Display| CommandError::failure(format!("{}: {e}", plan.display()));
    let text = fs::read(plan).map_err(|e| failed(&e))?;
    let plan: FetchPlan = serde_json::from_slice(&text).map_err(|e| failed(&e))?;
    for file in &plan.files {
        let parts = file.parts.iter().map(|part| content(file, part)).collect::<CommandResult<Vec<_>>>()?;
        let whole = aggregate(&parts);
        write(Path::new(&file.output), &whole).map_err(|e| CommandError::failure(format!("{}: {e}", file.path)))?;
    }
    Ok(exit_codes::OK)
}

fn content(file: &FetchFile, part: &FetchPart) -> CommandResult<Vec<u8>> {
    match part {
        FetchPart::Local { file: path } => {
            fs::read(path).map_err(|e| CommandError::failure(format!("{}: {e}", file.path)))
        }
        FetchPart::Remote { url, headers } => {
            let shown = without_secrets(url);
            let headers = headers.iter().filter_map(value).collect::<Vec<_>>();
            let bytes = with_retries(|| crate::fetch::get_with_headers(url, &headers, MAX_BYTES))
                .map_err(|e| CommandError::failure(format!("{}: cannot fetch {shown}: {e}", file.path)))?;
            Ok(bytes)
        }
    }
}

fn value(header: &FetchHeader) -> Option<(String, String)> {
    let value = match (&header.value, &header.env) {
        (Some(value), _) => value.clone(),
        (None, Some(variable)) => std::env::var(variable).ok()?,
        (None, None) => return None,
    };
    Some((header.name.clone(), value.trim_end().to_owned()))
}

/// A URL without user information and query, which may hold secrets.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}/{path}")
}

fn with_retries<T>(
    mut get: impl FnMut() -> Result<T, crate::fetch::FetchError>,
) -> Result<T, crate::fetch::FetchError> {
    let mut attempt = 1;
    loop {
        match get() {
            Err(error) if attempt < ATTEMPTS && is_passing(&error) => {
                std::thread::sleep(std::time::Duration::from_millis(500 << attempt));
                attempt += 1;
            }
            other => return other,
        }
    }
}

/// Whether trying again may help.
fn is_passing(error: &crate::fetch::FetchError) -> bool {
    match error {
        crate::fetch::FetchError::Status(code) => matches!(code, 408 | 425 | 429 | 500..=599),
        crate::fetch::FetchError::Transport(_) => true,
        crate::fetch::FetchError::TooLarge(_) => false,
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // The agent may run as another user than this container.
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        for (url, shown) in [
            ("https://user:pw@example.test/a/b?token=x#y", "https://example.test/a/b"),
            ("https://example.test", "https://example.test/"),
            ("http://example.test:81/?k=v", "http://example.test:81/"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
