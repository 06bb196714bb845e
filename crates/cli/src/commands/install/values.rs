//! From files and `--set` to [`Values`].

use kubetask_core::deploy::{Values, merge};
use serde_json::{Map, Value};

use crate::error::{CommandError, CommandResult};
use crate::manifest::source;

/// Reads the files in order, then the single values; later ones win.
///
/// # Errors
/// When something is no value, or not one that is known.
pub(super) fn read(files: &[String], set: &[String]) -> CommandResult<Values> {
    let mut all = Value::Object(Map::new());
    for name in files {
        for source in source::read(name)? {
            let document = kubetask_yaml::read_one(&source.text, kubetask_yaml::Limits::default());
            let document = document
                .map_err(|e| CommandError::usage(format!("{}:{}:{}: {}", source.origin, e.line, e.column, e.kind)))?;
            if !document.value.is_object() {
                return Err(CommandError::usage(format!("{}: expected a map of values", source.origin)));
            }
            merge(&mut all, document.value);
        }
    }
    for entry in set {
        let (path, text) = entry
            .split_once('=')
            .filter(|(path, _)| !path.is_empty())
            .ok_or_else(|| CommandError::usage(format!("--set {entry}: expected NAME=VALUE")))?;
        let value = single(path, text)?;
        let nested =
            path.rsplit('.').fold(value, |inner, key| Value::Object(Map::from_iter([(key.to_owned(), inner)])));
        merge(&mut all, nested);
    }
    // The command creates the namespace, unless told otherwise; Helm has an option of its own for it.
    let mut values = Value::Object(Map::new());
    merge(&mut values, serde_json::json!({"namespace": {"create": true}}));
    merge(&mut values, all);
    Values::chosen(values)
        .map_err(|e| CommandError::usage(format!("values: {e}")).hint("docs/install.md lists what can be chosen"))
}

/// The value that is meant by what is written behind `--set NAME=`.
fn single(path: &str, text: &str) -> CommandResult<Value> {
    let defaults = serde_json::to_value(Values::default())?;
    let default = path.split('.').try_fold(&defaults, |inner, key| inner.get(key));
    let document = kubetask_yaml::read_one(text, kubetask_yaml::Limits::default());
    Ok(match document {
        // A tag 1.10 is no number, and an empty text no null.
        Ok(document) if !text.is_empty() && !default.is_some_and(Value::is_string) => document.value,
        _ => Value::String(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_values_are_read_as_yaml() {
        let set = ["replicas=3", "image.tag=v1", "namespace.create=false", "watchNamespace="].map(str::to_owned);
        let values = read(&[], &set).unwrap();
        assert_eq!((values.replicas, values.image.tag.as_str(), values.namespace.create), (3, "v1", false));
        assert!(read(&[], &[]).unwrap().namespace.create);
    }

    #[test]
    fn what_is_a_text_stays_as_it_is_written() {
        let read = |set: &str| read(&[], &[set.to_owned()]).unwrap();
        assert_eq!(read("image.tag=1.10").image.tag, "1.10");
        assert_eq!(read("image.tag=null").image.tag, "null");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let refused = |set: &str| read(&[], &[set.to_owned()]).unwrap_err().lines.join("");
        assert!(refused("replica=3").contains("unknown field `replica`"));
        assert_eq!(refused("replicas=many"), "values: replicas: invalid type: string \"many\", expected u32");
        assert!(refused("image.tags=v1").contains("image.tags: unknown field `tags`"));
        assert!(refused("replicas").contains("expected NAME=VALUE"));
    }
}
