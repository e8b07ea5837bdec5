//! What the controller decides and the brokers learn, each in its own time: brokers, topics, partitions, configuration.

pub mod config;
mod image;

pub use config::{ConfigError, ConfigKey, TopicSettings};
pub use image::{BrokerImage, Image, PartitionImage, TopicImage};

/// Why a name is none that a topic can have (`Topic.validate`).
///
/// # Errors
/// The message for the client.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    const LONGEST: usize = 249;
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Err(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > LONGEST {
        return Err(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length {LONGEST}"
        ));
    }
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(is_legal) {
        return Err(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// The topic of the groups' offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// The topic of the transactions' states.
pub const TRANSACTION_STATE: &str = "__transaction_state";

/// Whether a topic is the cluster's own.
pub fn is_internal(name: &str) -> bool {
    name == CONSUMER_OFFSETS || name == TRANSACTION_STATE
}

#[cfg(test)]
mod tests {
    use super::check_topic_name;

    #[test]
    fn names_of_topics_are_short_and_ascii() {
        for good in ["a", "a.b_c-D9", "...", &"x".repeat(249)] {
            assert_eq!(check_topic_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(check_topic_name(bad).is_err(), "{bad}");
        }
    }
}
