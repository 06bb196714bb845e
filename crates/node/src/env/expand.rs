//! `$(NAME)` references in environment values, commands and arguments, with Kubernetes' rules:
//! `$$` is a dollar sign, and a reference that cannot be resolved stays as it is written.

/// `text` with every resolvable reference replaced.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('(') {
            match after.split_once(')') {
                Some((name, after)) => {
                    match lookup(name) {
                        Some(value) => out.push_str(&value),
                        None => {
                            out.push_str("$(");
                            out.push_str(name);
                            out.push(')');
                        }
                    }
                    rest = after;
                }
                None => {
                    out.push_str("$(");
                    rest = after;
                }
            }
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let got = expand(text, |name| match name {
            "A" => Some("one".to_owned()),
            "B" => Some("$(A)".to_owned()),
            "" => Some("empty".to_owned()),
            _ => None,
        });
        assert_eq!(got, expect, "{text}");
    }

    #[test]
    fn references() {
        check("$(A)", "one");
        check("x$(A)y$(A)", "xoneyone");
        check("$(NOPE)-$(A)", "$(NOPE)-one");
        check("$$(A)", "$(A)");
        check("$$$(A)", "$one");
        check("$$$$", "$$");
        check("$A ${A} $", "$A ${A} $");
        check("$(A", "$(A");
        check("$($(A)", "$($(A)");
        check("$(B)", "$(A)");
        check("$()", "empty");
        check("ü$(A)ü", "üoneü");
    }

    proptest! {
        #[test]
        fn text_without_dollars_is_untouched(text in "[^$]*") {
            prop_assert_eq!(expand(&text, |_| Some("x".to_owned())), text);
        }

        #[test]
        fn hostile_text_is_harmless(text in "[$()A]*") {
            let doubled = text.replace('$', "$$");
            prop_assert_eq!(expand(&doubled, |_| None), text);
        }
    }
}
