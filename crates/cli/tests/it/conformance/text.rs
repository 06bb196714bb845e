//! What differs from run to run in plain text: times, ages, addresses, the width of columns.

use std::sync::LazyLock;

use regex::Regex;

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a regex")
}

macro_rules! patterns {
    ($($name:ident = $pattern:expr;)*) => {
        $(pub(super) static $name: LazyLock<Regex> = LazyLock::new(|| regex($pattern));)*
    };
}

patterns! {
    PLACE = r"\$\{(\w+)\}";
    CONFLICTS = r"(?s)^(Apply failed with \d+ conflicts?: )(.*)$";
    CONFLICT = "conflicts? with \"";
    VERSION_OF_ITEM = r#""resourceVersion": "\d+""#;
    UUID = r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b";
    RFC3339 = r"\b20(?:2[4-9]|[3-9]\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(?:Z|[+-]\d\d:\d\d)";
    RFC1123 = r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} 20\d\d \d\d:\d\d:\d\d [+-]\d{4}";
    DIFF_TIME = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4}";
    IPV4 = r"\b\d{1,3}(?:\.\d{1,3}){3}\b";
    DURATION = r"^(?:\d+(?:ms|[smhdy])){1,2}$|^<invalid>$";
    KLOG = r"\b[EWIF]\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ [\w.]+\.go:\d+\]";
    CURRENT = r"(current: )\d+";
    VERSION_IN_JSON = r#"(\\*"resourceVersion\\*":\\*")\d+"#;
    VERSION_IN_YAML = r#"(resourceVersion: )"\d+""#;
    TOO_OLD = r"(too old resource version: )\d+ \(\d+\)";
    CONTAINER_ID = r"(?:containerd|docker|cri-o)://[0-9a-f]{64}";
    IMAGE_ID = r"sha256:[0-9a-f]{64}";
    DIFF_DIRECTORY = r"(LIVE|MERGED)-\d+";
    DISCARDED = r"<klog> Unknown stream id \d+, discarding message\n";
    AGE_HEADING = r"(?:^|\s)(?:AGE|DURATION|LAST SEEN|Age)(?:\s|$)";
    DURATION_LINE = r"^(Duration:\s+)\S+$";
    AGO = r"\((?:\d+[smhdy])+ ago\)";
    SEEN = r"^(?:\d+[smhdy])+ \(x(\d+) over .*\)$";
    RULE = r"^-{3,}$";
}

/// Times of our days; times that a scenario writes itself are older.
pub(super) fn times(text: &str) -> String {
    RFC3339
        .replace_all(text, |found: &regex::Captures<'_>| match found.get(1).map(|fraction| fraction.len()) {
            None => "<time>",
            Some(7) => "<microtime>",
            Some(_) => "<nanotime>",
        })
        .into_owned()
}

/// What any text may have in it.
pub(super) fn numbers(text: &str) -> String {
    let text = CURRENT.replace_all(text, "${1}<rv>");
    let text = VERSION_IN_JSON.replace_all(&text, "${1}<rv>");
    let text = TOO_OLD.replace_all(&text, "${1}<rv> (<rv>)");
    CONTAINER_ID.replace_all(&text, "<cid>").into_owned()
}

/// What kubectl prints.
pub(super) fn kubectl<'a>(text: &str, nodes: impl Iterator<Item = &'a String>, all_aged: bool) -> String {
    let text = RFC1123.replace_all(text, "<time>");
    let text = DIFF_TIME.replace_all(&text, "<time>");
    let text = KLOG.replace_all(&text, "<klog>");
    let text = DISCARDED.replace_all(&text, "");
    let text = IPV4.replace_all(&text, "<ip>");
    let text = IMAGE_ID.replace_all(&text, "<imageid>");
    let text = VERSION_IN_YAML.replace_all(&text, "${1}\"<rv>\"");
    let mut text = DIFF_DIRECTORY.replace_all(&text, "${1}-<n>").into_owned();
    for node in nodes {
        let whole = regex(&format!(r"\b{}\b", regex::escape(node)));
        text = whole.replace_all(&text, "<node>").into_owned();
    }
    let mut aged = all_aged;
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| {
            if AGE_HEADING.is_match(line) {
                aged = true;
            } else if line.trim().is_empty() && !all_aged {
                aged = false;
            }
            let line = if aged { ages(line) } else { line.to_owned() };
            let line = DURATION_LINE.replace(&line, "${1}<age>").into_owned();
            let line = squeeze(&line);
            if RULE.is_match(&line) { "---".to_owned() } else { line }
        })
        .collect();
    lines.join("\n")
}

/// Words that are durations.
fn ages(line: &str) -> String {
    let words = line.split_inclusive(char::is_whitespace).map(|piece| {
        let word = piece.trim_end();
        let (bare, closing) = word.strip_suffix(')').map_or((word, ""), |bare| (bare, ")"));
        if bare != "<invalid>" && DURATION.is_match(bare) {
            format!("<age>{closing}{}", &piece[word.len()..])
        } else {
            piece.to_owned()
        }
    });
    words.collect::<String>().replace("<invalid>", "<age>")
}

/// Columns as narrow as they go; nothing at the end.
fn squeeze(line: &str) -> String {
    let line = line.trim_end();
    let text = line.trim_start();
    let mut out = line[..line.len() - text.len()].to_owned();
    let mut blanks = String::new();
    for c in text.chars() {
        if c.is_whitespace() {
            blanks.push(c);
        } else {
            out.push_str(if blanks.chars().count() > 1 { "  " } else { &blanks });
            blanks.clear();
            out.push(c);
        }
    }
    out
}

/// Runs of lines that kubectl prints in no order, sorted.
pub(super) fn sort_blocks(text: &str) -> String {
    let is_item = |line: &str| line.starts_with("* ") || line.starts_with("- .");
    let mut lines: Vec<&str> = text.split('\n').collect();
    let mut start = 0;
    while start < lines.len() {
        let end = start + lines[start..].iter().take_while(|line| is_item(line)).count();
        lines[start..end].sort_unstable();
        start = end + 1;
    }
    lines.join("\n")
}

#[test]
fn kubectl_tables_lose_what_changes() {
    let table = "NAME   READY   AGE\na      1       5s\nb      0/1     3m2s\n\nx  5s\n";
    let none = std::collections::BTreeSet::new();
    assert_eq!(kubectl(table, none.iter(), false), "NAME  READY  AGE\na  1  <age>\nb  0/1  <age>\n\nx  5s\n");
    assert_eq!(
        times("2026-01-02T03:04:05Z 2026-01-02T03:04:05.123456Z 2019-01-02T03:04:05Z"),
        "<time> <microtime> 2019-01-02T03:04:05Z"
    );
    assert_eq!(sort_blocks("x\n* b\n* a\ny"), "x\n* a\n* b\ny");
}
