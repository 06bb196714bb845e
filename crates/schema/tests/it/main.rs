//! Integration tests: recorded answers of a real Kubernetes API server, and properties that hold for any input.

mod definitions;
mod objects;
mod properties;

use kubetask_schema::field::Error;

/// Causes as a `Status` lists them, sorted: field, message, reason.
fn causes(errors: &[Error]) -> Vec<(String, String, String)> {
    let mut causes: Vec<_> =
        errors.iter().map(|e| (e.field.to_string(), e.body(), e.type_.reason().to_owned())).collect();
    causes.sort();
    causes
}
