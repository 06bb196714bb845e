//! Brings a container's output from the cluster into the caller's log, each line once however often the connection breaks
//! or the caller begins anew: the time that the cluster gave the last line says how far it came.

use std::path::Path;
use std::time::Duration;

use futures::AsyncReadExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio::sync::watch;

use super::pod::MAIN;
use super::state::{Stage, stage};
use crate::log::{LogWriter, Stream};
use crate::resume;
use crate::runtime::nanos;
use crate::spec::LogSpec;

/// Waits between attempts while the cluster is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How much of a log's end is looked at for its last line.
const TAIL: u64 = 1 << 20;
/// A longer line is taken in parts; an interruption within it repeats a part of it.
const LONGEST_LINE: usize = 512 * 1024;
/// The longest time stamp.
const LONGEST_STAMP: usize = 64;

/// How far the log came: the time of the last line, and how many there are with this time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    time: i128,
    lines: u32,
}

/// Follows a container from where its log ends. The answer turns true once everything was copied.
pub(super) fn spawn(api: Api<Pod>, name: String, spec: LogSpec) -> watch::Receiver<bool> {
    let (done, finished) = watch::channel(false);
    tokio::spawn(async move {
        if let Err(error) = run(&api, &name, spec).await {
            tracing::warn!(pod = name, %error, "log not followed");
        }
        let _ = done.send(true);
    });
    finished
}

async fn run(api: &Api<Pod>, name: &str, spec: LogSpec) -> std::io::Result<()> {
    let path = spec.path.clone();
    let mark = tokio::task::spawn_blocking(move || resume(&path)).await.map_err(std::io::Error::other)??;
    let mut lines = Lines { mark, ..Lines::default() };
    let mut writer = LogWriter::open(spec)?;
    let mut wait = RETRY.0;
    // Whether it was seen to have ended before the current reading began: then that was all.
    let mut ended = false;
    loop {
        let before = lines.mark;
        lines.begin();
        let whole = match copy(api, name, !ended, &mut lines, &mut writer).await {
            Ok(()) if ended => break,
            Ok(()) => true,
            Err(kube::Error::Api(status)) if status.code == 404 => break,
            // What is left of it cannot be read any more.
            Err(kube::Error::Api(_)) if ended => break,
            Err(_) => false,
        };
        match api.get_opt(name).await {
            Ok(Some(pod)) => ended = matches!(stage(&pod), Stage::Ended(_)),
            Ok(None) => break,
            Err(_) => {}
        }
        if before != lines.mark {
            wait = RETRY.0;
        }
        if !(ended && whole) {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }
    lines.end(&mut writer);
    writer.sync();
    Ok(())
}

/// Copies what comes after the mark.
async fn copy(
    api: &Api<Pod>,
    name: &str,
    follow: bool,
    lines: &mut Lines,
    writer: &mut LogWriter,
) -> Result<(), kube::Error> {
    // The API knows whole seconds, and a client that rounds up would lose lines.
    let second = i64::try_from(lines.mark.time.div_euclid(1_000_000_000)).unwrap_or(0);
    let params = LogParams {
        container: Some(MAIN.to_owned()),
        follow,
        timestamps: true,
        since_time: Timestamp::from_second(second).ok().filter(|_| lines.mark.time > 0),
        ..LogParams::default()
    };
    let stream = api.log_stream(name, &params).await?;
    let mut stream = std::pin::pin!(stream);
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(length) => lines.take(&buffer[..length], writer),
            Err(error) => return Err(kube::Error::ReadEvents(error)),
        }
    }
}

/// Takes the time stamps off the lines, and leaves out those that were taken before.
#[derive(Default)]
struct Lines {
    mark: Mark,
    /// Where this reading began, and how many lines with that time it met.
    from: Mark,
    met: u32,
    /// The current line, or what of it was not written yet, with its time stamp at first.
    line: Vec<u8>,
    /// Once a part of the current line was written: its time. `Err`: it is left out.
    part: Option<Result<i128, ()>>,
}

impl Lines {
    /// The stream begins anew with the second of the last line.
    fn begin(&mut self) {
        (self.from, self.met) = (self.mark, 0);
        self.line.clear();
        self.part = None;
    }

    fn take(&mut self, mut bytes: &[u8], writer: &mut LogWriter) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&bytes[..=end]);
            bytes = &bytes[end + 1..];
            self.write(writer, true);
        }
        self.line.extend_from_slice(bytes);
        if self.line.len() > LONGEST_LINE {
            self.write(writer, false);
        }
    }

    /// Nothing more will come: a line without an end is one too.
    fn end(&mut self, writer: &mut LogWriter) {
        if !self.line.is_empty() {
            self.write(writer, true);
        }
        writer.flush_partial(self.mark.time);
    }

    fn write(&mut self, writer: &mut LogWriter, ends: bool) {
        let line = std::mem::take(&mut self.line);
        let (time, text) = match self.part.take() {
            Some(Ok(time)) => (Ok(time), &line[..]),
            Some(Err(())) => (Err(()), &line[..]),
            None => {
                let end = line.iter().take(LONGEST_STAMP).position(|byte| matches!(byte, b' ' | b'\n'));
                let stamp = end.and_then(|end| nanos(std::str::from_utf8(&line[..end]).ok()?).map(|time| (time, end)));
                match stamp {
                    // An empty line may lack the space after its time.
                    Some((time, end)) if line[end] == b'\n' => (self.decide(time), &line[end..]),
                    Some((time, end)) => (self.decide(time), &line[end + 1..]),
                    // No line of the log: the kubelet says so when it has no log any more, in the log's place.
                    None => (Err(()), &line[..]),
                }
            }
        };
        if let Ok(time) = time {
            writer.write(Stream::Stdout, text, time);
            if ends && time >= self.mark.time {
                let lines = if time == self.mark.time { self.mark.lines + 1 } else { 1 };
                self.mark = Mark { time, lines };
            }
        }
        self.part = (!ends).then_some(time);
    }

    fn decide(&mut self, time: i128) -> Result<i128, ()> {
        if time < self.from.time {
            return Err(());
        }
        if time == self.from.time {
            self.met += 1;
            if self.met <= self.from.lines {
                return Err(());
            }
        }
        Ok(time)
    }
}

/// How far the log at `path` came. What was written of a line without its end is cut off: it comes again.
fn resume(path: &Path) -> std::io::Result<Mark> {
    resume::resume(path, TAIL, |tail| {
        let mut whole = resume::whole_lines(tail);
        // Entries of a line that did not end.
        while let Some((begin, ..)) = last_entry(&tail[..whole]).filter(|(_, tag, _)| *tag != b"F") {
            whole = begin;
        }
        let (mut mark, mut end) = (Mark::default(), whole);
        while let Some((begin, tag, time)) = last_entry(&tail[..end]) {
            end = begin;
            match time {
                Some(time) if mark.lines == 0 => mark = Mark { time, lines: 1 },
                Some(time) if time == mark.time => mark.lines += u32::from(tag == b"F"),
                _ => break,
            }
        }
        (whole, (mark.lines > 0).then_some(mark))
    })
}

/// The last entry of a text that ends with one: where it begins, its tag, its time.
fn last_entry(text: &[u8]) -> Option<(usize, &[u8], Option<i128>)> {
    let body = text.strip_suffix(b"\n")?;
    let begin = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut words = body[begin..].splitn(4, |byte| *byte == b' ');
    let time = words.next().and_then(|word| nanos(std::str::from_utf8(word).ok()?));
    let tag = words.nth(1).unwrap_or_default();
    Some((begin, tag, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2027-01-01T00:00:00.1Z one\n2027-01-01T00:00:00.2Z two\n2027-01-01T00:00:00.2Z \n\
                       2027-01-01T00:00:00.2Z two too\n2027-01-01T00:00:01.123456789Z last\n";

    fn spec(path: &Path) -> LogSpec {
        LogSpec { path: path.to_owned(), max_bytes: 1 << 20, max_files: 2 }
    }

    fn text(path: &Path) -> String {
        let content = std::fs::read_to_string(path).unwrap();
        content.lines().map(|line| format!("{}\n", line.splitn(4, ' ').nth(3).unwrap_or_default())).collect()
    }

    /// Wherever the connection breaks, and whether or not the caller begins anew there, each line is written once.
    #[test]
    fn each_line_once() {
        let dir = tempfile::tempdir().unwrap();
        for anew in [false, true] {
            for cut in 0..=LOG.len() {
                let path = dir.path().join(format!("{anew}-{cut}"));
                let mut lines = Lines { mark: resume(&path).unwrap(), ..Lines::default() };
                let mut writer = LogWriter::open(spec(&path)).unwrap();
                lines.begin();
                for piece in LOG.as_bytes()[..cut].chunks(7) {
                    lines.take(piece, &mut writer);
                }
                if anew {
                    writer = LogWriter::open(spec(&path)).unwrap();
                    lines = Lines { mark: resume(&path).unwrap(), ..Lines::default() };
                }
                lines.begin();
                for piece in LOG.as_bytes().chunks(3) {
                    lines.take(piece, &mut writer);
                }
                lines.end(&mut writer);
                assert_eq!(text(&path), "one\ntwo\n\ntwo too\nlast\n", "cut at {cut}, anew: {anew}");
            }
        }
    }

    #[test]
    fn lines_without_an_end_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let stamp = "2027-01-01T00:00:00.100000000Z";
        let log = format!("{stamp} a\n{stamp} {}b", "x".repeat(40_000));
        for _ in 0..3 {
            let mut lines = Lines { mark: resume(&path).unwrap(), ..Lines::default() };
            assert!(lines.mark == Mark::default() || lines.mark.lines == 1, "{:?}", lines.mark);
            let mut writer = LogWriter::open(spec(&path)).unwrap();
            lines.begin();
            lines.take(log.as_bytes(), &mut writer);
            lines.end(&mut writer);
        }
        let content = std::fs::read_to_string(&path).unwrap();
        assert_eq!(content.matches('b').count(), 1);
        assert!(content.ends_with("xb\n") && content.lines().last().unwrap().contains(" stdout P "), "no line break");
    }

    #[test]
    fn what_has_no_time_was_not_said_by_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut lines = Lines::default();
        let mut writer = LogWriter::open(spec(&path)).unwrap();
        let gone = "unable to retrieve container logs for docker://0a1b";
        for log in [LOG, gone, "2027-01-01T00:00"] {
            lines.begin();
            lines.take(log.as_bytes(), &mut writer);
        }
        lines.end(&mut writer);
        assert_eq!(text(&path), "one\ntwo\n\ntwo too\nlast\n");
    }

    #[test]
    fn very_long_lines_are_taken_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut lines = Lines::default();
        let mut writer = LogWriter::open(LogSpec { max_bytes: 1 << 30, ..spec(&path) }).unwrap();
        let log = format!("2027-01-01T00:00:00Z {}\n2027-01-01T00:00:01Z b\n", "x".repeat(3 * LONGEST_LINE));
        for piece in log.as_bytes().chunks(10_000) {
            lines.take(piece, &mut writer);
            assert!(lines.line.len() <= LONGEST_LINE + 10_000);
        }
        let content = std::fs::read_to_string(&path).unwrap();
        assert_eq!(content.matches('x').count(), 3 * LONGEST_LINE);
        assert_eq!(content.lines().filter(|line| line.contains(" F ")).count(), 2);
    }
}
