//! The tables on the simple store.

use std::sync::Arc;

use exactlyonce::store::Layout;
use exactlyonce::store::memory::MemoryStore;

use crate::context::SimContext;
use crate::network::Channel;
use crate::scenario::fault::{Fault, LONGEST_DELAY_MS};
use crate::service::simple_store::StoreClient;
use crate::service::{Opener, TablesService};

pub(crate) struct SimpleTables {
    tables: MemoryStore,
    layout: Layout,
}

/// Opens a client of the simple store.
#[derive(Clone)]
pub(crate) struct SimpleOpener(Layout);

impl Opener for SimpleOpener {
    type Store = StoreClient;

    async fn open(&self, channel: &Channel) -> Result<StoreClient, String> {
        Ok(StoreClient::new(channel.clone(), self.0))
    }
}

impl TablesService for SimpleTables {
    type Store = MemoryStore;
    type Opener = SimpleOpener;

    async fn start(context: &Arc<SimContext>) -> Self {
        Self { tables: context.tables.clone(), layout: context.options.layout }
    }

    fn opener(&self) -> SimpleOpener {
        SimpleOpener(self.layout)
    }

    /// Its faults are those of all simple services.
    fn begin(&self, _: &Fault, _: &[Fault]) -> bool {
        false
    }

    fn end(&self, _: &Fault) {}

    async fn settle(&self) {}

    fn observer(&self) -> Option<MemoryStore> {
        Some(self.tables.clone())
    }

    async fn store(&self) -> MemoryStore {
        self.tables.clone()
    }

    fn longest_delay_ms(&self) -> u64 {
        LONGEST_DELAY_MS
    }

    async fn store_without(&self, _: u8) -> Option<MemoryStore> {
        None
    }

    fn shut_down(&self) {}
}
