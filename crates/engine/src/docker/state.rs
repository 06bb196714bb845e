//! What the daemon tells of a container. Pure.

use serde_json::Value;

use super::create::{ID_LABEL, LOG_LABEL, SCOPE_LABEL};
use crate::spec::{ContainerId, ContainerState, Exit, LogSpec};

/// A container as the daemon describes it.
pub(super) struct Inspected(pub(super) Value);

impl Inspected {
    fn status(&self) -> &str {
        self.0["State"]["Status"].as_str().unwrap_or_default()
    }

    /// Whether it was made and not started, and nothing went wrong: starting it was interrupted.
    pub(super) fn never_started(&self) -> bool {
        matches!(self.status(), "created" | "configured" | "initialized") && self.error().is_none()
    }

    /// Whether it runs.
    pub(super) fn running(&self) -> bool {
        matches!(self.status(), "running" | "paused" | "restarting" | "stopping")
    }

    /// Why it did not start.
    fn error(&self) -> Option<&str> {
        self.0["State"]["Error"].as_str().filter(|error| !error.is_empty())
    }

    /// Whether it has a terminal.
    pub(super) fn tty(&self) -> bool {
        self.0["Config"]["Tty"] == true
    }

    /// Where its log goes.
    pub(super) fn log(&self) -> Option<LogSpec> {
        serde_json::from_str(self.0["Config"]["Labels"][LOG_LABEL].as_str()?).ok()
    }

    /// The state; `None` where it is not one of this engine.
    pub(super) fn state(&self, scope: &str) -> Option<ContainerState> {
        let labels = self.0["Config"]["Labels"].as_object()?;
        let text = |name: &str| labels.get(name).and_then(Value::as_str);
        if text(SCOPE_LABEL) != Some(scope) {
            return None;
        }
        let id = ContainerId(text(ID_LABEL)?.to_owned());
        let own = [SCOPE_LABEL, LOG_LABEL, ID_LABEL];
        let labels = labels.iter().filter(|(name, _)| !own.contains(&name.as_str()));
        let labels =
            labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
        let state = &self.0["State"];
        let pid = state["Pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let time = |name: &str| state[name].as_str().and_then(nanos);
        let started = time("StartedAt").filter(|time| *time > 0);
        Some(ContainerState {
            id,
            labels,
            pid,
            started_at_nanos: started.or_else(|| self.0["Created"].as_str().and_then(nanos)).unwrap_or(0),
            exit: (!self.running()).then(|| self.exit(time("FinishedAt"))),
        })
    }

    fn exit(&self, finished: Option<i128>) -> Exit {
        let state = &self.0["State"];
        let finished_at_nanos =
            finished.filter(|time| *time > 0).or_else(|| self.0["Created"].as_str().and_then(nanos)).unwrap_or(0);
        let began = state["StartedAt"].as_str().and_then(nanos).is_some_and(|time| time > 0);
        if let Some(error) = self.error().filter(|_| !began) {
            let error = Some(words(error));
            return Exit { code: 128, signal: None, oom_killed: false, finished_at_nanos, error };
        }
        let code = state["ExitCode"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(255);
        Exit {
            code,
            // The daemon only has the code, in which signals are counted as shells count them.
            signal: (129..=159).contains(&code).then(|| code - 128),
            oom_killed: state["OOMKilled"] == true,
            finished_at_nanos,
            error: None,
        }
    }
}

/// The daemon's reason for a failed start, in the words that node and local engine use.
pub(crate) fn words(message: &str) -> String {
    let told = ["unable to start container process: ", "failed to create shim task: ", "OCI runtime create failed: "];
    let from = told.iter().find_map(|word| message.find(word).map(|at| (at, *word)));
    let text = match from {
        Some((at, "unable to start container process: ")) => &message[at..],
        Some((at, word)) => &message[at + word.len()..],
        None => message,
    };
    text.strip_suffix(": unknown").unwrap_or(text).trim().to_owned()
}

/// Nanoseconds since the epoch of a time such as `2026-01-02T03:04:05.678901234Z` or with an offset.
pub(crate) fn nanos(text: &str) -> Option<i128> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("", rest),
    };
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let offset = match zone {
        "Z" => 0,
        zone => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60)
        }
    };
    // Days since the epoch, with years that begin in March.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(i128::from(seconds) * 1_000_000_000 + digits.parse::<i128>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, expect: Option<i128>| assert_eq!(nanos(text), expect, "{text}");
        check("1970-01-01T00:00:00Z", Some(0));
        check("2026-01-01T00:00:00.5Z", Some(1_767_225_600_500_000_000));
        check("2024-02-29T12:30:15.000000001+02:00", Some(1_709_202_615_000_000_001));
        check("0001-01-01T00:00:00Z", Some(-62_135_596_800_000_000_000));
        for bad in
            ["", "2026", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00.5", "ä026-01-01T00:00:00Z"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn reasons_of_failed_starts() {
        let check = |message: &str, expect: &str| assert_eq!(words(message), expect);
        check(
            "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: \
             exec: \"x\": executable file not found in $PATH: unknown",
            "unable to start container process: exec: \"x\": executable file not found in $PATH",
        );
        check("something else", "something else");
    }
}
