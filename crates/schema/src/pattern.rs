//! Regular expressions of schemas: Go's RE2 syntax, run by the `regex` crate, which descends from it.

use regex::{Regex, RegexBuilder};

/// Most memory that one compiled pattern may take, so that `a{1000}{1000}` is refused and not built.
const SIZE_LIMIT: usize = 4 << 20;

/// Compiles a pattern as Go's `regexp.Compile` does.
///
/// # Errors
/// The error in Go's words, e.g. ``error parsing regexp: missing closing ]: `[` ``.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&to_rust(pattern))
        .size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| format!("error parsing regexp: {}", go_words(pattern, &error)))
}

/// The two dialects differ in little: `\z`/`\Z`, `\C`, classes of Perl that are ASCII in Go and Unicode here, and
/// `[` or `&&`, `--`, `~~` inside a class, which mean themselves in Go.
fn to_rust(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    let mut class_position: Option<usize> = None;
    while let Some(c) = chars.next() {
        if let Some(position) = class_position.as_mut() {
            *position += 1;
        }
        match c {
            '\\' => match chars.next() {
                Some('Q') if class_position.is_none() => literal(&mut chars, &mut out),
                Some(class @ ('d' | 'D' | 's' | 'S' | 'w' | 'W')) => out.push_str(ascii_class(class)),
                Some(boundary @ ('b' | 'B')) if class_position.is_none() => {
                    out.push_str(if boundary == 'b' { r"(?-u:\b)" } else { r"(?-u:\B)" });
                }
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                }
                None => out.push('\\'),
            },
            '[' if class_position.is_none() => {
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
                class_position = Some(0);
            }
            '[' if chars.peek() == Some(&':') => out.push('['),
            '[' => out.push_str("\\["),
            ']' if class_position.is_some_and(|position| position > 1) && !out.ends_with(':') => {
                class_position = None;
                out.push(']');
            }
            '&' | '~' if class_position.is_some() => {
                out.push('\\');
                out.push(c);
            }
            '-' if class_position.is_some() && chars.peek() == Some(&'-') => out.push_str("\\-"),
            _ => out.push(c),
        }
    }
    out
}

/// What Go's Perl classes match: ASCII only.
fn ascii_class(class: char) -> &'static str {
    match class {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        'w' => "[0-9A-Za-z_]",
        _ => "[^0-9A-Za-z_]",
    }
}

/// Copies the text between `\Q` and `\E`, escaped.
fn literal(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            return;
        }
        out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }
}

fn go_words(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let said = text.rsplit("error: ").next().unwrap_or(&text).trim();
    let all = format!("`{pattern}`");
    if said.contains("unclosed character class") {
        let from = pattern.rfind('[').unwrap_or_default();
        return format!("missing closing ]: `{}`", &pattern[from..]);
    }
    if said.contains("unclosed group") {
        return format!("missing closing ): {all}");
    }
    if said.contains("unopened group") {
        return format!("unexpected ): {all}");
    }
    if said.contains("repetition operator missing expression") {
        let operator = pattern.chars().find(|c| matches!(c, '*' | '+' | '?')).unwrap_or('*');
        return format!("missing argument to repetition operator: `{operator}`");
    }
    if said.contains("look-around") {
        let from = pattern.find("(?").unwrap_or_default();
        return format!(
            "invalid or unsupported Perl syntax: `{}`",
            pattern[from..].chars().take(3).collect::<String>()
        );
    }
    if said.contains("escape sequence") || said.contains("backreference") {
        let from = pattern.find('\\').unwrap_or_default();
        return format!("invalid escape sequence: `{}`", pattern[from..].chars().take(2).collect::<String>());
    }
    if said.contains("exceeds size limit") || said.contains("size limit") {
        return format!("expression too large: {all}");
    }
    format!("{said}: {all}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_what_go_matches() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(compile(pattern).unwrap().is_match(text), expect, "{pattern} on {text}");
        };
        check("^[a-z]+-[0-9]+$", "ab-1", true);
        check("^[a-z]+-[0-9]+$", "AB-1", false);
        check(r"^\d+$", "٣", false);
        check(r"^\d+$", "3", true);
        check(r"^[\d\w.-]+$", "a-3._", true);
        check("^[[a]+$", "[a", true);
        check("^[a&&b]+$", "&", true);
        check(r"^\Qa.b\E$", "a.b", true);
        check(r"^\Qa.b\E$", "axb", false);
        check("^[[:alpha:]]+$", "abc", true);
        check("^[[:alpha:]0]+$", "ab0", true);
        check(r"^[^]a]+$", "b", true);
        check(r"\bfoo\b", "a foo b", true);
        check("^(?i)abc$", "ABC", true);
        check("^é+$", "éé", true);
    }

    #[test]
    fn errors_are_in_gos_words() {
        let check = |pattern: &str, expect: &str| {
            assert_eq!(compile(pattern).unwrap_err(), format!("error parsing regexp: {expect}"), "{pattern}");
        };
        check("([", "missing closing ]: `[`");
        check("(a", "missing closing ): `(a`");
        check("a)", "unexpected ): `a)`");
        check("*a", "missing argument to repetition operator: `*`");
        check("(?=a)", "invalid or unsupported Perl syntax: `(?=`");
        check("(a{1000}){1000}", "expression too large: `(a{1000}){1000}`");
    }
}
