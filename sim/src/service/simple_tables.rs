//! The tables on the simple store.

use std::sync::Arc;
use std::time::Duration;

use exactlyonce::store::memory::MemoryStore;
use exactlyonce::store::{Layout, Outcome, Store};
use futures_util::FutureExt;
use tokio::time::sleep;

use crate::context::SimContext;
use crate::network::Channel;
use crate::oracle::Violation;
use crate::oracle::cell::{Cell, Replicas, Seen, Value};
use crate::parties::Service;
use crate::scenario::fault::{Fault, Host};
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

/// The tables themselves: the simple store has no other replica.
struct OneReplica(MemoryStore);

/// The result of a call that the tables in memory answer at once.
fn at_once<T>(call: impl Future<Output = Outcome<T>>) -> Option<T> {
    call.now_or_never()?.into_result().ok()
}

impl Replicas for OneReplica {
    fn see(&self, cell: &Cell) -> Vec<Seen> {
        let Self(tables) = self;
        let value = match cell {
            Cell::Progress(partition) => {
                let progress = at_once(tables.progress(*partition)).flatten();
                progress.map(|progress| Value::Progress(progress.next_offset))
            }
            Cell::Registry => at_once(tables.registered()).filter(|number| *number > 0).map(Value::Registry),
            Cell::Count(partition, window) => {
                let counts = at_once(tables.counts(*partition, std::slice::from_ref(window)));
                counts.and_then(|counts| counts.first().copied().flatten()).map(Value::Count)
            }
            Cell::Alert(window) => tables.alert(window).map(|count| Value::Alert(count.into())),
            Cell::Row { partition, offset, is_dead_letter } => {
                tables.has_row(*partition, *offset, *is_dead_letter).then_some(Value::Row)
            }
        };
        vec![value.map_or(Seen::Nothing, Seen::Value)]
    }
}

impl TablesService for SimpleTables {
    type Store = MemoryStore;
    type Opener = SimpleOpener;

    async fn start(context: &Arc<SimContext>) -> Self {
        context.record(|recording| recording.add_lane(Service::Store.into(), "store", "tables"));
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

    fn dispensable(&self) -> Option<Host> {
        None
    }

    async fn settle(&self) {}

    fn version(&self) -> Option<u64> {
        Some(self.context.rows_applied())
    }

    fn replicas(&self) -> Box<dyn Replicas> {
        Box::new(OneReplica(self.context.tables.clone()))
    }

    async fn repair(&self) -> Vec<Violation> {
        Vec::new()
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
