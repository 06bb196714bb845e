//! Functions of CEL itself: sizes, conversions, times, optionals, regular expressions, and where the others live.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use jiff::tz::TimeZone;
use regex::Regex;

use super::budget::Budget;
use super::value::{Outcome, Val, duration_text, fail, no_such_overload, parse_timestamp};
use super::{foreign, lists, strings};
use crate::field::go_float;
use crate::format;

/// Functions that [`call`] knows itself; with those of the libraries they decide what a rule may name.
const OWN: &[&str] = &[
    "size",
    "type",
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "dyn",
    "duration",
    "timestamp",
    "matches",
    "find",
    "findAll",
    "contains",
    "startsWith",
    "endsWith",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "lowerAscii",
    "upperAscii",
    "replace",
    "split",
    "substring",
    "trim",
    "reverse",
    "isSorted",
    "sum",
    "min",
    "max",
    "sets.contains",
    "sets.intersects",
    "sets.equivalent",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "hasValue",
    "value",
    "or",
    "orValue",
    "optMap",
    "optFlatMap",
    "all",
    "exists",
    "existsOne",
    "exists_one",
    "transformList",
    "transformMap",
    "transformMapEntry",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
];

/// Whether there is a function of that name (with its library: `sets.contains`).
pub(super) fn is_known(name: &str) -> bool {
    OWN.contains(&name) || foreign::is_function(name)
}

/// Names that mean a type.
pub(super) fn type_constant(name: &str) -> Option<&'static str> {
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"]
        .into_iter()
        .find(|type_| *type_ == name)
}

/// Calls a function. `target` is what stands before the dot of a method.
pub(super) fn call<'v>(
    name: &str,
    target: Option<Val<'v>>,
    args: Vec<Val<'v>>,
    budget: &mut Budget,
) -> Outcome<Val<'v>> {
    let mut all = Vec::with_capacity(args.len() + 1);
    let is_method = target.is_some();
    all.extend(target);
    all.extend(args);
    if let Some(Val::Failed(text)) = all.iter().find(|v| matches!(v, Val::Failed(_))) {
        return fail(text.as_ref());
    }
    if let Some(result) = own(name, &all, budget) {
        return result;
    }
    if let Some(result) = strings::call(name, &all, budget) {
        return result;
    }
    if let Some(result) = lists::call(name, &all, budget) {
        return result;
    }
    foreign::call(name, is_method, &all, budget)
}

fn own<'v>(name: &str, args: &[Val<'v>], budget: &mut Budget) -> Option<Outcome<Val<'v>>> {
    Some(match (name, args) {
        ("size", [value]) => size(value),
        ("type", [value]) => Ok(Val::Type(value.type_name())),
        ("dyn", [value]) => Ok(value.clone()),
        ("bool", [value]) => match value {
            Val::Bool(flag) => Ok(Val::Bool(*flag)),
            Val::Text(text) => match text.as_str() {
                "true" | "True" | "TRUE" | "t" | "1" => Ok(Val::Bool(true)),
                "false" | "False" | "FALSE" | "f" | "0" => Ok(Val::Bool(false)),
                _ => fail("type conversion error from 'string' to 'bool'"),
            },
            _ => return None,
        },
        ("int", [value]) => to_int(value),
        ("uint", [value]) => to_uint(value),
        ("double", [value]) => to_double(value),
        ("string", [Val::Foreign(_)]) => return None,
        ("string", [value]) => to_text(value).map_or_else(no_such_overload, |text| Ok(Val::text(text))),
        ("bytes", [Val::Text(text)]) => Ok(Val::Bytes(text.as_str().as_bytes().into())),
        ("bytes", [Val::Bytes(bytes)]) => Ok(Val::Bytes(Rc::clone(bytes))),
        ("duration", [Val::Duration(n)]) => Ok(Val::Duration(*n)),
        ("duration", [Val::Text(text)]) => match format::go_duration(text.as_str()) {
            Some(nanos) => Ok(Val::Duration(nanos)),
            None => fail(format!("time: invalid duration {}", crate::field::go_quote(text.as_str()))),
        },
        ("timestamp", [Val::Timestamp(t)]) => Ok(Val::Timestamp(*t)),
        ("timestamp", [Val::Text(text)]) => match parse_timestamp(text.as_str()) {
            Some(time) => Ok(Val::Timestamp(time)),
            None => fail(format!("cannot parse {} as a timestamp", crate::field::go_quote(text.as_str()))),
        },
        ("timestamp", [Val::Int(seconds)]) => jiff::Timestamp::from_second(*seconds)
            .map_or_else(|_| fail("timestamp overflow"), |t| Ok(Val::Timestamp(t))),
        ("matches", [Val::Text(text), Val::Text(pattern)]) => {
            regex(text.as_str(), pattern.as_str(), budget, |regex| Val::Bool(regex.is_match(text.as_str())))
        }
        ("find", [Val::Text(text), Val::Text(pattern)]) => regex(text.as_str(), pattern.as_str(), budget, |regex| {
            Val::text(regex.find(text.as_str()).map_or("", |found| found.as_str()))
        }),
        ("findAll", [Val::Text(text), Val::Text(pattern), rest @ ..]) => {
            let limit = match rest {
                [] => usize::MAX,
                [Val::Int(limit)] => usize::try_from(*limit).unwrap_or(usize::MAX),
                _ => return Some(no_such_overload()),
            };
            regex(text.as_str(), pattern.as_str(), budget, |regex| {
                Val::list(regex.find_iter(text.as_str()).take(limit).map(|found| Val::text(found.as_str())).collect())
            })
        }
        ("optional.none", []) => Ok(Val::Optional(None)),
        ("optional.of", [value]) => Ok(Val::Optional(Some(Rc::new(value.clone())))),
        ("optional.ofNonZeroValue", [value]) => Ok(Val::Optional((!is_zero(value)).then(|| Rc::new(value.clone())))),
        ("hasValue", [Val::Optional(inner)]) => Ok(Val::Bool(inner.is_some())),
        ("value", [Val::Optional(inner)]) => {
            inner.as_ref().map_or_else(|| fail("optional.none() dereference"), |inner| Ok((**inner).clone()))
        }
        (_, [Val::Timestamp(time), rest @ ..]) if name.starts_with("get") => time_part(name, *time, rest),
        (_, [Val::Duration(nanos)]) if name.starts_with("get") => match name {
            "getHours" => Ok(Val::Int(nanos / 3_600_000_000_000)),
            "getMinutes" => Ok(Val::Int(nanos / 60_000_000_000)),
            "getSeconds" => Ok(Val::Int(nanos / 1_000_000_000)),
            "getMilliseconds" => Ok(Val::Int(nanos / 1_000_000)),
            _ => return None,
        },
        _ => return None,
    })
}

fn size<'v>(value: &Val<'v>) -> Outcome<Val<'v>> {
    let size = match value {
        Val::Text(text) => text.as_str().chars().count(),
        Val::Bytes(bytes) => bytes.len(),
        Val::Map(entries) => entries.len(),
        Val::Node(node) if node.value.is_object() => node.value.as_object().map_or(0, serde_json::Map::len),
        _ => match value.items() {
            Some(items) => items.len(),
            None => return no_such_overload(),
        },
    };
    Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn is_zero(value: &Val<'_>) -> bool {
    match value {
        Val::Null => true,
        Val::Bool(flag) => !flag,
        Val::Int(n) | Val::Duration(n) => *n == 0,
        Val::Uint(n) => *n == 0,
        Val::Double(n) => *n == 0.0,
        Val::Optional(inner) => inner.is_none(),
        other => matches!(size(other), Ok(Val::Int(0))),
    }
}

/// Runs `work` with the compiled pattern; a thread keeps the patterns it used last.
fn regex<'v>(text: &str, pattern: &str, budget: &mut Budget, work: impl FnOnce(&Regex) -> Val<'v>) -> Outcome<Val<'v>> {
    const KEPT: usize = 64;
    thread_local! {
        static PATTERNS: RefCell<HashMap<String, Option<Regex>>> = RefCell::default();
    }
    budget.pay_for_size((text.len() + 1).saturating_mul(1 + pattern.len() / 4))?;
    PATTERNS.with_borrow_mut(|patterns| {
        if !patterns.contains_key(pattern) {
            // Compiling costs about as much as thousands of steps.
            budget.pay(1000)?;
            if patterns.len() >= KEPT {
                patterns.clear();
            }
            patterns.insert(pattern.to_owned(), crate::pattern::compile(pattern).ok());
        }
        match patterns.get(pattern) {
            Some(Some(regex)) => Ok(work(regex)),
            _ => fail(format!("error parsing regexp: `{pattern}`")),
        }
    })
}

#[expect(clippy::cast_possible_truncation, reason = "guarded by the range check")]
fn to_int<'v>(value: &Val<'v>) -> Outcome<Val<'v>> {
    let result = match value {
        Val::Int(n) => Some(*n),
        Val::Uint(n) => i64::try_from(*n).ok(),
        Val::Double(n) => (n.abs() < 9.2e18).then_some(*n as i64),
        Val::Text(text) => match text.as_str().parse() {
            Ok(n) => Some(n),
            Err(_) => {
                return fail(format!(
                    "strconv.ParseInt: parsing {}: invalid syntax",
                    crate::field::go_quote(text.as_str())
                ));
            }
        },
        Val::Timestamp(time) => Some(time.as_second()),
        Val::Duration(nanos) => Some(*nanos),
        _ => return no_such_overload(),
    };
    result.map_or_else(|| fail("integer overflow"), |n| Ok(Val::Int(n)))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "guarded by the range check")]
fn to_uint<'v>(value: &Val<'v>) -> Outcome<Val<'v>> {
    let result = match value {
        Val::Int(n) => u64::try_from(*n).ok(),
        Val::Uint(n) => Some(*n),
        Val::Double(n) => (*n >= 0.0 && *n < 1.8e19).then_some(*n as u64),
        Val::Text(text) => text.as_str().parse().ok(),
        _ => return no_such_overload(),
    };
    result.map_or_else(|| fail("unsigned integer overflow"), |n| Ok(Val::Uint(n)))
}

fn to_double<'v>(value: &Val<'v>) -> Outcome<Val<'v>> {
    let result = match value {
        Val::Int(n) => Some(*n as f64),
        Val::Uint(n) => Some(*n as f64),
        Val::Double(n) => Some(*n),
        Val::Text(text) => text.as_str().parse().ok(),
        _ => return no_such_overload(),
    };
    result.map_or_else(|| fail("type conversion error from 'string' to 'double'"), |n| Ok(Val::Double(n)))
}

/// What `string()` makes of a value.
pub(super) fn to_text(value: &Val<'_>) -> Option<String> {
    Some(match value {
        Val::Text(text) => text.as_str().to_owned(),
        Val::Bool(flag) => flag.to_string(),
        Val::Int(n) => n.to_string(),
        Val::Uint(n) => n.to_string(),
        Val::Double(n) => go_float(*n),
        Val::Bytes(bytes) => String::from_utf8(bytes.to_vec()).ok()?,
        Val::Timestamp(time) => time.to_string(),
        Val::Duration(nanos) => duration_text(*nanos),
        _ => return None,
    })
}

fn time_part<'v>(name: &str, time: jiff::Timestamp, zone: &[Val<'v>]) -> Outcome<Val<'v>> {
    let zone = match zone {
        [] => TimeZone::UTC,
        [Val::Text(name)] => match time_zone(name.as_str()) {
            Some(zone) => zone,
            None => return fail(format!("unknown time zone {}", name.as_str())),
        },
        _ => return no_such_overload(),
    };
    let at = time.to_zoned(zone);
    Ok(Val::Int(match name {
        "getFullYear" => i64::from(at.year()),
        "getMonth" => i64::from(at.month()) - 1,
        "getDate" => i64::from(at.day()),
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDayOfWeek" => i64::from(at.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getHours" => i64::from(at.hour()),
        "getMinutes" => i64::from(at.minute()),
        "getSeconds" => i64::from(at.second()),
        "getMilliseconds" => i64::from(at.millisecond()),
        _ => return no_such_overload(),
    }))
}

/// A name of the time zone database, or an offset such as `+02:30`.
fn time_zone(name: &str) -> Option<TimeZone> {
    if name.is_empty() || name == "UTC" {
        return Some(TimeZone::UTC);
    }
    let unsigned = name.strip_prefix(['+', '-']).unwrap_or(name);
    if let Some((hours, minutes)) = unsigned.split_once(':') {
        let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
        let offset = jiff::tz::Offset::from_seconds(if name.starts_with('-') { -seconds } else { seconds }).ok()?;
        return Some(TimeZone::fixed(offset));
    }
    TimeZone::get(name).ok()
}
