//! The log of the container `changes`: for each repository a line that says what comes, then its patch.
//!
//! `git apply` passes over such lines, so that the log as a whole is a patch too.

use std::io::{self, Write};

use kubetask_api::task::RepositoryChanges;

/// What a line begins with that is no patch.
const MARK: &str = "kubetask: changes ";

/// A repository's changes and its patch.
pub(in crate::commands) struct Section {
    /// What the line said.
    pub changes: RepositoryChanges,
    /// For `git apply`.
    pub patch: String,
}

/// Writes a section.
pub(in crate::commands) fn write(out: &mut impl Write, changes: &RepositoryChanges, patch: &str) -> io::Result<()> {
    writeln!(out, "{MARK}{}", serde_json::to_string(changes).unwrap_or_default())?;
    out.write_all(patch.as_bytes())
}

/// Reads a log.
///
/// # Errors
/// When it is not whole.
pub(super) fn read(mut log: &str) -> Result<Vec<Section>, &'static str> {
    const CUT: &str = "the log is not whole: its beginning or its end is missing";
    let mut sections = Vec::new();
    while !log.is_empty() {
        let (line, rest) = log.split_once('\n').ok_or(CUT)?;
        let changes = line.strip_prefix(MARK).and_then(|json| serde_json::from_str::<RepositoryChanges>(json).ok());
        let changes = changes.ok_or(CUT)?;
        let bytes = usize::try_from(changes.bytes).map_err(|_| CUT)?;
        let (patch, rest) = rest.split_at_checked(bytes).ok_or(CUT)?;
        sections.push(Section { changes, patch: patch.to_owned() });
        log = rest;
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_is_not() {
        let mut log = Vec::new();
        let patches = ["diff --git a/a b/a\n+kubetask: changes {}\n", "", "ü\n"];
        for (index, patch) in patches.iter().enumerate() {
            let changes = RepositoryChanges {
                path: format!("/workspace/{index}\n"),
                bytes: i64::try_from(patch.len()).unwrap(),
                ..RepositoryChanges::default()
            };
            write(&mut log, &changes, patch).unwrap();
        }
        let log = String::from_utf8(log).unwrap();
        let sections = read(&log).unwrap();
        assert_eq!(sections.iter().map(|section| section.patch.as_str()).collect::<Vec<_>>(), patches);
        assert_eq!(sections[2].changes.path, "/workspace/2\n");
        let (mark, _) = log.split_once("/workspace/1").unwrap();
        for end in mark.rfind('\n').unwrap() + 2..log.len() {
            if log.is_char_boundary(end) && !log[..end].ends_with("\"bytes\":0}\n") {
                assert!(read(&log[..end]).is_err(), "{end}");
            }
        }
        assert!(read(&log[1..]).is_err());
        assert!(read("").unwrap().is_empty());
    }
}
