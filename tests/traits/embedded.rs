//! The files of the embedded broker and store: persistence, invalid files, several processes.

mod files;
mod lock;
mod log;

use std::num::NonZeroU32;
use std::path::Path;

use exactlyonce::broker::embedded::EmbeddedBroker;
use exactlyonce::sqlite::{Options, Synchronous};
use exactlyonce::store::Layout;
use exactlyonce::store::embedded::EmbeddedStore;

/// No test here simulates a power loss.
pub(crate) fn options() -> Options {
    Options { synchronous: Synchronous::Off, ..Options::default() }
}

/// The store of a folder, created if it does not exist.
pub(crate) fn store_in(folder: &Path) -> EmbeddedStore {
    store_in_layout(folder, Layout::ORIGINAL)
}

/// Offsets per bucket: few, so that the rows of a test are in several buckets.
const BUCKET_ROWS: NonZeroU32 = NonZeroU32::new(4).unwrap();

/// As [`store_in`], in the bucketed layout.
pub(crate) fn bucketed_store_in(folder: &Path) -> EmbeddedStore {
    store_in_layout(folder, Layout::bucketed(BUCKET_ROWS))
}

pub(crate) fn store_in_layout(folder: &Path, layout: Layout) -> EmbeddedStore {
    EmbeddedStore::apply_schema(folder, &options(), layout).unwrap();
    EmbeddedStore::open(folder, &options(), layout).unwrap()
}

/// The log of a folder, created if it does not exist.
pub(crate) fn broker_in(folder: &Path) -> EmbeddedBroker {
    EmbeddedBroker::create(folder, &options()).unwrap();
    EmbeddedBroker::open(folder, &options()).unwrap()
}
