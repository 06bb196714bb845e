//! The function libraries of Kubernetes that the `kube-cel` crate brings: URLs, addresses, quantities, versions, formats.
//!
//! A call is handed over as a tiny expression of its own, with its arguments as variables.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use kube_cel::KubeCelExt as _;
use kube_cel::cel;
use kube_cel::cel::common::ast::{CallExpr, Expr, IdedExpr};
use kube_cel::cel::objects::Key;

use super::budget::Budget;
use super::value::{Outcome, Text, Val, fail, no_such_overload};

static LIBRARY: LazyLock<cel::Context<'static>> = LazyLock::new(|| cel::Context::default().with_all());

/// Functions that are handed over. Those which could make much out of little are checked in [`guard`].
const FUNCTIONS: &[&str] = &[
    "url",
    "isURL",
    "getScheme",
    "getHost",
    "getHostname",
    "getPort",
    "getEscapedPath",
    "getQuery",
    "ip",
    "isIP",
    "ip.isCanonical",
    "family",
    "isLoopback",
    "isUnspecified",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isGlobalUnicast",
    "cidr",
    "isCIDR",
    "containsIP",
    "containsCIDR",
    "prefixLength",
    "masked",
    "quantity",
    "isQuantity",
    "isInteger",
    "asInteger",
    "asApproximateFloat",
    "sign",
    "add",
    "sub",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "semver",
    "isSemver",
    "major",
    "minor",
    "patch",
    "format",
    "string",
    "format.named",
    "format.dns1123Label",
    "format.dns1123Subdomain",
    "format.dns1035Label",
    "format.qualifiedName",
    "format.dns1123LabelPrefix",
    "format.dns1123SubdomainPrefix",
    "format.dns1035LabelPrefix",
    "format.labelValue",
    "format.uri",
    "format.uuid",
    "format.byte",
    "format.date",
    "format.datetime",
    "validate",
    "base64.encode",
    "base64.decode",
    "jsonpatch.escapeKey",
    "strings.quote",
    "math.greatest",
    "math.least",
    "math.ceil",
    "math.floor",
    "math.round",
    "math.trunc",
    "math.abs",
    "math.sign",
    "math.isNaN",
    "math.isInf",
    "math.isFinite",
    "math.bitAnd",
    "math.bitOr",
    "math.bitXor",
    "math.bitNot",
    "math.bitShiftLeft",
    "math.bitShiftRight",
    "math.sqrt",
    "slice",
    "sort",
    "flatten",
    "distinct",
    "first",
    "last",
    "lists.range",
];
const LIBRARIES: &[&str] = &["sets", "optional", "math", "base64", "format", "jsonpatch", "strings", "lists", "ip"];

/// Whether `name` can stand before the dot of a function's name.
pub(super) fn is_library(name: &str) -> bool {
    LIBRARIES.contains(&name)
}

/// Whether there is a function of that name here.
pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

/// Calls the function; the first argument of a method is its target.
pub(super) fn call<'v>(name: &str, is_method: bool, args: &[Val<'v>], budget: &mut Budget) -> Outcome<Val<'v>> {
    if !is_function(name) {
        return no_such_overload();
    }
    guard(name, args)?;
    let weight: usize = args.iter().map(Val::weight).sum();
    budget.pay_for_size(weight.saturating_add(20))?;
    if matches!(name, "distinct" | "sort") {
        budget.pay_for_size(weight.saturating_mul(weight))?;
    }
    let mut context = LIBRARY.new_inner_scope();
    let mut names = Vec::with_capacity(args.len());
    for (index, arg) in args.iter().enumerate() {
        let name = format!("a{index}");
        context.add_variable_from_value(name.clone(), to_foreign(arg)?);
        names.push(ident(name));
    }
    let (target, func_name) = match name.split_once('.') {
        Some((library, function)) => (Some(ident(library.to_owned())), function),
        None if is_method && !names.is_empty() => (Some(names.remove(0)), name),
        None => (None, name),
    };
    let call = CallExpr { func_name: func_name.to_owned(), target: target.map(Box::new), args: names };
    match cel::Value::resolve(&IdedExpr { id: 1, expr: Expr::Call(call) }, &context) {
        Ok(value) => Ok(from_foreign(value)),
        Err(cel::ExecutionError::FunctionError { message, .. }) => fail(message),
        Err(_) => no_such_overload(),
    }
}

fn ident(name: String) -> IdedExpr {
    IdedExpr { id: 1, expr: Expr::Ident(name) }
}

/// Refuses what would make something huge out of small arguments.
fn guard(name: &str, args: &[Val<'_>]) -> Outcome<()> {
    let has_huge_number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 3);
    match (name, args) {
        ("format", [format, ..]) if format.as_text().is_some_and(|f| f.contains('%') && has_huge_precision(f)) => {
            fail("format: precision is too large")
        }
        ("lists.range", [Val::Int(count)]) if *count > 10_000 => fail("lists.range: size exceeds limit"),
        ("quantity" | "isQuantity" | "semver" | "isSemver", [text, ..])
            if text.as_text().is_some_and(|t| t.len() > 256 || (t.contains(['e', 'E']) && has_huge_number(t))) =>
        {
            fail(format!("{name}: number is too long"))
        }
        _ => Ok(()),
    }
}

/// `%.1000f` makes a thousand digits; nobody needs more than 99.
fn has_huge_precision(format: &str) -> bool {
    format.split("%.").skip(1).any(|rest| rest.bytes().take_while(u8::is_ascii_digit).count() > 2)
}

fn to_foreign(value: &Val<'_>) -> Outcome<cel::Value> {
    Ok(match value {
        Val::Null => cel::Value::Null,
        Val::Bool(flag) => cel::Value::Bool(*flag),
        Val::Int(n) => cel::Value::Int(*n),
        Val::Uint(n) => cel::Value::UInt(*n),
        Val::Double(n) => cel::Value::Float(*n),
        Val::Text(text) => cel::Value::String(Arc::new(text.as_str().to_owned())),
        Val::Bytes(bytes) => cel::Value::Bytes(Arc::new(bytes.to_vec())),
        Val::Foreign(value) => value.clone(),
        Val::Timestamp(time) => cel::Value::String(Arc::new(time.to_string())),
        Val::Duration(nanos) => cel::Value::String(Arc::new(super::value::duration_text(*nanos))),
        _ => match (value.items(), value.entries()) {
            (Some(items), _) => {
                let items: Outcome<Vec<_>> = items.to_vec().iter().map(to_foreign).collect();
                cel::Value::List(Arc::new(items?))
            }
            (None, Some(entries)) => {
                let mut map = std::collections::HashMap::with_capacity(entries.len());
                for (key, value) in &entries {
                    let key = match key {
                        Val::Bool(flag) => Key::Bool(*flag),
                        Val::Int(n) => Key::Int(*n),
                        Val::Uint(n) => Key::Uint(*n),
                        Val::Text(text) => Key::String(Arc::new(text.as_str().to_owned())),
                        _ => return no_such_overload(),
                    };
                    map.insert(key, to_foreign(value)?);
                }
                cel::Value::Map(cel::objects::Map { map: Arc::new(map) })
            }
            (None, None) => return no_such_overload(),
        },
    })
}

fn from_foreign<'v>(value: cel::Value) -> Val<'v> {
    match value {
        cel::Value::Null => Val::Null,
        cel::Value::Bool(flag) => Val::Bool(flag),
        cel::Value::Int(n) => Val::Int(n),
        cel::Value::UInt(n) => Val::Uint(n),
        cel::Value::Float(n) => Val::Double(n),
        cel::Value::String(text) => Val::Text(Text::Made(text.as_str().into())),
        cel::Value::Bytes(bytes) => Val::Bytes(bytes.as_slice().into()),
        cel::Value::List(items) => Val::list(items.iter().cloned().map(from_foreign).collect()),
        cel::Value::Map(map) => {
            let entries = map.map.iter().map(|(key, value)| {
                let key = match key {
                    Key::Int(n) => Val::Int(*n),
                    Key::Uint(n) => Val::Uint(*n),
                    Key::Bool(flag) => Val::Bool(*flag),
                    Key::String(text) => Val::Text(Text::Made(text.as_str().into())),
                };
                (key, from_foreign(value.clone()))
            });
            Val::Map(std::rc::Rc::new(entries.collect()))
        }
        cel::Value::Opaque(ref opaque) if opaque.runtime_type_name() == "optional_type" => {
            match <&cel::objects::OptionalValue>::try_from(&value) {
                Ok(optional) => {
                    Val::Optional(optional.value().cloned().map(|inner| std::rc::Rc::new(from_foreign(inner))))
                }
                Err(_) => Val::Null,
            }
        }
        cel::Value::Timestamp(time) => {
            let nanos = i128::from(time.timestamp()) * 1_000_000_000 + i128::from(time.timestamp_subsec_nanos());
            Timestamp::from_nanosecond(nanos).map_or(Val::Null, Val::Timestamp)
        }
        cel::Value::Duration(span) => span.num_nanoseconds().map_or(Val::Null, Val::Duration),
        other => Val::Foreign(other),
    }
}
