//! Schemas written by hand, for fields whose rule is the same in many places.

use schemars::{Schema, SchemaGenerator, json_schema};

/// An absolute, clean path: no `..`, `.`, doubled or trailing slash, no `:` (a mount path may not hold one).
pub fn path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 2,
        "maxLength": 512,
        "x-kubernetes-validations": [{
            "rule": "self.startsWith('/') && !self.endsWith('/') && !self.contains('//') && !self.contains(':') && !self.contains('/../') && !self.contains('/./') && !self.endsWith('/..') && !self.endsWith('/.')",
            "message": "must be an absolute, clean path without `..`, such as /workspace/task.md",
        }],
    })
}

/// Labels or annotations.
pub fn string_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 262144},
    })
}

/// An IANA time zone or a cron expression is only known to be right by who computes with it; the schema keeps
/// its length and its alphabet.
pub fn schedule(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "x-kubernetes-validations": [{
            "rule": "self.startsWith('@') || self.matches(r'^\\s*\\S+\\s+\\S+\\s+\\S+\\s+\\S+\\s+\\S+\\s*$')",
            "message": "must be a cron expression of five fields, such as \"0 9 * * *\", or @hourly, @daily, @weekly, @monthly, @yearly",
        }],
    })
}
