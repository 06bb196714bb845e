//! Reads the log of one run of a container: the rotated files, oldest first, then the current one.
//!
//! [`Reader`] is blocking and remembers where it is, so that following a log is stepping again whenever there is more.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Which of a program's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What of a log is wanted, and how it is shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogOptions {
    /// Only this many lines from the end.
    pub(crate) tail_lines: Option<u64>,
    /// Only what was written from then on.
    pub(crate) since: Option<Timestamp>,
    /// The time before each line.
    pub(crate) timestamps: bool,
    /// At most this many bytes.
    pub(crate) limit_bytes: Option<u64>,
    /// Only this stream.
    pub(crate) stream: Option<Stream>,
}

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There may be more to read.
    More,
    /// Everything written so far was read.
    End,
    /// The limit is reached: nothing more is wanted.
    Full,
}

/// Reads this much at once.
const CHUNK: usize = 64 * 1024;
/// Entries are short; more than this without a line break is not a log.
const LONGEST_ENTRY: usize = 1 << 20;
/// More rotated files than this are not looked for.
const MOST_FILES: usize = 64;

/// A place in a log.
pub(crate) struct Reader {
    path: PathBuf,
    /// Files still to read, the next one first.
    files: Vec<File>,
    pending: Vec<u8>,
    shown: Show,
}

impl Reader {
    /// Opens the log at `path`. A log that does not exist yet is empty.
    pub(crate) fn open(path: &Path, options: LogOptions) -> io::Result<Self> {
        let mut files = open_all(path)?;
        if let Some(lines) = options.tail_lines {
            seek_to_tail(&mut files, lines)?;
        }
        let left = options.limit_bytes;
        Ok(Self {
            path: path.to_path_buf(),
            files,
            pending: Vec::new(),
            shown: Show { options, left, line_begins: true },
        })
    }

    /// Appends the next part of the output to `out`.
    pub(crate) fn step(&mut self, out: &mut Vec<u8>) -> io::Result<Step> {
        if self.shown.left == Some(0) {
            return Ok(Step::Full);
        }
        if self.files.is_empty() {
            self.files = open_all(&self.path)?;
        }
        let Some(file) = self.files.first_mut() else { return Ok(Step::End) };
        let old = self.pending.len();
        self.pending.resize(old + CHUNK, 0);
        let read = file.read(&mut self.pending[old..])?;
        self.pending.truncate(old + read);
        if read == 0 {
            return self.next_file();
        }
        let mut from = 0;
        while let Some(length) = self.pending[from..].iter().position(|byte| *byte == b'\n') {
            if self.shown.entry(&self.pending[from..from + length], out) == Step::Full {
                return Ok(Step::Full);
            }
            from += length + 1;
        }
        self.pending.drain(..from);
        if self.pending.len() > LONGEST_ENTRY {
            self.pending.clear();
        }
        Ok(Step::More)
    }

    /// The file is read to its end: either it is the current one, or another follows.
    fn next_file(&mut self) -> io::Result<Step> {
        if self.files.len() > 1 {
            self.files.remove(0);
            self.pending.clear();
            return Ok(Step::More);
        }
        let own = self.files[0].metadata()?.ino();
        let mut newer = open_all(&self.path)?;
        // What came after ours; all there is where ours is so old that it is gone.
        let after = newer.iter().position(|file| file.metadata().is_ok_and(|metadata| metadata.ino() == own));
        newer.drain(..after.map_or(0, |at| at + 1));
        if newer.is_empty() {
            return Ok(Step::End);
        }
        // It was rotated away after the last read: what was written in between is still to come.
        newer.insert(0, self.files.remove(0));
        self.files = newer;
        let position = self.files[0].stream_position()?;
        if self.files[0].metadata()?.len() <= position {
            self.files.remove(0);
            self.pending.clear();
        }
        Ok(Step::More)
    }
}

/// Opens the files of a log, oldest first.
fn open_all(path: &Path) -> io::Result<Vec<File>> {
    let mut files: Vec<(u64, File)> = Vec::new();
    for index in 0..MOST_FILES {
        let mut name = path.as_os_str().to_owned();
        if index > 0 {
            name.push(format!(".{index}"));
        }
        match File::open(PathBuf::from(name)) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                // A rotation while we look shows a file twice.
                if files.iter().all(|(known, _)| *known != inode) {
                    files.push((inode, file));
                }
            }
            // Right after a rotation the current file may be missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound && index == 0 => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    files.reverse();
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// Moves to the last `lines` entries, reading backwards from the end.
fn seek_to_tail(files: &mut Vec<File>, lines: u64) -> io::Result<()> {
    let mut left = lines;
    let mut skip = 0;
    for (index, file) in files.iter_mut().enumerate().rev() {
        let end = file.seek(SeekFrom::End(0))?;
        let start = tail_start(file, end, &mut left)?;
        file.seek(SeekFrom::Start(start))?;
        if left == 0 {
            skip = index;
            break;
        }
    }
    files.drain(..skip);
    Ok(())
}

/// Where the last `left` entries before `end` begin; `left` becomes what is still missing.
fn tail_start(file: &mut File, end: u64, left: &mut u64) -> io::Result<u64> {
    if *left == 0 {
        return Ok(end);
    }
    let mut block = vec![0; CHUNK];
    let mut position = end;
    let mut seen_any = false;
    while position > 0 {
        let length = position.min(CHUNK as u64);
        position -= length;
        file.seek(SeekFrom::Start(position))?;
        let block = &mut block[..usize::try_from(length).unwrap_or(CHUNK)];
        file.read_exact(block)?;
        for (offset, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // A line break ends an entry; the one before it is where the entry begins.
            if seen_any {
                *left -= 1;
                if *left == 0 {
                    return Ok(position + offset as u64 + 1);
                }
            }
            seen_any = true;
        }
    }
    *left = left.saturating_sub(u64::from(seen_any));
    Ok(0)
}

/// Turns entries into output.
struct Show {
    options: LogOptions,
    left: Option<u64>,
    line_begins: bool,
}

impl Show {
    /// One entry, without its line break. What is not an entry is left out.
    fn entry(&mut self, entry: &[u8], out: &mut Vec<u8>) -> Step {
        let Some((time, stream, partial, text)) = parse(entry) else { return Step::More };
        if self.options.stream.is_some_and(|wanted| wanted != stream) {
            return Step::More;
        }
        if let Some(since) = self.options.since
            && time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return Step::More;
        }
        if self.options.timestamps && self.line_begins {
            self.push(time.as_bytes(), out);
            self.push(b" ", out);
        }
        self.push(text, out);
        if !partial {
            self.push(b"\n", out);
        }
        self.line_begins = !partial;
        if self.left == Some(0) { Step::Full } else { Step::More }
    }

    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let room = self.left.map_or(bytes.len(), |left| bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        out.extend_from_slice(&bytes[..room]);
        if let Some(left) = &mut self.left {
            *left -= room as u64;
        }
    }
}

/// Time, stream, whether the line goes on in the next entry, text.
fn parse(entry: &[u8]) -> Option<(&str, Stream, bool, &[u8])> {
    let mut parts = entry.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let tags = parts.next()?;
    let partial = tags.split(|byte| *byte == b':').next()? == b"P";
    Some((time, stream, partial, parts.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn line(second: u32, stream: &str, tag: &str, text: &str) -> String {
        format!("2026-01-01T00:00:{second:02}.000000001Z {stream} {tag} {text}\n")
    }

    fn sample() -> Vec<String> {
        vec![
            line(1, "stdout", "F", "line 1"),
            line(2, "stdout", "F", "line 2"),
            line(3, "stdout", "P", "par"),
            line(4, "stdout", "F", "tial"),
            line(5, "stderr", "F", "err"),
            line(6, "stdout", "P", "noeol"),
        ]
    }

    fn all(path: &Path, options: LogOptions) -> String {
        let mut reader = Reader::open(path, options).unwrap();
        drain(&mut reader)
    }

    fn drain(reader: &mut Reader) -> String {
        let mut out = Vec::new();
        while reader.step(&mut out).unwrap() == Step::More {}
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Reads the sample, spread over files in every way.
    #[track_caller]
    fn check(options: &LogOptions, expect: &str) {
        let entries = sample();
        for cut in 0..=entries.len() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("0.log");
            std::fs::write(&path, entries[cut..].concat()).unwrap();
            if cut > 0 {
                std::fs::write(directory.path().join("0.log.1"), entries[1.min(cut)..cut].concat()).unwrap();
                std::fs::write(directory.path().join("0.log.2"), entries[..1].concat()).unwrap();
            }
            assert_eq!(all(&path, options.clone()), expect, "cut at {cut}");
        }
    }

    #[test]
    fn options() {
        let none = LogOptions::default();
        check(&none, "line 1\nline 2\npartial\nerr\nnoeol");
        let tail = |lines| LogOptions { tail_lines: Some(lines), ..LogOptions::default() };
        check(&tail(0), "");
        check(&tail(1), "noeol");
        check(&tail(2), "err\nnoeol");
        check(&tail(6), "line 1\nline 2\npartial\nerr\nnoeol");
        check(&tail(100), "line 1\nline 2\npartial\nerr\nnoeol");
        check(&LogOptions { limit_bytes: Some(10), ..none.clone() }, "line 1\nlin");
        check(&LogOptions { limit_bytes: Some(7), ..none.clone() }, "line 1\n");
        check(&LogOptions { stream: Some(Stream::Stderr), ..none.clone() }, "err\n");
        check(&LogOptions { stream: Some(Stream::Stdout), ..none.clone() }, "line 1\nline 2\npartial\nnoeol");
        let since = |text: &str| LogOptions { since: Some(text.parse().unwrap()), ..LogOptions::default() };
        check(&since("2026-01-01T00:00:05Z"), "err\nnoeol");
        check(&since("2027-01-01T00:00:00Z"), "");
        check(
            &LogOptions { timestamps: true, tail_lines: Some(4), ..none },
            "2026-01-01T00:00:03.000000001Z partial\n2026-01-01T00:00:05.000000001Z err\n2026-01-01T00:00:06.000000001Z noeol",
        );
    }

    #[test]
    fn a_log_is_followed_through_rotations() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let rotated = |index: u32| directory.path().join(format!("0.log.{index}"));
        let mut reader = Reader::open(&path, LogOptions::default()).unwrap();
        assert_eq!(drain(&mut reader), "", "not there yet");
        let mut file = File::create(&path).unwrap();
        file.write_all(line(1, "stdout", "F", "a").as_bytes()).unwrap();
        assert_eq!(drain(&mut reader), "a\n");
        file.write_all(&line(2, "stdout", "F", "b").as_bytes()[..20]).unwrap();
        assert_eq!(drain(&mut reader), "", "half an entry");
        file.write_all(&line(2, "stdout", "F", "b").as_bytes()[20..]).unwrap();
        std::fs::rename(&path, rotated(1)).unwrap();
        assert_eq!(drain(&mut reader), "b\n");
        std::fs::write(&path, line(3, "stdout", "F", "c")).unwrap();
        std::fs::rename(rotated(1), rotated(2)).unwrap();
        std::fs::rename(&path, rotated(1)).unwrap();
        std::fs::write(&path, line(4, "stdout", "F", "d")).unwrap();
        assert_eq!(drain(&mut reader), "c\nd\n");
    }

    #[test]
    fn what_is_not_a_log_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(
            &path,
            b"garbage\n\xff\xfe \n\n2026 stdout\n2026-01-01T00:00:01Z stdout F ok\n2026 stdin F x\nunfinished",
        )
        .unwrap();
        assert_eq!(all(&path, LogOptions::default()), "ok\n");
        assert_eq!(super::super::tail(&path).unwrap(), "ok\n");
        assert_eq!(super::super::tail(&directory.path().join("none")).unwrap(), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_tail_is_the_end_of_the_whole(texts in prop::collection::vec("[a-z]{0,1500}", 0..120), lines in 0_u64..150) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("0.log");
            let entries: String = texts.iter().map(|text| line(1, "stdout", "F", text)).collect();
            std::fs::write(&path, entries).unwrap();
            let skip = texts.len().saturating_sub(usize::try_from(lines).unwrap());
            let expect: String = texts[skip..].iter().map(|text| format!("{text}\n")).collect();
            prop_assert_eq!(all(&path, LogOptions { tail_lines: Some(lines), ..LogOptions::default() }), expect);
        }
    }
}
