//! The wire protocol: frames, versions, messages and record batches.
//!
//! Messages are those of the crate `proto-kafka`; nothing outside this module names it. Record batches stay bytes as a
//! producer sent them; [`batch`] reads and stamps them, [`records`] reads what is inside.

pub mod batch;
pub mod builder;
pub mod compression;
pub mod errors;
pub mod frame;
mod produce;
pub mod records;
pub mod versions;

pub use proto_kafka::error::ResponseError as ErrorCode;
pub use proto_kafka::messages;
pub use proto_kafka::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

/// A string of a message.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// The source files in a folder and below it.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn nothing_outside_this_module_names_the_codec() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let all = files(&source);
        assert!(all.len() > 50, "{all:?}");
        for file in all.iter().filter(|file| !file.starts_with(source.join("protocol"))) {
            let text = fs::read_to_string(file).unwrap();
            assert!(!text.contains("proto_kafka"), "{}", file.display());
        }
    }
}
