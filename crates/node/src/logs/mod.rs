//! Container logs: files in the CRI format, read with every option that `kubectl logs` has.
//!
//! [`read::Reader`] turns files into output, [`notify::Notifier`] tells when there is more.

pub(crate) mod notify;
pub(crate) mod read;

use std::path::Path;

/// Most of a log's end that becomes a termination message.
const TAIL_BYTES: usize = 2048;
/// Most lines of it.
const TAIL_LINES: u64 = 80;

/// The end of a log, as a termination message (`terminationMessagePolicy: FallbackToLogsOnError`).
pub(crate) fn tail(path: &Path) -> Option<String> {
    let options = read::LogOptions { tail_lines: Some(TAIL_LINES), ..read::LogOptions::default() };
    let mut reader = read::Reader::open(path, options).ok()?;
    let mut out = Vec::new();
    while reader.step(&mut out).ok()? == read::Step::More {}
    let from = out.len().saturating_sub(TAIL_BYTES);
    Some(String::from_utf8_lossy(&out[from..]).into_owned())
}
