//! How container runtimes write times and reasons, whoever passes them on: a Docker daemon or a cluster's node. Pure.

/// The reason of a failed start, in the words that node and local engine use.
pub(crate) fn words(message: &str) -> String {
    let told = ["unable to start container process: ", "failed to create shim task: ", "OCI runtime create failed: "];
    let from = told.iter().find_map(|word| message.find(word).map(|at| (at, *word)));
    let text = match from {
        Some((at, "unable to start container process: ")) => &message[at..],
        Some((at, word)) => &message[at + word.len()..],
        None => message,
    };
    let known =
        [": unknown", ": OCI runtime attempted to invoke a command that was not found", ": OCI permission denied"];
    known.iter().find_map(|end| text.strip_suffix(end)).unwrap_or(text).trim().to_owned()
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
        check(
            "runc: runc create failed: unable to start container process: exec: \"/x\": stat /x: no such file or directory: OCI \
             runtime attempted to invoke a command that was not found",
            "unable to start container process: exec: \"/x\": stat /x: no such file or directory",
        );
        check("something else", "something else");
    }
}
