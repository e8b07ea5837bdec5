//! The tables on the simple store.

use std::sync::Arc;
use std::time::Duration;

use exactlyonce::store::Layout;
use exactlyonce::store::memory::MemoryStore;
use tokio::time::sleep;

use crate::context::SimContext;
use crate::network::Channel;
use crate::scenario::fault::Fault;
use crate::service::simple_store::StoreClient;
use crate::service::{Opener, TablesService};

/// Longer than any request is under way.
const ARRIVAL: Duration = Duration::from_millis(100);

pub(crate) struct SimpleTables {
    context: Arc<SimContext>,
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
        Self { context: context.clone() }
    }

    fn opener(&self) -> SimpleOpener {
        SimpleOpener(self.context.options.layout)
    }

    /// Its faults are those of all simple services.
    fn begin(&self, _: &Fault, _: &[Fault]) -> bool {
        false
    }

    fn end(&self, _: &Fault) {}

    async fn settle(&self) {}

    fn observer(&self) -> Option<MemoryStore> {
        Some(self.context.tables.clone())
    }

    async fn store(&self) -> MemoryStore {
        self.context.tables.clone()
    }

    async fn caught_up(&self) {
        // A request is not counted before it has arrived.
        loop {
            sleep(ARRIVAL).await;
            if self.context.links.delayed() == 0 {
                return;
            }
        }
    }

    async fn store_without(&self, _: u8) -> Option<MemoryStore> {
        None
    }

    fn shut_down(&self) {}
}
