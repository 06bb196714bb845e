//! Label selectors: `a=b,c!=d,e in (f,g),h,!i,j>3`.
//!
//! A hand-written lexer and recursive descent whose error messages are those of Kubernetes' own parser.

use std::collections::BTreeSet;

use super::labels::Labels;
use crate::text::quote;

/// All requirements must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

impl Selector {
    /// Parses the value of `labelSelector`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: lex(text), at: 0 };
        parser.requirements().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        let bound = || self.values.first().and_then(|v| v.parse::<i64>().ok());
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => number().zip(bound()).is_some_and(|(n, b)| n > b),
            Operator::LessThan => number().zip(bound()).is_some_and(|(n, b)| n < b),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Symbol(symbol) => symbol,
            Self::End => "",
        }
    }
}

fn lex(text: &str) -> Vec<Token> {
    const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            tokens.push(Token::End);
            return tokens;
        }
        if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
            continue;
        }
        let end = rest.find(|c| " \t\r\n=!(),><".contains(c)).unwrap_or(rest.len());
        tokens.push(Token::Word(rest[..end].to_owned()));
        rest = &rest[end..];
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => {}
                Token::End => return Ok(out),
                other => return Err(format!("found '{}', expected: !, identifier, or 'end of string'", other.text())),
            }
            out.push(self.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?);
            match self.next() {
                Token::End => return Ok(out),
                Token::Symbol(",") => match self.peek() {
                    Token::Word(_) | Token::Symbol("!") => {}
                    other => return Err(format!("found '{}', expected: identifier after ','", other.text())),
                },
                other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut token = self.next();
        let negated = token == Token::Symbol("!");
        if negated {
            token = self.next();
        }
        let Token::Word(key) = token else {
            return Err(format!("found '{}', expected: identifier", token.text()));
        };
        check_key(&key)?;
        let last = matches!(self.peek(), Token::End | Token::Symbol(","));
        if negated || last {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Ok(Requirement { key, operator, values: BTreeSet::new() });
        }
        let (operator, values) = match self.next() {
            Token::Word(word) if word == "in" => (Operator::In, self.set()?),
            Token::Word(word) if word == "notin" => (Operator::NotIn, self.set()?),
            Token::Symbol("=" | "==") => (Operator::In, self.exact()?),
            Token::Symbol("!=") => (Operator::NotIn, self.exact()?),
            Token::Symbol(">") => (Operator::GreaterThan, self.exact()?),
            Token::Symbol("<") => (Operator::LessThan, self.exact()?),
            other => {
                return Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", other.text()));
            }
        };
        for (index, value) in values.iter().enumerate() {
            check_value(index, &key, value, operator)?;
        }
        Ok(Requirement { key, operator, values })
    }

    fn set(&mut self) -> Result<BTreeSet<String>, String> {
        let open = self.next();
        if open != Token::Symbol("(") {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        match self.peek() {
            Token::Symbol(")") => {
                self.next();
                Ok(BTreeSet::from([String::new()]))
            }
            Token::Word(_) | Token::Symbol(",") => {
                let values = self.identifiers()?;
                match self.next() {
                    Token::Symbol(")") => Ok(values),
                    other => Err(format!("found '{}', expected: ')'", other.text())),
                }
            }
            other => Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
        }
    }

    fn identifiers(&mut self) -> Result<BTreeSet<String>, String> {
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.insert(word);
                    match self.peek() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => return Ok(values),
                        other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
                    }
                }
                Token::Symbol(",") => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    if *self.peek() == Token::Symbol(")") {
                        values.insert(String::new());
                        return Ok(values);
                    }
                    if *self.peek() == Token::Symbol(",") {
                        self.next();
                        values.insert(String::new());
                    }
                }
                other => return Err(format!("found '{}', expected: ',', or identifier", other.text())),
            }
        }
    }

    fn exact(&mut self) -> Result<BTreeSet<String>, String> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.next() {
            Token::Word(word) => Ok(BTreeSet::from([word])),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }
}

const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn check_key(key: &str) -> Result<(), String> {
    let fail = |why: &str| Err(format!("<nil>: Invalid value: {}: {why}", quote(key)));
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        ["", _] => return fail("prefix part must be non-empty"),
        [prefix, name] => {
            if !is_subdomain(prefix) {
                return fail(
                    "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                );
            }
            name
        }
        _ => {
            return fail(&format!(
                "a valid label key {NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
        }
    };
    if name.is_empty() {
        return fail("name part must be non-empty");
    }
    if name.len() > 63 {
        return fail("name part must be no more than 63 bytes");
    }
    if !is_word(name) {
        return fail(&format!("name part {NAME}"));
    }
    Ok(())
}

fn check_value(index: usize, key: &str, value: &str, operator: Operator) -> Result<(), String> {
    if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
        let value = quote(value);
        return Err(format!(
            "values[{index}]: Invalid value: {value}: for 'Gt', 'Lt' operators, the value must be an integer"
        ));
    }
    let fail = |why: &str| Err(format!("values[{index}][{key}]: Invalid value: {}: {why}", quote(value)));
    if value.len() > 63 {
        return fail("must be no more than 63 bytes");
    }
    if !value.is_empty() && !is_word(value) {
        return fail(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        );
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            let bytes = label.as_bytes();
            let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            edge(bytes.first())
                && edge(bytes.last())
                && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: &str, labels: &[(&str, &str)], want: bool) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let labels = labels.collect::<std::collections::BTreeMap<_, _>>().into();
        let parsed = Selector::parse(selector).unwrap_or_default();
        assert_eq!(parsed.matches(&labels), want, "{selector} on {labels:?}");
    }

    fn check_error(selector: &str, want: &str) {
        assert_eq!(Selector::parse(selector), Err(want.to_owned()), "{selector}");
    }

    #[test]
    fn matching() {
        let labels = [("app", "x"), ("tier", "web"), ("n", "5"), ("empty", "")];
        check("", &labels, true);
        check("app=x,tier==web", &labels, true);
        check("app=x,tier=db", &labels, false);
        check("app!=x", &labels, false);
        check("none!=x", &labels, true);
        check("app in (x, y)", &labels, true);
        check("app notin (x,y)", &labels, false);
        check("none notin (x)", &labels, true);
        check("app,!none", &labels, true);
        check("n>4,n<6", &labels, true);
        check("n>5", &labels, false);
        check("app>1", &labels, false);
        check("empty=", &labels, true);
        check("empty in (,z)", &labels, true);
        check("app in ()", &labels, false);
        check(" in in (x)", &[("in", "x")], true);
    }

    #[test]
    fn messages() {
        check_error("app in x", "unable to parse requirement: found 'x' expected: '('");
        check_error("=x", "found '=', expected: !, identifier, or 'end of string'");
        check_error("app=x=y", "found '=', expected: ',' or 'end of string'");
        check_error("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt");
        check_error("app in (", "unable to parse requirement: found '', expected: ',', ')' or identifier");
        check_error("app=bad value", "found 'value', expected: ',' or 'end of string'");
        check_error("!", "unable to parse requirement: found '', expected: identifier");
        check_error("a,", "found '', expected: identifier after ','");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = Selector::parse(&text);
        }
    }
}
