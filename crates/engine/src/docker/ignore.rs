//! `.dockerignore`: which files of a build context stay where they are. The rules are those of Docker's own client: paths
//! from the context's root, `*`, `?`, `[…]`, `**`, `!` for exceptions, and the last pattern that matches decides. What lies in
//! a directory that is left out is left out, too, unless an exception names it.

use std::path::Path;

/// The patterns of a file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Vec<u8>,
    exception: bool,
}

impl Ignore {
    /// Reads the patterns that hold for a build: those beside its description (`NAME.dockerignore`), else those of the
    /// context. A file that is not there has none.
    pub(super) fn of(context: &Path, dockerfile: &Path) -> std::io::Result<Self> {
        let mut beside = dockerfile.as_os_str().to_owned();
        beside.push(".dockerignore");
        for path in [context.join(beside), context.join(".dockerignore")] {
            match std::fs::read(path) {
                Ok(text) => return Ok(Self::parse(&String::from_utf8_lossy(&text))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self::default())
    }

    fn parse(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let rules = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).filter_map(|line| {
            let (exception, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let pattern = clean(pattern);
            (!pattern.is_empty()).then(|| Rule { pattern: pattern.into_bytes(), exception })
        });
        Self { rules: rules.collect() }
    }

    /// Whether a path, relative to the context, stays out.
    pub(super) fn leaves_out(&self, path: &str) -> bool {
        let mut out = false;
        for rule in &self.rules {
            // Only what would change the answer has to be looked at.
            if rule.exception == out && matches_or_parent(&rule.pattern, path) {
                out = !rule.exception;
            }
        }
        out
    }

    /// Whether something below a directory that is left out may be taken after all.
    pub(super) fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.exception)
    }
}

/// A path without what says nothing: `/a/./b/../c/` is `a/c`.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn matches_or_parent(pattern: &[u8], path: &str) -> bool {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    ends.into_iter().any(|end| path.as_bytes().get(..end).is_some_and(|part| matches(pattern, part)))
}

/// Whether the whole of `text` is what the pattern says. Remembers the last `*` and the last `**` only, so that no pattern takes
/// long.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows does not fit: after the star, and one more of the text.
    let mut star: Option<(usize, usize)> = None;
    let mut stars: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') if pattern.get(p + 1) == Some(&b'*') => {
                p += 2;
                // `**/a` is `a`, too.
                if pattern.get(p) == Some(&b'/') && (p == 2 || pattern.get(p - 3) == Some(&b'/')) {
                    p += 1;
                }
                (star, stars) = (None, Some((p, t)));
                continue;
            }
            Some(b'*') => {
                p += 1;
                star = Some((p, t));
                continue;
            }
            None if t == text.len() => return true,
            Some(_) if t < text.len() => one(&pattern[p..], text[t]),
            _ => None,
        };
        if let Some(length) = step {
            p += length;
            t += 1;
            continue;
        }
        // A single star takes no slash; then only the double one may take more.
        match (star, stars) {
            (Some((after, from)), _) if from < text.len() && text[from] != b'/' => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (_, Some((after, from))) if from < text.len() => {
                (star, stars) = (None, Some((after, from + 1)));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Whether a character is what the pattern begins with, and how much of the pattern says so.
fn one(pattern: &[u8], c: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => (c != b'/').then_some(1),
        b'\\' if pattern.len() > 1 => (pattern[1] == c).then_some(2),
        b'[' => class(pattern, c),
        literal => (*literal == c).then_some(1),
    }
}

fn class(pattern: &[u8], c: u8) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some(b'^' | b'!'));
    let first = 1 + usize::from(negated);
    let (mut at, mut found) = (first, false);
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            break;
        }
        let high = match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                at += 2;
                *high
            }
            _ => low,
        };
        found |= (low..=high).contains(&c);
        at += 1;
    }
    (found != negated && c != b'/').then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, expect) in [
            ("a", "a", true),
            ("a", "b/a", false),
            ("a", "a/b", true),
            ("/a/", "a", true),
            ("*/temp*", "x/temporary.txt", true),
            ("*/temp*", "x/y/temp", false),
            ("*/*/temp*", "x/y/temp", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("**/*.go", "x.go", true),
            ("**/*.go", "a/b/x.go", true),
            ("**/*.go", "a/b/x.gone", false),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**", "a/b", true),
            ("a/**", "ab", false),
            ("**", "a/b", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[", "[", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("*.md", "README.md", true),
            ("./a/../b", "b", true),
        ] {
            assert_eq!(Ignore::parse(pattern).leaves_out(path), expect, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let ignore = Ignore::parse("# what is built\n\n*.md\n!README*.md\nREADME-secret.md\ntarget\n!target/keep\n");
        let out: Vec<bool> = ["a.md", "README.md", "README-secret.md", "target/x", "target/keep", "src/main.rs"]
            .map(|path| ignore.leaves_out(path))
            .into();
        assert_eq!(out, [true, false, true, true, false, false]);
        assert!(ignore.has_exceptions() && !Ignore::parse("a").has_exceptions());
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = "*a".repeat(200);
        let text = "a".repeat(20_000);
        assert!(!matches(format!("**{pattern}b").as_bytes(), text.as_bytes()));
    }
}
