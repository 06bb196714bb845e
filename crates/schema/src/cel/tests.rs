//! Tables for rules: what they say of values, and of themselves.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "a": {"type": "integer"},
        "b": {"type": "string"},
        "ratio": {"type": "number"},
        "my_field": {"type": "string"},
        "x-y": {"type": "string"},
        "namespace": {"type": "string"},
        "when": {"type": "string", "format": "date-time"},
        "wait": {"type": "string", "format": "duration"},
        "raw": {"type": "string", "format": "byte"},
        "port": {"x-kubernetes-int-or-string": true},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "list": {"type": "array", "items": {"type": "integer"}},
        "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"],
                "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}}}})
}

fn with_rule(mut schema: Value, rule: Value) -> Schema {
    schema["x-kubernetes-validations"] = json!([rule]);
    crate::parse::structural(&schema).unwrap()
}

fn messages(schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<String> {
    Compiled::new(schema).validate(new, old).errors.iter().map(ToString::to_string).collect()
}

fn check_text(rule: &str) -> Result<(), String> {
    let schema = with_rule(schema(), json!({"rule": rule}));
    with_deep_stack(|| check_rule(&schema.rules[0], &schema, false).map(|_| ()).map_err(|p| p.detail)).unwrap()
}

#[test]
fn rules_decide() {
    let object = json!({"a": 3, "b": "hello", "ratio": 2, "my_field": "m", "x-y": "z", "namespace": "ns",
        "when": "2024-02-29T10:00:00Z", "wait": "1h30m", "raw": "YWI=", "port": "http", "set": ["x", "y"],
        "list": [1, 2, 3], "items": [{"name": "p", "n": 1}, {"name": "q", "n": 2}], "labels": {"k/v": "1", "m": "2"}});
    let mut wrong = Vec::new();
    let mut check = |rule: &str, expect: bool| {
        let schema = with_rule(schema(), json!({"rule": rule, "message": "no"}));
        let found = messages(&schema, &object, None);
        if found.is_empty() != expect {
            wrong.push(format!("{rule}: {found:?}"));
        }
        if let Err(error) = check_text(rule) {
            wrong.push(format!("{rule}: {error}"));
        }
    };
    // Members, escaped.
    check("self.a == 3 && self.b != 'x'", true);
    check("self.a > 3", false);
    check("self.my_field == 'm' && self.x__dash__y == 'z' && self.__namespace__ == 'ns'", true);
    check("has(self.a) && !has(self.labels.nope)", true);
    check("self.labels['k/v'] == '1' && 'm' in self.labels", true);
    // Numbers across types, and int-or-string.
    check("self.ratio == 2.0 && self.ratio * 2.0 == 4.0", true);
    check("type(self.port) == string ? self.port == 'http' : self.port == 80", true);
    check("self.a / 2 == 1 && self.a % 2 == 1 && -self.a == -3 && double(self.a) < 3.5", true);
    // Errors are absorbed by the side that decides.
    check("self.labels.nope == 'x' || self.a == 3", true);
    check("self.a == 3 || self.labels.nope == 'x'", true);
    check("self.labels.nope == 'x' || self.a == 4", false);
    check("1 / 0 == 1 || true", true);
    // Formats.
    check("self.when.getFullYear() == 2024 && self.when < timestamp('2024-03-01T00:00:00Z')", true);
    check("self.wait == duration('90m') && self.wait.getMinutes() == 90", true);
    check("self.when + self.wait == timestamp('2024-02-29T11:30:00Z')", true);
    check("self.raw == b'ab'", true);
    // Lists, sets, maps.
    check("self.set == ['y', 'x']", true);
    check("self.list == [3, 2, 1]", false);
    check("self.set.all(t, t.size() == 1) && self.list.exists(i, i == 2) && self.list.exists_one(i, i > 2)", true);
    check("self.list.map(i, i * 2) == [2, 4, 6] && self.list.filter(i, i > 1).size() == 2", true);
    check("self.list.map(i, i > 1, i + 1) == [3, 4]", true);
    check("self.labels.all(k, self.labels[k] != '')", true);
    check("self.items.all(x, self.items.exists(y, x.name == y.name && x.n == y.n))", true);
    check("self.list.all(i, v, v == i + 1) && self.list.transformList(i, v, v * 10) == [10, 20, 30]", true);
    check("(self.set + ['x', 'z']).size() == 3", true);
    check("self.list.sum() == 6 && self.list.max() == 3 && self.list.isSorted() && self.list.indexOf(3) == 2", true);
    check("sets.contains(self.list, [1, 3]) && sets.intersects(self.list, [9, 1])", true);
    check("self.list[0] == 1 && self.list[?9].orValue(7) == 7", true);
    // Text.
    check("self.b.startsWith('he') && self.b.matches('^h.*o$') && self.b.find('l+') == 'll'", true);
    check(
        "self.b.replace('l', 'L') == 'heLLo' && self.b.split('l').size() == 3 && self.b.substring(1, 3) == 'el'",
        true,
    );
    check("'%s-%d'.format([self.b, self.a]) == 'hello-3'", true);
    check("self.set.join(',') == 'x,y' && self.b.upperAscii() == 'HELLO' && self.b.charAt(0) == 'h'", true);
    check("string(self.a) + 'x' == '3x' && int('7') == 7", true);
    // Optionals.
    check("self.?labels[?'m'].orValue('none') == '2'", true);
    check("self.labels[?'zz'].hasValue()", false);
    check("optional.of(self.a).optMap(v, v + 1).value() == 4", true);
    // Kubernetes' libraries.
    check("quantity('1Gi').isGreaterThan(quantity('1Mi')) && isQuantity('5m')", true);
    check("url('https://a.b:80/c').getHost() == 'a.b:80' && isURL('https://x')", true);
    check("ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.2.3.4') && isIP('::1')", true);
    check("semver('1.2.3').isLessThan(semver('1.10.0'))", true);
    check("!format.dns1123Label().validate('a-b').hasValue()", true);
    check("math.greatest(1, 5, 3) == 5 && base64.encode(b'ab') == 'YWI='", true);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn failures_are_told_as_kubernetes_tells_them() {
    let check = |rule: Value, object: Value, expect: &str| {
        let schema = with_rule(schema(), rule);
        assert_eq!(messages(&schema, &object, None), [expect]);
    };
    check(json!({"rule": "self.a > 1"}), json!({"a": 1}), "<nil>: Invalid value: failed rule: self.a > 1");
    check(json!({"rule": "self.a > 1", "message": " too small "}), json!({"a": 1}), "<nil>: Invalid value: too small");
    check(
        json!({"rule": "self.a > 1", "messageExpression": "'a is ' + string(self.a)", "fieldPath": ".a"}),
        json!({"a": 1}),
        "a: Invalid value: a is 1",
    );
    check(
        json!({"rule": "self.a > 1", "message": "plan B", "messageExpression": "self.b"}),
        json!({"a": 1}),
        "<nil>: Invalid value: plan B",
    );
    check(
        json!({"rule": "self.a > 1", "message": "x", "reason": "FieldValueRequired", "fieldPath": ".labels['a.b']"}),
        json!({"a": 1}),
        "labels[a.b]: Required value: x",
    );
    check(
        json!({"rule": "self.b == 'x'"}),
        json!({}),
        "<nil>: Invalid value: \"object\": no such key: b evaluating rule: self.b == 'x'",
    );
    check(
        json!({"rule": "self.port > 5"}),
        json!({"port": "x"}),
        "<nil>: Invalid value: \"object\": 'no such overload': call arguments did not match a supported operator, function or macro signature for rule: self.port > 5",
    );
    let mut nested = schema();
    nested["properties"]["labels"]["additionalProperties"]["x-kubernetes-validations"] =
        json!([{"rule": "self != 'bad'", "message": "bad"}]);
    let nested = crate::parse::structural(&nested).unwrap();
    let found = messages(&nested, &json!({"labels": {"k": "bad", "m": "good"}}), None);
    assert_eq!(found, [r#"labels[k]: Invalid value: "bad": bad"#]);
}

#[test]
fn transitions_compare_what_belongs_together() {
    let mut schema = schema();
    schema["properties"]["items"]["items"]["properties"]["n"]["x-kubernetes-validations"] =
        json!([{"rule": "self >= oldSelf", "message": "shrinks"}]);
    schema["properties"]["a"]["x-kubernetes-validations"] = json!([{"rule": "!oldSelf.hasValue() || self == oldSelf.value()", "message": "fixed", "optionalOldSelf": true}]);
    let schema = crate::parse::structural(&schema).unwrap();
    let old = json!({"a": 1, "items": [{"name": "p", "n": 5}, {"name": "q", "n": 1}]});
    let check = |new: Value, old: Option<&Value>, expect: &[&str]| assert_eq!(messages(&schema, &new, old), expect);
    check(json!({"items": [{"name": "q", "n": 2}, {"name": "p", "n": 5}]}), Some(&old), &[]);
    check(
        json!({"items": [{"name": "q", "n": 2}, {"name": "p", "n": 4}]}),
        Some(&old),
        &["items[1].n: Invalid value: 4: shrinks"],
    );
    check(json!({"items": [{"name": "new", "n": 0}]}), Some(&old), &[]);
    check(json!({"a": 2}), Some(&old), &["a: Invalid value: 2: fixed"]);
    check(json!({"a": 2}), None, &[]);
}

#[test]
fn rules_about_the_present_are_ratcheted() {
    let schema = with_rule(schema(), json!({"rule": "self.a > 1"}));
    let object = json!({"a": 1});
    assert_eq!(messages(&schema, &object, Some(&object)), Vec::<String>::new());
    assert_eq!(messages(&schema, &object, Some(&json!({"a": 0}))).len(), 1);
}

/// What is in an atomic list has no old value of its own: it goes by the list.
#[test]
fn rules_in_lists_are_ratcheted_with_the_list() {
    let mut schema = schema();
    schema["properties"]["list"]["items"]["x-kubernetes-validations"] = json!([{"rule": "self < 3"}]);
    let schema = crate::parse::structural(&schema).unwrap();
    let object = json!({"a": 1, "list": [1, 5]});
    assert_eq!(messages(&schema, &object, Some(&json!({"a": 2, "list": [1, 5]}))), Vec::<String>::new());
    assert_eq!(messages(&schema, &object, Some(&json!({"a": 1, "list": [5]}))).len(), 1);
    assert_eq!(messages(&schema, &object, Some(&json!({"a": 1}))).len(), 1);
    assert_eq!(messages(&schema, &object, None).len(), 1);
}

#[test]
fn the_type_check_finds_mistakes() {
    let check = |rule: &str, expect: &str| {
        let error = check_text(rule).unwrap_err();
        assert!(error.contains(expect), "{rule}: {error}");
    };
    check("self.nope > 1", "undefined field 'nope'");
    check("self.items.all(x, x.nope > 1)", "undefined field 'nope'");
    check("self.a +", "Syntax error");
    check("self.a == 'x'", "found no matching overload for '_==_' applied to '(int, string)'");
    check("self.a + 'x' == ''", "found no matching overload for '_+_' applied to '(int, string)'");
    check("self.a", "must evaluate to a bool");
    check("nope(self.a)", "undeclared reference to 'nope'");
    check("other.a == 1", "undeclared reference to 'other'");
    check("self.b.c == 1", "type 'string' does not support field selection");
    check("self.b && true", "no matching overload");
}

#[test]
fn hostile_rules_end_soon() {
    let big: Vec<i64> = (0..3000).collect();
    let object = json!({"list": big, "b": "a".repeat(200_000), "a": 1});
    let deep = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let rules = [
        "self.list.all(a, self.list.all(b, self.list.all(c, self.list.all(d, a + b + c + d >= 0))))".to_owned(),
        "self.list.map(a, self.list.map(b, self.list.map(c, self.list))).size() > 0".to_owned(),
        "self.b.replace('', self.b).replace('', self.b).size() > 0".to_owned(),
        format!(
            "{}.size() > 0",
            "self.b.replace('a', 'aaaaaaaaaa')".to_owned() + &".replace('a', 'aaaaaaaaaa')".repeat(20)
        ),
        "self.list.map(x, self.b + self.b + self.b).size() > 0".to_owned(),
        "self.b.matches('(a*)*(a*)*(a*)*b')".to_owned(),
        "self.b.matches('((a{1,100}){1,100}){1,100}')".to_owned(),
        "'%.999999999f'.format([1.0]) == ''".to_owned(),
        "lists.range(1000000000).size() > 0".to_owned(),
        "quantity('1e999999999').isGreaterThan(quantity('1'))".to_owned(),
        "self.b.split('').size() > 0 && self.b.split('').join(self.b).size() > 0".to_owned(),
        deep("(", ")", 10_000) + " == 1",
        deep("[", "]", 7_000) + " == 1",
        "!".repeat(15_000) + "true",
        "-".repeat(15_000) + "1 == 1",
        "1".to_owned() + &"+1".repeat(8_000) + " == 1",
        "self".to_owned() + &".a".repeat(8_000),
        "self".to_owned() + &"[0]".repeat(5_000),
        "true".to_owned() + &" && true".repeat(2_000),
        "true".to_owned() + &" ? true : true".repeat(1_000),
        "self.list".to_owned() + &".map(x, x)".repeat(1_000) + ".size() > 0",
        "x".repeat(100_000),
        "'".to_owned() + &"a".repeat(15_000),
        "self.list.all(x, ".repeat(500) + "true" + &")".repeat(500),
        "\u{0}\u{1}💥 == ((((".to_owned(),
    ];
    let begin = Instant::now();
    for rule in rules {
        let start = Instant::now();
        let schema = with_rule(schema(), json!({"rule": rule}));
        let compiled = Compiled::new(&schema);
        let compile_time = start.elapsed();
        let _ = compiled.validate(&object, None);
        let name: String = rule.chars().take(40).collect();
        // Generous, because tests run unoptimised beside others; what is guarded against takes hours.
        assert!(start.elapsed() < Duration::from_secs(30), "{name} takes {:?} ({compile_time:?})", start.elapsed());
        println!("{name}: {:?} of which compile {compile_time:?}", start.elapsed());
    }
    println!("all: {:?}", begin.elapsed());
}

#[test]
fn a_rule_that_costs_too_much_says_so() {
    let big: Vec<i64> = (0..3000).collect();
    let object = json!({"list": big});
    let rule = "self.list.all(a, self.list.all(b, a + b >= 0))";
    let schema = with_rule(schema(), json!({"rule": rule}));
    assert_eq!(
        messages(&schema, &object, None),
        [format!(
            "<nil>: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {rule}"
        )]
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 200, ..Default::default() })]
    #[test]
    fn any_text_compiles_or_is_refused(text in "(self|oldSelf|\\.|a|b|list|\\(|\\)|\\[|\\]|==|&&|\\+|!|'|has|all|x|,|[0-9]| |\\PC){0,24}") {
        let mut json = schema();
        json["x-kubernetes-validations"] = json!([{"rule": text}]);
        let schema = crate::parse::read(&json, &crate::field::Path::root(), &mut Vec::new());
        let _ = Compiled::new(&schema).validate(&json!({"a": 1, "b": "x", "list": [1, 2]}), None);
        if let Some(rule) = schema.rules.first() {
            let _ = with_deep_stack(|| check_rule(rule, &schema, false).map(|_| ()));
        }
    }
}
