//! Values as messages of Kubernetes print them: validation sees internal types there, whose JSON has the names of Go's
//! fields, in their order, with every absent one.
//!
//! Main function: [`text`]. Which fields there are stands in `internal.txt`.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

const TABLE: &str = include_str!("internal.txt");

/// Types refer to each other, never to themselves; this is for a table that is wrong.
const DEEPEST: usize = 32;

struct Field {
    /// What is printed; empty for the metadata of a template, which are printed as they are, without a name.
    name: &'static str,
    /// Where the value is.
    path: String,
    form: Form,
}

enum Form {
    Nullable,
    /// A scalar, with what is printed when it is absent.
    Scalar(&'static str),
    Struct(&'static str),
    Pointer(&'static str),
    List(&'static str),
    Embedded(&'static str),
    Metadata,
}

fn types() -> &'static HashMap<&'static str, Vec<Field>> {
    static TYPES: OnceLock<HashMap<&'static str, Vec<Field>>> = OnceLock::new();
    TYPES.get_or_init(|| {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.filter_map(|line| line.split_once(": "));
        lines.map(|(name, fields)| (name, fields.split(' ').map(field).collect())).collect()
    })
}

fn field(text: &'static str) -> Field {
    if let Some(type_) = text.strip_prefix('<') {
        return Field { name: "", path: String::new(), form: Form::Embedded(type_) };
    }
    if let Some(path) = text.strip_prefix('@') {
        return Field { name: "", path: path.to_owned(), form: Form::Metadata };
    }
    let (name, type_) = text.split_once(':').unwrap_or((text, ""));
    let (name, path) = match name.split_once('@') {
        Some((name, path)) => (name, path.to_owned()),
        None => (name, published(name)),
    };
    let form = match type_ {
        "" => Form::Nullable,
        scalar if scalar.starts_with('"') || matches!(scalar, "0" | "false") => Form::Scalar(scalar),
        list if list.starts_with('[') => Form::List(list.trim_matches(['[', ']'])),
        pointer if pointer.starts_with('?') => Form::Pointer(pointer.trim_start_matches('?')),
        name => Form::Struct(name),
    };
    Field { name, path, form }
}

/// `DNSPolicy` → `dnsPolicy`, `Name` → `name`, `TTY` → `tty`.
fn published(name: &str) -> String {
    let capitals = name.bytes().take_while(u8::is_ascii_uppercase).count();
    let lower = if capitals > 1 && capitals < name.len() { capitals - 1 } else { capitals };
    name[..lower].to_ascii_lowercase() + &name[lower..]
}

/// A published value as its internal type prints.
pub(crate) fn text(type_: &str, value: &Value) -> String {
    let mut out = String::new();
    if value.is_null() {
        return "null".to_owned();
    }
    write_struct(&mut out, type_, value, &Value::Null, 0);
    out
}

fn write_struct(out: &mut String, type_: &str, value: &Value, parent: &Value, depth: usize) {
    out.push('{');
    write_fields(out, type_, value, parent, depth);
    out.push('}');
}

fn write_fields(out: &mut String, type_: &str, value: &Value, parent: &Value, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    for field in types().get(type_).into_iter().flatten() {
        let comma = |out: &mut String| {
            if !out.ends_with('{') {
                out.push(',');
            }
        };
        if let Form::Embedded(type_) = field.form {
            write_fields(out, type_, value, parent, depth + 1);
            continue;
        }
        let member = match field.path.strip_prefix("../") {
            Some(path) => &parent[path],
            None => &value[&field.path],
        };
        if let Form::Metadata = field.form {
            for (name, member) in member.as_object().into_iter().flatten().filter(|(_, member)| !member.is_null()) {
                comma(out);
                out.push_str(&format!("{}:{}", Value::from(name.as_str()), go_json(member)));
            }
            continue;
        }
        comma(out);
        out.push_str(&format!("\"{}\":", field.name));
        match (&field.form, member) {
            (Form::Struct(type_), _) => write_struct(out, type_, member, value, depth + 1),
            (Form::Scalar(zero), Value::Null) => out.push_str(zero),
            (_, Value::Null) => out.push_str("null"),
            (Form::Pointer(type_), _) => write_struct(out, type_, member, value, depth + 1),
            (Form::List(type_), Value::Array(items)) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_struct(out, type_, item, value, depth + 1);
                }
                out.push(']');
            }
            (_, other) => out.push_str(&go_json(other)),
        }
    }
}

/// JSON as Go writes it: fit for HTML.
fn go_json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_as_published() {
        let pairs = [("DNSPolicy", "dnsPolicy"), ("Name", "name"), ("TTY", "tty"), ("HostIPC", "hostIPC")];
        for (go, json) in pairs.into_iter().chain([("SELinuxOptions", "seLinuxOptions"), ("FSGroup", "fsGroup")]) {
            assert_eq!(published(go), json);
        }
    }

    #[test]
    fn every_type_is_there() {
        for (name, fields) in types() {
            for field in fields {
                match field.form {
                    Form::Struct(t) | Form::Pointer(t) | Form::List(t) | Form::Embedded(t) => {
                        assert!(types().contains_key(t), "{t} of {name}");
                    }
                    Form::Nullable | Form::Scalar(_) | Form::Metadata => {}
                }
            }
        }
    }

    #[test]
    fn fields_that_moved_and_absent_ones() {
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a<b"});
        assert_eq!(
            text("RoleRef", &role),
            r#"{"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"a\u003cb"}"#
        );
        let spec = json!({"hostNetwork": true, "securityContext": {"runAsUser": 5}});
        let shown = text("PodSpec", &spec);
        assert!(shown.starts_with(r#"{"Volumes":null,"#), "{shown}");
        assert!(shown.contains(r#""SecurityContext":{"HostNetwork":true,"HostPID":false,"#), "{shown}");
        assert!(shown.contains(r#""RunAsUser":5,"RunAsGroup":null"#), "{shown}");
        let rule = json!({"action": "FailJob", "onPodConditions": [{"type": "X", "status": "True"}]});
        assert_eq!(
            text("PodFailurePolicyRule", &rule),
            r#"{"Action":"FailJob","OnExitCodes":null,"OnPodConditions":[{"Type":"X","Status":"True"}]}"#
        );
        assert_eq!(
            text("Probe", &json!({"tcpSocket": {"port": "web"}})),
            concat!(
                r#"{"Exec":null,"HTTPGet":null,"TCPSocket":{"Port":"web","Host":""},"GRPC":null,"InitialDelaySeconds":0,"#,
                r#""TimeoutSeconds":0,"PeriodSeconds":0,"SuccessThreshold":0,"FailureThreshold":0,"#,
                r#""TerminationGracePeriodSeconds":null}"#
            )
        );
    }
}
