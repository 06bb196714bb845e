//! An OpenAPI v2 document in protobuf, which is the only form that Go's clients ask for.
//!
//! Messages and field numbers are those of `openapi_v2.Document`. What clients look at is there: definitions whole, and of
//! the paths the operations with their parameters and extensions.

use serde_json::{Map, Value};

/// The bytes of a document.
#[must_use]
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    out.message(2, &info);
    let mut paths = Message::default();
    for (path, item) in members(&document["paths"]) {
        paths.message(2, &named(path, &path_item(item)));
    }
    out.message(8, &paths);
    let mut definitions = Message::default();
    for (name, definition) in members(&document["definitions"]) {
        definitions.message(1, &named(name, &schema(definition)));
    }
    out.message(9, &definitions);
    for requirement in items(&document["security"]) {
        let mut schemes = Message::default();
        for (name, scopes) in members(requirement) {
            let mut list = Message::default();
            items(scopes).for_each(|scope| list.text(1, scope));
            schemes.message(1, &named(name, &list));
        }
        out.message(12, &schemes);
    }
    let mut schemes = Message::default();
    for (name, scheme) in members(&document["securityDefinitions"]) {
        let mut key = Message::default();
        for (field, member) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
            key.text(field, &scheme[member]);
        }
        schemes.message(1, &named(name, &wrapped(2, &key)));
    }
    if !schemes.0.is_empty() {
        out.message(13, &schemes);
    }
    out.0
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (method, field) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if item[method].is_object() {
            out.message(field, &operation(&item[method]));
        }
    }
    for parameter in items(&item["parameters"]) {
        out.message(9, &parameter_item(parameter));
    }
    out
}

fn operation(operation: &Value) -> Message {
    let mut out = Message::default();
    items(&operation["tags"]).for_each(|tag| out.text(1, tag));
    out.text(3, &operation["description"]);
    out.text(5, &operation["operationId"]);
    items(&operation["produces"]).for_each(|media| out.text(6, media));
    items(&operation["consumes"]).for_each(|media| out.text(7, media));
    items(&operation["parameters"]).for_each(|parameter| out.message(8, &parameter_item(parameter)));
    let mut responses = Message::default();
    for (code, response) in members(&operation["responses"]) {
        let mut inner = Message::default();
        inner.text(1, &response["description"]);
        if response["schema"].is_object() {
            inner.message(2, &wrapped(1, &schema(&response["schema"])));
        }
        responses.message(1, &named(code, &wrapped(1, &inner)));
    }
    out.message(9, &responses);
    items(&operation["schemes"]).for_each(|scheme| out.text(10, scheme));
    extensions(&mut out, 13, operation);
    out
}

/// `ParametersItem`: a body, or what is in the query or the path.
fn parameter_item(parameter: &Value) -> Message {
    let place = parameter["in"].as_str().unwrap_or_default();
    if place == "body" {
        let mut body = Message::default();
        body.text(2, &parameter["name"]);
        body.text(3, &parameter["in"]);
        body.flag(4, &parameter["required"]);
        body.message(5, &schema(&parameter["schema"]));
        return wrapped(1, &wrapped(1, &body));
    }
    let mut inner = Message::default();
    inner.flag(1, &parameter["required"]);
    inner.text(2, &parameter["in"]);
    inner.text(3, &parameter["description"]);
    inner.text(4, &parameter["name"]);
    // A query parameter may be empty, a path parameter not; so the numbers differ by one from here on.
    let is_query = place == "query";
    inner.text(if is_query { 6 } else { 5 }, &parameter["type"]);
    inner.flag(if is_query { 20 } else { 19 }, &parameter["uniqueItems"]);
    wrapped(1, &wrapped(2, &wrapped(if is_query { 3 } else { 4 }, &inner)))
}

fn schema(schema: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &schema["$ref"]);
    out.text(2, &schema["format"]);
    out.text(3, &schema["title"]);
    out.text(4, &schema["description"]);
    if let Some(default) = schema.get("default") {
        out.message(5, &any(default));
    }
    for (name, field) in [("multipleOf", 6), ("maximum", 7), ("minimum", 9)] {
        out.double(field, &schema[name]);
    }
    for (name, field) in [("exclusiveMaximum", 8), ("exclusiveMinimum", 10), ("uniqueItems", 16)] {
        out.flag(field, &schema[name]);
    }
    for (name, field) in [
        ("maxLength", 11),
        ("minLength", 12),
        ("maxItems", 14),
        ("minItems", 15),
        ("maxProperties", 17),
        ("minProperties", 18),
    ] {
        out.integer(field, &schema[name]);
    }
    out.text(13, &schema["pattern"]);
    items(&schema["required"]).for_each(|name| out.text(19, name));
    items(&schema["enum"]).for_each(|value| out.message(20, &any(value)));
    match schema.get("additionalProperties") {
        Some(Value::Bool(flag)) => {
            let mut item = Message::default();
            item.number(2, u64::from(*flag));
            out.message(21, &item);
        }
        Some(value) => out.message(21, &wrapped(1, &self::schema(value))),
        None => {}
    }
    if let Some(name) = schema.get("type") {
        let mut type_ = Message::default();
        type_.text(1, name);
        out.message(22, &type_);
    }
    if let Some(item) = schema.get("items") {
        out.message(23, &wrapped(1, &self::schema(item)));
    }
    items(&schema["allOf"]).for_each(|part| out.message(24, &self::schema(part)));
    if schema["properties"].is_object() {
        let mut properties = Message::default();
        for (name, property) in members(&schema["properties"]) {
            properties.message(1, &named(name, &self::schema(property)));
        }
        out.message(25, &properties);
    }
    extensions(&mut out, 31, schema);
    out
}

/// What begins with `x-`, as YAML, of which JSON is a part.
fn extensions(out: &mut Message, field: u64, of: &Value) {
    let empty = Map::new();
    for (name, value) in of.as_object().unwrap_or(&empty).iter().filter(|(name, _)| name.starts_with("x-")) {
        out.message(field, &named(name, &any(value)));
    }
}

fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.bytes(2, format!("{value}\n").as_bytes());
    out
}

/// A name and the message that has it.
fn named(name: &str, value: &Message) -> Message {
    let mut out = Message::default();
    out.bytes(1, name.as_bytes());
    out.message(2, value);
    out
}

/// A message with one field.
fn wrapped(field: u64, value: &Message) -> Message {
    let mut out = Message::default();
    out.message(field, value);
    out
}

#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.extend((value | 0x80).to_le_bytes().first());
            value >>= 7;
        }
        self.0.extend(value.to_le_bytes().first());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    fn text(&mut self, field: u64, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u64, value: &Value) {
        if value.as_bool() == Some(true) {
            self.number(field, 1);
        }
    }

    fn integer(&mut self, field: u64, value: &Value) {
        if let Some(number) = value.as_i64().filter(|number| *number != 0) {
            self.number(field, number.cast_unsigned());
        }
    }

    fn double(&mut self, field: u64, value: &Value) {
        if let Some(number) = value.as_f64().filter(|number| *number != 0.0) {
            self.varint(field << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_have_their_numbers() {
        let document = json!({"swagger": "2.0", "info": {"title": "T", "version": "1"}, "paths": {},
            "definitions": {"A": {"type": "string", "maxLength": 300, "x-k": [1]}}});
        let want: &[u8] = b"\x0a\x032.0\x12\x06\x0a\x01T\x12\x011\x42\x00\x4a\x25\x0a\x23\x0a\x01A\x12\x1e\x58\xac\x02\xb2\x01\x08\x0a\x06string\xfa\x01\x0d\x0a\x03x-k\x12\x06\x12\x04[1]\n";
        assert_eq!(encode(&document), want);
        let document = json!({"security": [{"B": []}],
            "securityDefinitions": {"B": {"type": "apiKey", "name": "a", "in": "header", "description": "D"}}});
        let want: &[u8] = b"\x12\x00\x42\x00\x4a\x00\x62\x07\x0a\x05\x0a\x01B\x12\x00\x6a\x1f\x0a\x1d\x0a\x01B\x12\x18\x12\x16\x0a\x06apiKey\x12\x01a\x1a\x06header\x22\x01D";
        assert_eq!(encode(&document), want);
    }
}
