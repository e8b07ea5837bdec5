//! The contracts of brokers and stores: cases are written once, against the traits, and run on every implementation.
//! Features of a single implementation have a separate file.

mod broker;
#[cfg(feature = "cassandra")]
mod cassandra;
#[cfg(any(feature = "kafka", feature = "cassandra"))]
#[path = "../common/cluster.rs"]
mod cluster;
#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "kafka")]
mod kafka;
mod memory;
#[cfg(feature = "kafka")]
#[path = "../common/simulated_kafka.rs"]
mod simulated_kafka;
mod store;

/// Makes a test of each case on every implementation: `name: value`, or `name in_folder: function of a folder`, or
/// `name on_services: function` and `name on_brokers: value`, which require services.
macro_rules! on_every_implementation {
    ([$($(#[$meta:meta])* ($($implementation:tt)*)),* $(,)?], $cases:tt) => {
        $($(#[$meta])* crate::on_one_implementation!($($implementation)*, $cases);)*
    };
}

/// See [`on_every_implementation`].
macro_rules! on_one_implementation {
    ($name:ident: $new:expr, [$($case:ident),* $(,)?]) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case($new).await;
                }
            )*
        }
    };
    ($name:ident in_folder: $new:expr, [$($case:ident),* $(,)?]) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $case() {
                    let folder = tempfile::tempdir().unwrap();
                    super::$case(($new)(folder.path())).await;
                }
            )*
        }
    };
    ($name:ident on_brokers: $new:expr, [$($case:ident),* $(,)?]) => {
        mod $name {
            $(
                #[tokio::test]
                #[ignore = "needs services: docker/local/cluster up --kafka 3"]
                async fn $case() {
                    super::$case($new).await;
                }
            )*
        }
    };
    ($name:ident on_services: $new:expr, [$($case:ident),* $(,)?]) => {
        mod $name {
            $(
                #[tokio::test]
                #[ignore = "needs services: docker/local/cluster up --cassandra 1"]
                async fn $case() {
                    let test = ($new)().await;
                    super::$case(test.store.clone()).await;
                    test.drop().await;
                }
            )*
        }
    };
}
pub(crate) use {on_every_implementation, on_one_implementation};
