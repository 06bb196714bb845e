//! Errors in words.

use std::error::Error;

use kube::core::Status;

/// An error with its causes on one line, outermost first.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let answer = answer(error);
        // kube's own message has all of the answer in it, for those who look into programs.
        let said = answer.map_or_else(|| error.to_string(), |status| status.message.clone());
        // Many libraries repeat their cause in their own message.
        if text.is_empty() {
            text = said;
        } else if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = if answer.is_some() { None } else { error.source() };
    }
    text
}

/// What a server answered, if that is the error.
fn answer<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Status> {
    let boxed = || error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    match error.downcast_ref::<kube::Error>().or_else(boxed) {
        Some(kube::Error::Api(status)) if !status.message.is_empty() => Some(status),
        _ => None,
    }
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

    #[derive(Debug, thiserror::Error)]
    #[error("install")]
    struct Installing(#[source] Box<kube::Error>);

    #[test]
    fn of_a_servers_answer_its_words_are_told() {
        let status = Status::failure("it is forbidden", "Forbidden").with_code(403);
        let answer = kube::Error::Api(Box::new(status));
        assert_eq!(chain(&answer), "it is forbidden");
        assert_eq!(chain(&Installing(Box::new(answer))), "install: it is forbidden");
    }
}
