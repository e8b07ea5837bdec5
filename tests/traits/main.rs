//! What every broker and every store must do: cases written once, against the traits, and run on each
//! implementation. What only one of them can do has a file of its own.

mod broker;
#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "kafka")]
mod kafka;
mod memory;
mod store;

/// Makes each case a test on every implementation.
macro_rules! on_every_implementation {
    ($memory:expr, $embedded:path, [$($case:ident),* $(,)?]) => {
        mod on_memory {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case($memory).await;
                }
            )*
        }

        #[cfg(feature = "embedded")]
        mod on_embedded {
            $(
                #[tokio::test]
                async fn $case() {
                    let folder = tempfile::tempdir().unwrap();
                    super::$case($embedded(folder.path())).await;
                }
            )*
        }
    };
}
pub(crate) use on_every_implementation;
