//! What the errors of all layers share: a cause of any type, and the text of a whole chain of causes.
//!
//! An error of this crate says what it was about and never repeats its source. The code that handles it prints the chain
//! once, with [`chain`].

/// An error of a library underneath, kept as it is.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An error and its causes on one line, separated by colons.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
