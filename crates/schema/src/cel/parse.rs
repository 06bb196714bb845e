//! Text of a rule to a syntax tree, safely: size and nesting are bounded, and parsing runs on a stack of its own.

use kube_cel::cel::common::ast::{EntryExpr, Expr};
use kube_cel::cel::parser::{Expression, Parser};

/// Longest rule that is read, in bytes.
const MAX_LENGTH: usize = 16 * 1024;
/// Deepest nesting of the syntax tree that is evaluated.
const MAX_DEPTH: usize = 150;
/// Deepest nesting of brackets, and most unary operators and conditionals, that the parser is given.
const MAX_NESTING: usize = 60;
/// Stack of the thread that parses; the parser recurses deeply. It is address space, not memory.
const STACK: usize = 128 << 20;

/// Runs `work` where deep recursion is safe.
///
/// # Errors
/// When no thread can be had, or `work` panics: what the parser does with odd texts is not in our hands.
pub(crate) fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("cel-compile".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("no thread to compile rules on: {error}"))?;
        thread.join().map_err(|_| "the CEL parser failed".to_owned())
    })
}

/// Parses an expression; call it inside [`with_deep_stack`].
///
/// # Errors
/// What is wrong, in the words of cel-go where they are known.
pub(super) fn parse(source: &str) -> Result<Expression, String> {
    if source.len() > MAX_LENGTH {
        return Err(format!("expression code point size exceeds limit: size: {}, limit {MAX_LENGTH}", source.len()));
    }
    let nesting = nesting(source);
    if nesting > MAX_NESTING {
        return Err(too_deep(source, MAX_NESTING));
    }
    let parser = Parser::new().enable_optional_syntax(true);
    let tree = parser.parse(source).map_err(|errors| errors.to_string())?;
    if depth(&tree) > MAX_DEPTH {
        return Err(too_deep(source, MAX_DEPTH));
    }
    Ok(tree)
}

fn too_deep(source: &str, limit: usize) -> String {
    let line: String = source.lines().next().unwrap_or_default().chars().take(80).collect();
    format!("ERROR: <input>:1:1: expression recursion limit exceeded: {limit}\n | {line}\n | ^")
}

/// How deep brackets nest, plus the longest run of what nests without brackets. Text in quotes does not count.
fn nesting(source: &str) -> usize {
    let (mut depth, mut deepest, mut run, mut longest_run, mut conditionals) = (0usize, 0usize, 0usize, 0usize, 0usize);
    let mut quote: Option<char> = None;
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        if let Some(open) = quote {
            if c == '\\' {
                chars.next();
            } else if c == open {
                quote = None;
            }
            continue;
        }
        match c {
            '"' | '\'' => quote = Some(c),
            '(' | '[' | '{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '?' => conditionals += 1,
            _ => {}
        }
        match c {
            '!' | '-' => {
                run += 1;
                longest_run = longest_run.max(run);
            }
            c if c.is_whitespace() => {}
            _ => run = 0,
        }
    }
    deepest.max(longest_run).max(conditionals.saturating_sub(20))
}

/// Depth of the tree, found without recursion.
fn depth(tree: &Expression) -> usize {
    let mut deepest = 0;
    let mut open = vec![(tree, 1)];
    while let Some((node, level)) = open.pop() {
        deepest = deepest.max(level);
        for_each_child(node, |child| open.push((child, level + 1)));
    }
    deepest
}

/// Whether the expression names the variable.
pub(super) fn mentions(tree: &Expression, name: &str) -> bool {
    let mut open = vec![tree];
    while let Some(node) = open.pop() {
        if matches!(&node.expr, Expr::Ident(ident) if ident == name) {
            return true;
        }
        for_each_child(node, |child| open.push(child));
    }
    false
}

fn for_each_child<'a>(node: &'a Expression, mut visit: impl FnMut(&'a Expression)) {
    match &node.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).for_each(visit),
        Expr::Select(select) => visit(&select.operand),
        Expr::List(list) => list.elements.iter().for_each(visit),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    visit(&entry.key);
                    visit(&entry.value);
                }
            }
        }
        Expr::Struct(object) => {
            for entry in &object.entries {
                if let EntryExpr::StructField(field) = &entry.expr {
                    visit(&field.value);
                }
            }
        }
        Expr::Comprehension(loop_) => {
            for part in [&loop_.iter_range, &loop_.accu_init, &loop_.loop_cond, &loop_.loop_step, &loop_.result] {
                visit(part);
            }
        }
    }
}
