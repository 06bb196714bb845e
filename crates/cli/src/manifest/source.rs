//! Reading the text of manifests: a file, a directory, a URL, or standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::CommandError;

/// Greatest size of one manifest text in bytes; far beyond what an API server takes for one object.
pub const MAX_BYTES: u64 = 16 << 20;

/// A text and where it is from.
#[derive(Debug)]
pub struct Source {
    /// File name, URL or `<stdin>`.
    pub origin: String,
    /// The text.
    pub text: String,
    /// Directory against which the text's relative paths are meant; `None` for a URL.
    pub base: Option<PathBuf>,
}

/// Reads what `-f` names: `-`, `http(s)://…`, a directory (its `.yaml`, `.yml` and `.json` files, by name) or a file.
///
/// # Errors
/// When it cannot be read, is too large, or is not text.
pub fn read(name: &str) -> Result<Vec<Source>, CommandError> {
    if name == "-" {
        let text = decode("<stdin>", bounded(std::io::stdin().lock(), "<stdin>")?)?;
        return Ok(vec![Source { origin: "<stdin>".to_owned(), text, base: std::env::current_dir().ok() }]);
    }
    if name.starts_with("http://") || name.starts_with("https://") {
        let body = crate::fetch::get(name, MAX_BYTES).map_err(|e| CommandError::usage(format!("{name}: {e}")))?;
        return Ok(vec![Source { origin: name.to_owned(), text: decode(name, body)?, base: None }]);
    }
    let path = Path::new(name);
    let meta = std::fs::metadata(path).map_err(|e| CommandError::usage(format!("{name}: {}", reason(&e))))?;
    if meta.is_dir() {
        return directory(path)?.iter().map(|file| file_source(file)).collect();
    }
    Ok(vec![file_source(path)?])
}

fn directory(path: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let entries =
        std::fs::read_dir(path).map_err(|e| CommandError::usage(format!("{}: {}", path.display(), reason(&e))))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|file| {
            file.is_file() && matches!(file.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json"))
        })
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(CommandError::usage(format!("{}: no .yaml, .yml or .json file in this directory", path.display())));
    }
    Ok(files)
}

fn file_source(path: &Path) -> Result<Source, CommandError> {
    let origin = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|e| CommandError::usage(format!("{origin}: {}", reason(&e))))?;
    let text = decode(&origin, bounded(file, &origin)?)?;
    let base =
        path.parent().map(|parent| if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() });
    Ok(Source { origin, text, base })
}

fn bounded(reader: impl Read, origin: &str) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| CommandError::usage(format!("{origin}: {}", reason(&e))))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(CommandError::usage(format!(
            "{origin}: larger than {} MiB; a manifest is never that large",
            MAX_BYTES >> 20
        )));
    }
    Ok(bytes)
}

fn decode(origin: &str, bytes: Vec<u8>) -> Result<String, CommandError> {
    if let Some(at) = bytes.iter().position(|b| *b == 0) {
        let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
        return Err(CommandError::usage(format!("{origin}:{line}: not a text file (it has a zero byte)")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(e) => {
            let valid = e.utf8_error().valid_up_to();
            let line = e.as_bytes()[..valid].iter().filter(|b| **b == b'\n').count() + 1;
            Err(CommandError::usage(format!("{origin}:{line}: not a text file in UTF-8")))
        }
    }
}

/// The system's words without its number.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
