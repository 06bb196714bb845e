//! Functions on text, by characters. What makes text pays for its size before it is made.

use super::budget::Budget;
use super::value::{Outcome, Val, fail, no_such_overload};

pub(super) fn call<'v>(name: &str, args: &[Val<'v>], budget: &mut Budget) -> Option<Outcome<Val<'v>>> {
    if name == "join" {
        return Some(join(args, budget));
    }
    let text = args.first()?.as_text()?;
    if let Err(over) = budget.pay_for_size(text.len()) {
        return Some(Err(over));
    }
    Some(match (name, &args[1..]) {
        ("contains", [part]) => search(part, |part| text.contains(part)),
        ("startsWith", [part]) => search(part, |part| text.starts_with(part)),
        ("endsWith", [part]) => search(part, |part| text.ends_with(part)),
        ("lowerAscii", []) => Ok(Val::text(text.to_ascii_lowercase())),
        ("upperAscii", []) => Ok(Val::text(text.to_ascii_uppercase())),
        ("trim", []) => Ok(Val::text(text.trim())),
        ("reverse", []) => Ok(Val::text(text.chars().rev().collect::<String>())),
        ("charAt", [Val::Int(at)]) => char_at(text, *at),
        ("substring", [Val::Int(from)]) => substring(text, *from, None),
        ("substring", [Val::Int(from), Val::Int(to)]) => substring(text, *from, Some(*to)),
        ("indexOf", [Val::Text(part)]) => index_of(text, part.as_str(), Some(0)),
        ("indexOf", [Val::Text(part), Val::Int(from)]) => index_of(text, part.as_str(), usize::try_from(*from).ok()),
        ("lastIndexOf", [Val::Text(part)]) => last_index_of(text, part.as_str(), None),
        ("lastIndexOf", [Val::Text(part), Val::Int(to)]) => last_index_of(text, part.as_str(), Some(*to)),
        ("replace", [Val::Text(from), Val::Text(to)]) => replace(text, from.as_str(), to.as_str(), -1, budget),
        ("replace", [Val::Text(from), Val::Text(to), Val::Int(limit)]) => {
            replace(text, from.as_str(), to.as_str(), *limit, budget)
        }
        ("split", [Val::Text(by)]) => split(text, by.as_str(), -1, budget),
        ("split", [Val::Text(by), Val::Int(limit)]) => split(text, by.as_str(), *limit, budget),
        _ => return None,
    })
}

fn search<'v>(part: &Val<'v>, found: impl FnOnce(&str) -> bool) -> Outcome<Val<'v>> {
    part.as_text().map_or_else(no_such_overload, |part| Ok(Val::Bool(found(part))))
}

fn length(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

fn char_at<'v>(text: &str, at: i64) -> Outcome<Val<'v>> {
    if at < 0 || at > length(text) {
        return fail(format!("index out of range: {at}"));
    }
    let found = usize::try_from(at).ok().and_then(|at| text.chars().nth(at));
    Ok(Val::text(found.map(String::from).unwrap_or_default()))
}

fn substring<'v>(text: &str, from: i64, to: Option<i64>) -> Outcome<Val<'v>> {
    let length = length(text);
    let to = to.unwrap_or(length);
    if from < 0 || to < from || to > length {
        return fail(format!("index out of range: {from}, {to}"));
    }
    let (from, count) = (usize::try_from(from).unwrap_or_default(), usize::try_from(to - from).unwrap_or_default());
    Ok(Val::text(text.chars().skip(from).take(count).collect::<String>()))
}

/// Byte position of a character; the end for the position behind the last one.
fn byte_of(text: &str, at: usize) -> Option<usize> {
    text.char_indices().map(|(byte, _)| byte).chain([text.len()]).nth(at)
}

fn char_of(text: &str, byte: usize) -> Val<'static> {
    Val::Int(length(&text[..byte]))
}

fn index_of<'v>(text: &str, part: &str, from: Option<usize>) -> Outcome<Val<'v>> {
    let Some(start) = from.and_then(|from| byte_of(text, from)) else { return fail("index out of range") };
    Ok(text[start..].find(part).map_or(Val::Int(-1), |at| char_of(text, start + at)))
}

fn last_index_of<'v>(text: &str, part: &str, to: Option<i64>) -> Outcome<Val<'v>> {
    let end = match to {
        None => text.len(),
        Some(to) => match usize::try_from(to).ok().and_then(|to| byte_of(text, to)) {
            Some(byte) => text.len().min(byte + part.len()),
            None => return fail("index out of range"),
        },
    };
    let end = (0..=end).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
    Ok(text[..end].rfind(part).map_or(Val::Int(-1), |at| char_of(text, at)))
}

fn replace<'v>(text: &str, from: &str, to: &str, limit: i64, budget: &mut Budget) -> Outcome<Val<'v>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = text.matches(from).take(limit).count();
    budget.pay_for_size(text.len() + count.saturating_mul(to.len()))?;
    Ok(Val::text(text.replacen(from, to, limit)))
}

fn split<'v>(text: &str, by: &str, limit: i64, budget: &mut Budget) -> Outcome<Val<'v>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Val::list(Vec::new()));
    }
    let parts: Vec<&str> = if by.is_empty() {
        let head = text.char_indices().take(limit.saturating_sub(1)).map(|(at, c)| &text[at..at + c.len_utf8()]);
        let mut parts: Vec<&str> = head.collect();
        let used: usize = parts.iter().map(|p| p.len()).sum();
        if used < text.len() {
            parts.push(&text[used..]);
        }
        parts
    } else {
        text.splitn(limit, by).collect()
    };
    budget.pay(u64::try_from(parts.len()).unwrap_or(u64::MAX))?;
    Ok(Val::list(parts.into_iter().map(Val::text).collect()))
}

fn join<'v>(args: &[Val<'v>], budget: &mut Budget) -> Outcome<Val<'v>> {
    let (items, separator) = match args {
        [list] => (list.items(), ""),
        [list, Val::Text(separator)] => (list.items(), separator.as_str()),
        _ => return no_such_overload(),
    };
    let Some(items) = items else { return no_such_overload() };
    let mut out = String::new();
    for index in 0..items.len() {
        let item = items.get(index);
        let Some(text) = item.as_ref().and_then(Val::as_text) else { return no_such_overload() };
        budget.pay_for_size(text.len() + separator.len())?;
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(text);
    }
    Ok(Val::text(out))
}
