//! `--repo . "prompt"`: the value of an option that may go without one stands behind `=`, or it is taken for an argument.

use clap::{Command, CommandFactory};

use crate::args::Cli;

/// What was probably meant, where the words of a refused command line have such an option and a value behind it.
pub(crate) fn tip(words: &[String]) -> Option<String> {
    let mut command = Cli::command();
    for word in words {
        if let Some(inner) = command.find_subcommand(word) {
            command = inner.clone();
        }
    }
    let (option, value) = words.windows(2).find_map(|pair| match pair {
        [option, value] if takes_equals(&command, option) && !value.starts_with('-') => Some((option, value)),
        _ => None,
    })?;
    Some(format!("the value of {option} stands behind `=`: {option}={value}"))
}

fn takes_equals(command: &Command, word: &str) -> bool {
    let Some(name) = word.strip_prefix("--") else { return false };
    command.get_arguments().any(|arg| arg.is_require_equals_set() && arg.get_long() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_behind_the_option() {
        let tip = |line: &str| tip(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let meant = tip("run --agent a --repo . fix").unwrap();
        assert!(meant.ends_with("--repo=."), "{meant}");
        assert!(tip("--context c changes t --apply dir").unwrap().ends_with("--apply=dir"));
        assert_eq!(tip("run --repo=. --carry -x fix it"), None);
        assert_eq!(tip("run --agent . fix it"), None);
        assert_eq!(tip("logs --repo ."), None);
    }
}
