//! The CRI log format: `<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>`, one entry a line.
//!
//! [`LogWriter`] takes raw output of two streams, cuts it into entries and keeps the files within their limits.
//! It never fails its caller: a full disk must not stop an agent, so what cannot be written is counted and reported in
//! the log itself once writing works again.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use crate::spec::LogSpec;

/// Longest text of one entry; a longer line becomes several `P` entries and a last `F` one, as containerd writes it.
pub(crate) const MAX_ENTRY: usize = 16 * 1024;

/// Which of the program's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Writes entries to the files of a [`LogSpec`].
pub(crate) struct LogWriter {
    spec: LogSpec,
    file: Option<File>,
    size: u64,
    /// Text of each stream after its last line break.
    pending: [Vec<u8>; 2],
    /// Entries of the current call, written at once.
    batch: Vec<u8>,
    lost_bytes: u64,
}

impl LogWriter {
    /// Opens (and creates) the current file; the directory is created too.
    pub(crate) fn open(spec: LogSpec) -> std::io::Result<Self> {
        if let Some(directory) = spec.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let (file, size) = open_append(&spec)?;
        Ok(Self { spec, file: Some(file), size, pending: [Vec::new(), Vec::new()], batch: Vec::new(), lost_bytes: 0 })
    }

    /// Takes output of `stream` read at `now` (nanoseconds since the epoch).
    pub(crate) fn write(&mut self, stream: Stream, mut data: &[u8], now: i128) {
        let time = timestamp(now);
        while !data.is_empty() {
            let (line, ends) = match data.iter().position(|&byte| byte == b'\n') {
                Some(end) => (&data[..end], true),
                None => (data, false),
            };
            data = &data[line.len() + usize::from(ends)..];
            self.push(stream, line, ends, &time);
        }
        self.write_batch();
    }

    /// Writes text that has no line break yet as a partial entry. Returns whether there was any.
    pub(crate) fn flush_partial(&mut self, now: i128) {
        let time = timestamp(now);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let text = std::mem::take(&mut self.pending[stream as usize]);
            if !text.is_empty() {
                format_entry(&mut self.batch, &time, stream, false, &text);
            }
        }
        self.write_batch();
    }

    /// Makes what was written outlast a power failure.
    pub(crate) fn sync(&self) {
        if let Some(file) = &self.file {
            let _ = file.sync_data();
        }
    }

    /// Whether text without a line break is being held back.
    pub(crate) fn has_partial(&self) -> bool {
        self.pending.iter().any(|text| !text.is_empty())
    }

    fn push(&mut self, stream: Stream, mut line: &[u8], ends: bool, time: &str) {
        let index = stream as usize;
        if ends && self.pending[index].is_empty() && line.len() <= MAX_ENTRY {
            return format_entry(&mut self.batch, time, stream, true, line);
        }
        let mut pending = std::mem::take(&mut self.pending[index]);
        while pending.len() + line.len() > MAX_ENTRY {
            let (head, rest) = line.split_at(MAX_ENTRY - pending.len());
            pending.extend_from_slice(head);
            format_entry(&mut self.batch, time, stream, false, &pending);
            pending.clear();
            line = rest;
        }
        pending.extend_from_slice(line);
        if ends {
            format_entry(&mut self.batch, time, stream, true, &pending);
            pending.clear();
        }
        self.pending[index] = pending;
    }

    /// Appends the batch, rotating between entries so that no file is larger than allowed by more than one entry.
    fn write_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            if self.size >= self.spec.max_bytes {
                self.rotate();
            }
            let room = usize::try_from(self.spec.max_bytes.saturating_sub(self.size)).unwrap_or(usize::MAX).max(1);
            let end = end_of_entries(rest, room);
            self.append(&rest[..end]);
            rest = &rest[end..];
        }
        self.batch = batch;
        self.batch.clear();
        self.batch.shrink_to(256 * 1024);
    }

    fn append(&mut self, entries: &[u8]) {
        if self.file.is_none() {
            match open_append(&self.spec) {
                Ok((file, size)) => (self.file, self.size) = (Some(file), size),
                Err(_) => return self.lost_bytes += entries.len() as u64,
            }
        }
        let Some(file) = &mut self.file else { return };
        if self.lost_bytes > 0 {
            let note = format!("[kubetask: {} bytes of output could not be written to the log]", self.lost_bytes);
            let mut entry = Vec::new();
            format_entry(&mut entry, &timestamp(now_nanos()), Stream::Stderr, true, note.as_bytes());
            if file.write_all(&entry).is_err() {
                return self.lost_bytes += entries.len() as u64;
            }
            self.size += entry.len() as u64;
            self.lost_bytes = 0;
        }
        match file.write_all(entries) {
            Ok(()) => self.size += entries.len() as u64,
            Err(_) => self.lost_bytes += entries.len() as u64,
        }
    }

    fn rotate(&mut self) {
        self.file = None;
        self.size = 0;
        let name = |index: u32| {
            let mut name = self.spec.path.clone().into_os_string();
            if index > 0 {
                name.push(format!(".{index}"));
            }
            PathBuf::from(name)
        };
        let oldest = self.spec.max_files.saturating_sub(1);
        if oldest == 0 {
            // One file only: it starts anew.
            let _ = std::fs::remove_file(name(0));
            return;
        }
        for index in (0..oldest).rev() {
            let _ = std::fs::rename(name(index), name(index + 1));
        }
    }
}

fn open_append(spec: &LogSpec) -> std::io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&spec.path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// Length of as many whole entries as fit into `room` bytes, at least one.
fn end_of_entries(batch: &[u8], room: usize) -> usize {
    if batch.len() <= room {
        return batch.len();
    }
    match batch[..room].iter().rposition(|&byte| byte == b'\n') {
        Some(end) => end + 1,
        None => batch.iter().position(|&byte| byte == b'\n').map_or(batch.len(), |end| end + 1),
    }
}

/// Appends one entry to `out`.
pub(crate) fn format_entry(out: &mut Vec<u8>, time: &str, stream: Stream, full: bool, text: &[u8]) {
    out.extend_from_slice(time.as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(if full { b" F " } else { b" P " });
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now_nanos() -> i128 {
    match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    }
}

/// RFC 3339 in UTC with nine digits of a second.
pub(crate) fn timestamp(nanos: i128) -> String {
    const DAY: i128 = 86_400;
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Days since 0000-03-01, in eras of 400 years: leap days fall at the end of such a year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn writer(max_bytes: u64, max_files: u32) -> (tempfile::TempDir, LogWriter) {
        let directory = tempfile::tempdir().unwrap();
        let spec = LogSpec { path: directory.path().join("logs/c.log"), max_bytes, max_files };
        let writer = LogWriter::open(spec).unwrap();
        (directory, writer)
    }

    fn read(writer: &LogWriter) -> String {
        String::from_utf8_lossy(&std::fs::read(&writer.spec.path).unwrap()).into_owned()
    }

    #[test]
    fn timestamps() {
        let check = |nanos: i128, expect: &str| assert_eq!(timestamp(nanos), expect);
        check(0, "1970-01-01T00:00:00.000000000Z");
        check(951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z");
        check(1_709_251_199_999_999_999, "2024-02-29T23:59:59.999999999Z");
        check(4_102_444_800_000_000_000, "2100-01-01T00:00:00.000000000Z");
        check(-1_000_000_000, "1969-12-31T23:59:59.000000000Z");
    }

    #[test]
    fn lines_and_partial_lines() {
        let (_directory, mut log) = writer(1 << 20, 2);
        log.write(Stream::Stdout, b"a\n\nb", 0);
        log.write(Stream::Stderr, b"e\n", 0);
        log.write(Stream::Stdout, b"c\nend", 0);
        assert!(log.has_partial());
        log.flush_partial(0);
        let at = "1970-01-01T00:00:00.000000000Z";
        let expect = format!("{at} stdout F a\n{at} stdout F \n{at} stderr F e\n{at} stdout F bc\n{at} stdout P end\n");
        assert_eq!(read(&log), expect);
    }

    #[test]
    fn rotation_keeps_whole_entries_and_few_files() {
        let (directory, mut log) = writer(200, 3);
        for index in 0..100 {
            log.write(Stream::Stdout, format!("line {index}\n").as_bytes(), 0);
        }
        let mut names: Vec<_> =
            std::fs::read_dir(directory.path().join("logs")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["c.log", "c.log.1", "c.log.2"]);
        assert!(read(&log).ends_with("line 99\n"));
        let older = std::fs::read_to_string(directory.path().join("logs/c.log.1")).unwrap();
        assert!(older.len() < 260 && older.ends_with('\n'), "{older}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Joining the entries' texts gives back what was written, however it was cut.
        #[test]
        fn nothing_is_lost(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..5)) {
            let (_directory, mut log) = writer(u64::MAX, 2);
            for chunk in &chunks {
                log.write(Stream::Stdout, chunk, 0);
            }
            log.flush_partial(0);
            let mut joined = Vec::new();
            for entry in std::fs::read(&log.spec.path).unwrap().split_inclusive(|&b| b == b'\n') {
                let text = &entry["1970-01-01T00:00:00.000000000Z stdout F ".len()..entry.len() - 1];
                prop_assert!(text.len() <= MAX_ENTRY);
                joined.extend_from_slice(text);
                if entry["1970-01-01T00:00:00.000000000Z stdout ".len()] == b'F' {
                    joined.push(b'\n');
                }
            }
            prop_assert_eq!(joined, chunks.concat());
        }
    }
}
