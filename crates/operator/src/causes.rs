//! Errors in words.

use std::error::Error;

/// An error with its causes on one line, outermost first.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        // Many libraries repeat their cause in their own message.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

/// The last cause of an error: it says what happened, those before it say where.
pub(crate) fn last(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Said {
        said: &'static str,
        #[source]
        source: Option<Box<Said>>,
    }

    #[test]
    fn causes_are_told_once() {
        let inner = Said { said: "refused", source: None };
        let middle = Said { said: "connect: refused", source: Some(Box::new(inner)) };
        let outer = Said { said: "write", source: Some(Box::new(middle)) };
        assert_eq!((chain(&outer).as_str(), last(&outer).as_str()), ("write: connect: refused", "refused"));
    }
}
