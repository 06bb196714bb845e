//! A Pod's log from the other cluster, each line once however often the connection breaks.

use std::io::Write;

use futures::AsyncReadExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use kubetask_core::cluster::Spec;
use kubetask_core::task::AGENT_CONTAINER;

use super::{Pauses, connect, words};

/// The longest time stamp that is looked for at the beginning of a line.
const STAMP_MAX: usize = 64;

/// Prints the agent's log of this Pod to its end.
pub(super) async fn print(spec: &Spec, namespace: &str, pod: &str) {
    let mut lines = Lines::default();
    let mut pauses = Pauses::default();
    loop {
        let Ok(client) = connect(spec).await else {
            pauses.pause().await;
            continue;
        };
        let api: Api<Pod> = Api::namespaced(client, namespace);
        let params = LogParams {
            follow: true,
            timestamps: true,
            container: Some(AGENT_CONTAINER.to_owned()),
            since_time: lines.since(),
            ..LogParams::default()
        };
        match api.log_stream(pod, &params).await {
            Ok(stream) => {
                lines.resume();
                let before = lines.last;
                let clean = copy(stream, &mut lines).await;
                if lines.last != before {
                    pauses.reset();
                }
                // A stream that ends in order may have ended because the server did.
                if clean && is_over(&api, pod).await {
                    return;
                }
            }
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(_) if is_over(&api, pod).await => return,
            Err(_) => {}
        }
        pauses.pause().await;
    }
}

/// Whether nothing more will be written.
async fn is_over(api: &Api<Pod>, pod: &str) -> bool {
    match api.get_opt(pod).await {
        Ok(Some(pod)) => words::agent_ended(&pod),
        Ok(None) => true,
        Err(_) => false,
    }
}

async fn copy(stream: impl futures::AsyncBufRead, lines: &mut Lines) -> bool {
    let mut stream = std::pin::pin!(stream);
    let mut buffer = vec![0; 16 << 10];
    let mut out = Vec::new();
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return true,
            Ok(read) => {
                lines.take(buffer.get(..read).unwrap_or_default(), &mut out);
                let mut stdout = std::io::stdout().lock();
                // Nobody reads: the agent goes on all the same.
                let _ = stdout.write_all(&out).and_then(|()| stdout.flush());
                out.clear();
            }
            Err(_) => return false,
        }
    }
}

/// Takes the time stamps off the lines, and leaves out those that were printed before.
#[derive(Default)]
struct Lines {
    /// The time of the last line that was printed.
    last: Option<Timestamp>,
    /// How many lines of that time were printed.
    at_last: usize,
    /// After an interruption: how many lines of that time are still to be left out.
    to_skip: usize,
    /// The beginning of a line, up to the end of its time stamp.
    stamp: Vec<u8>,
    /// What is done with the rest of the line.
    rest: Rest,
    /// Bytes of the current line that were printed.
    partial: usize,
    /// After an interruption within a line: how many bytes of it were printed.
    resumed: Option<usize>,
    /// Bytes still to be left out of the current line.
    skip_bytes: usize,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// The line's time is not known yet.
    #[default]
    Unknown,
    Print,
    Skip,
}

impl Lines {
    /// From when on the log is wanted again: the API knows whole seconds, and a client that rounds up would lose lines.
    fn since(&self) -> Option<Timestamp> {
        self.last.map(|last| {
            let seconds = last.as_nanosecond().div_euclid(1_000_000_000);
            i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(last)
        })
    }

    /// The stream begins anew, with the second of the last line.
    fn resume(&mut self) {
        self.to_skip = self.at_last;
        self.resumed = None;
        if self.rest == Rest::Print {
            // It comes again; its beginning was printed.
            self.to_skip = self.to_skip.saturating_sub(1);
            self.resumed = Some(self.partial);
        }
        self.stamp.clear();
        self.rest = Rest::Unknown;
    }

    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.rest == Rest::Unknown {
                bytes = self.take_stamp(bytes);
                continue;
            }
            let end = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
            let (line, more) = bytes.split_at(end);
            if self.rest == Rest::Print {
                let known = self.skip_bytes.min(line.len());
                self.skip_bytes -= known;
                out.extend_from_slice(line.get(known..).unwrap_or_default());
                self.partial += line.len();
            }
            if line.ends_with(b"\n") {
                self.rest = Rest::Unknown;
                self.partial = 0;
                self.skip_bytes = 0;
            }
            bytes = more;
        }
    }

    /// Takes bytes of a time stamp; once it is whole, decides about the line.
    fn take_stamp<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = bytes.iter().position(|b| matches!(b, b' ' | b'\n'));
        let (part, more) = bytes.split_at(end.unwrap_or(bytes.len()));
        self.stamp.extend_from_slice(part);
        let Some(separator) = more.first().filter(|_| end.is_some()) else {
            if self.stamp.len() > STAMP_MAX {
                self.rest = Rest::Skip;
                self.stamp.clear();
            }
            return more;
        };
        let time = std::str::from_utf8(&self.stamp).ok().and_then(|text| text.parse::<Timestamp>().ok());
        // Lines without a time are no lines of the log. The kubelet says so when it has no log any more, in the log's place.
        self.rest = time.map_or(Rest::Skip, |time| self.decide(time));
        self.stamp.clear();
        // The end of an empty line is left for the line; a space is the separator.
        if *separator == b' ' { more.get(1..).unwrap_or_default() } else { more }
    }

    fn decide(&mut self, time: Timestamp) -> Rest {
        match self.last {
            Some(last) if time < last => Rest::Skip,
            Some(last) if time == last && self.to_skip > 0 => {
                self.to_skip -= 1;
                Rest::Skip
            }
            Some(last) if time == last => {
                match self.resumed.take() {
                    Some(printed) => self.skip_bytes = printed,
                    None => self.at_last += 1,
                }
                Rest::Print
            }
            _ => {
                self.last = Some(time);
                self.at_last = 1;
                self.to_skip = 0;
                self.resumed = None;
                Rest::Print
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(lines: &mut Lines, text: &str, piece: usize) -> String {
        let mut out = Vec::new();
        for bytes in text.as_bytes().chunks(piece) {
            lines.take(bytes, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_once_in_pieces_of_any_size() {
        let log = "2027-01-01T00:00:00.1Z one\n2027-01-01T00:00:00.2Z two\n2027-01-01T00:00:00.2Z \n\
                   2027-01-01T00:00:00.2Z two too\n2027-01-01T00:00:01.123456789Z last\n";
        for piece in 1..=log.len() {
            for cut in 0..=3 {
                let mut lines = Lines::default();
                let first: String = log.split_inclusive('\n').take(cut).collect();
                let mut got = taken(&mut lines, &first, piece);
                lines.resume();
                got += &taken(&mut lines, log, piece);
                assert_eq!(got, "one\ntwo\n\ntwo too\nlast\n", "pieces of {piece}, cut after {cut}");
            }
        }
    }

    #[test]
    fn a_connection_may_break_anywhere() {
        let log = "2027-01-01T00:00:00.1Z one\n2027-01-01T00:00:00.2Z two\n2027-01-01T00:00:00.2Z two too\n";
        for cut in 0..=log.len() {
            let mut lines = Lines::default();
            let mut got = taken(&mut lines, &log[..cut], 7);
            lines.resume();
            got += &taken(&mut lines, log, 3);
            assert_eq!(got, "one\ntwo\ntwo too\n", "cut at {cut}");
        }
    }

    #[test]
    fn it_is_asked_for_from_the_beginning_of_the_second() {
        let mut lines = Lines::default();
        assert_eq!(lines.since(), None);
        taken(&mut lines, "2027-01-01T00:00:00.9Z late\n", 100);
        assert_eq!(lines.since(), Some("2027-01-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn what_has_no_time_was_not_said_by_the_agent() {
        let gone = "unable to retrieve container logs for docker://0a1b";
        let log = format!("2027-01-01T00:00:00.1Z one\n{gone}\n\n2027-01-01T00:00:00.2Z two\n{}", "x".repeat(500));
        for piece in [1, 7, 1000] {
            let mut lines = Lines::default();
            let mut got = taken(&mut lines, &log, piece);
            lines.resume();
            got += &taken(&mut lines, gone, piece);
            assert_eq!(got, "one\ntwo\n", "pieces of {piece}");
        }
    }
}
