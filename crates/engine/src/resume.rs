//! Going on with a log that was written before: where it ends, and what of it is whole.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// What `look` finds at the end of the log at `path`, else of the file rotated last. It is given the last `tail` bytes, and
/// answers how many of them are whole entries, and what it found in them. What is not whole is cut off: it comes again.
pub(crate) fn resume<M: Default>(path: &Path, tail: u64, look: impl Fn(&[u8]) -> (usize, Option<M>)) -> io::Result<M> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let rotated = PathBuf::from(format!("{}.1", path.display()));
    for path in [path, &rotated] {
        let mut file = match std::fs::OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let from = file.metadata()?.len().saturating_sub(tail);
        file.seek(SeekFrom::Start(from))?;
        let mut last = Vec::new();
        (&mut file).take(tail).read_to_end(&mut last)?;
        let (whole, found) = look(&last);
        if whole < last.len() {
            file.set_len(from + u64::try_from(whole).unwrap_or(0))?;
        }
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Ok(M::default())
}

/// How many bytes of a text are whole lines.
pub(crate) fn whole_lines(text: &[u8]) -> usize {
    text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}
