//! Ranges and factors of numbers.
//!
//! Kubernetes compares an integer with the bound cut to an integer, and a fraction with the bound as it is; its
//! messages show the bound that was compared.

use serde_json::{Number, Value};

use super::at::At;
use super::value::Found;
use crate::field::{Error, Path, go_float};
use crate::model::{Schema, Type};

pub(super) fn check(number: &Number, schema: &Schema, at: &At<'_>, found: &mut Found) {
    found.agreed += 2;
    let c = &schema.constraints;
    let integer = number.as_i64();
    let float = number.as_f64().unwrap_or(f64::NAN);
    let format = c.format.as_deref().unwrap_or_default();
    if !fits(integer, float, schema.type_, format) {
        let type_ = schema.type_.map_or("", Type::name);
        let suffix = if format.is_empty() { " (default format)".to_owned() } else { format!(" with format {format}") };
        found.push(Error::invalid(&Path::root(), "", format!("Checked value must be of type {type_}{suffix} in {at}")));
    }
    if let Some(factor) = c.multiple_of {
        multiple_of(integer, float, number, factor, at, found);
    }
    if let Some(max) = c.maximum {
        let (beyond, shown) = match integer {
            Some(n) => (n > cut(max) || (c.exclusive_maximum && n == cut(max)), cut(max).to_string()),
            None => (float > max || (c.exclusive_maximum && float >= max), go_float(max)),
        };
        if beyond {
            let words = if c.exclusive_maximum { "less than" } else { "less than or equal to" };
            out_of_range(number, words, &shown, at, found);
        }
    }
    if let Some(min) = c.minimum {
        let (beyond, shown) = match integer {
            Some(n) => (n < cut(min) || (c.exclusive_minimum && n == cut(min)), cut(min).to_string()),
            None => (float < min || (c.exclusive_minimum && float <= min), go_float(min)),
        };
        if beyond {
            let words = if c.exclusive_minimum { "greater than" } else { "greater than or equal to" };
            out_of_range(number, words, &shown, at, found);
        }
    }
}

fn out_of_range(number: &Number, words: &str, bound: &str, at: &At<'_>, found: &mut Found) {
    let detail = format!("{at} in body should be {words} {bound}");
    found.push(Error::invalid(&at.path(), Value::Number(number.clone()), detail));
}

fn multiple_of(integer: Option<i64>, float: f64, number: &Number, factor: f64, at: &At<'_>, found: &mut Found) {
    let (factor_is_good, is_multiple, shown) = match integer {
        Some(n) => {
            let factor = cut(factor);
            (factor > 0, n.checked_rem(factor).is_none_or(|rest| rest == 0), Value::from(factor))
        }
        None => {
            let quotient = if factor < 1.0 { 1.0 / factor * float } else { float / factor };
            (factor > 0.0, is_whole(quotient), Value::from(factor))
        }
    };
    let text = shown.as_f64().map_or_else(|| shown.to_string(), go_float);
    if !factor_is_good {
        let detail = format!("factor MultipleOf declared for {at} must be positive: {text}");
        found.push(Error::invalid(&at.path(), shown, detail));
    } else if !is_multiple {
        let detail = format!("{at} in body should be a multiple of {text}");
        found.push(Error::invalid(&at.path(), Value::Number(number.clone()), detail));
    }
}

/// Whether the number is one that type and format can hold.
fn fits(integer: Option<i64>, float: f64, type_: Option<Type>, format: &str) -> bool {
    let whole = |min: f64, max: f64| match integer {
        Some(n) => (n as f64) >= min && (n as f64) <= max,
        None => float.fract() == 0.0 && float >= min && float <= max,
    };
    match (type_, format) {
        (Some(Type::Integer), "int32") => whole(f64::from(i32::MIN), f64::from(i32::MAX)),
        (Some(Type::Integer), "uint32") => whole(0.0, f64::from(u32::MAX)),
        (Some(Type::Integer), "uint64") => integer.is_some_and(|n| n >= 0) || (integer.is_none() && whole(0.0, 1.8e19)),
        (Some(Type::Integer), _) => integer.is_some() || whole(-9.2e18, 9.2e18),
        (_, "float" | "float32") => float.abs() <= f64::from(f32::MAX),
        _ => true,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "cutting the bound is what Kubernetes does; the cast saturates")]
fn cut(bound: f64) -> i64 {
    bound as i64
}

/// Whether a float is a whole number, give or take what arithmetic loses.
pub(super) fn is_whole(value: f64) -> bool {
    const MAX: f64 = 9_007_199_254_740_991.0;
    if !value.is_finite() || value.abs() > MAX {
        return false;
    }
    let whole = value.trunc();
    let difference = (value - whole).abs();
    difference == 0.0 || (whole != 0.0 && difference / (value.abs() + whole.abs()) < 1e-9)
}
