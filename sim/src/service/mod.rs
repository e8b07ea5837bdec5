//! What a run puts under the pipeline: one folder for each service.
//!
//! A `LogService` is the log with its group, a `TablesService` the tables. Each starts its service, opens it for workers,
//! applies its own faults, and shows it to the checker.

pub mod cassandra;
pub mod cassandra_tables;
pub(crate) mod client_links;
pub(crate) mod declaration;
pub(crate) mod kafka;
pub(crate) mod messages;
pub(crate) mod sabotage;
pub mod simple_log;
pub mod simple_store;
pub(crate) mod simple_tables;

use std::collections::BTreeSet;
use std::sync::Arc;

use exactlyonce::binding::BindingSpec;
use exactlyonce::broker::Broker;
use exactlyonce::store::Store;
use exactlyonce::verify::{Report, VerifyError};

use crate::context::SimContext;
use crate::network::Channel;
use crate::oracle::Violation;
use crate::oracle::cell::Replicas;
use crate::parties::Caller;
use crate::scenario::fault::{Fault, Host};
use crate::scenario::workload::Item;

/// Opens the tables for a process of a worker. The simulator keeps it forever, so it holds nothing of the run.
pub(crate) trait Opener: Clone + Send + Sync + 'static {
    type Store: Store;

    /// Tries once; the error is its message.
    fn open(&self, channel: &Channel) -> impl Future<Output = Result<Self::Store, String>> + Send;
}

/// What the production `verify` has found.
pub(crate) type Verified = Result<Report, VerifyError>;

/// Opens the log for a process of a worker. The simulator keeps it forever, so it holds nothing of the run.
pub(crate) trait BrokerOpener: Clone + Send + Sync + 'static {
    type Broker: Broker;

    /// Tries once; the error is its message.
    fn open(&self, channel: &Channel) -> impl Future<Output = Result<Self::Broker, String>> + Send;
}

/// The log of a run, and its group.
pub(crate) trait LogService: Send + Sync + Sized + 'static {
    /// Whether C code, and its threads, run in it.
    const HAS_THREADS: bool = false;
    /// Whether the group has committed positions, for dashboards.
    const HAS_COMMITTED_POSITIONS: bool = false;
    /// What workers open the log with.
    type Opener: BrokerOpener;

    /// Starts the service, with the topic.
    fn start(context: &Arc<SimContext>) -> impl Future<Output = Self> + Send;

    /// What workers open the log with.
    fn opener(&self) -> Self::Opener;

    /// Appends records, in this order, until all of them are durable.
    fn append(&self, items: Vec<Item>) -> impl Future<Output = ()> + Send;

    /// Begins a fault of this service. Returns false if its target is affected by another one, and nothing if it is not one
    /// of this service.
    fn begin(&self, fault: &Fault, active: &[Fault]) -> impl Future<Output = Option<bool>> + Send;

    /// Ends a fault; false if it is not one of this service.
    fn end(&self, fault: &Fault) -> bool;

    /// Waits until the service has recovered from all faults.
    fn settle(&self) -> impl Future<Output = ()> + Send;

    /// Runs the production `verify`, as an operator would.
    fn verify<S: Store>(&self, store: S, spec: BindingSpec) -> impl Future<Output = Verified>;

    /// The offset at which a partition's log ends, if what its consumers read shows it.
    fn end_of(&self, _partition: i32) -> Option<i64> {
        None
    }

    /// Judges what the log knows by itself, at the end of a run without damage.
    fn judge(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// The processes that are members of the workers' group, as its coordinator knows them; `None` if that is not known now, or if
    /// some cannot be members yet.
    fn members(&self) -> Option<BTreeSet<Caller>> {
        None
    }

    /// Shuts the service down for good.
    fn shut_down(&self);
}

/// The tables of a run.
pub(crate) trait TablesService: Send + Sync + Sized + 'static {
    /// What a store for the checker is.
    type Store: Store;
    /// What workers open the tables with.
    type Opener: Opener;

    /// Starts the service, with empty tables.
    fn start(context: &Arc<SimContext>) -> impl Future<Output = Self> + Send;

    /// What workers open the tables with.
    fn opener(&self) -> Self::Opener;

    /// Begins a fault of this service; false if its target is affected by another one.
    fn begin(&self, fault: &Fault, active: &[Fault]) -> bool;

    /// Ends a fault of this service.
    fn end(&self, fault: &Fault);

    /// A node that the service goes on without, if there is one.
    fn dispensable(&self) -> Option<Host>;

    /// Waits until the service has recovered from all faults.
    fn settle(&self) -> impl Future<Output = ()> + Send;

    /// A number that changes when a row is written; `None` if that is not known.
    fn version(&self) -> Option<u64>;

    /// The replicas of the tables, to be looked at.
    fn replicas(&self) -> Box<dyn Replicas>;

    /// Makes all replicas equal, and returns violations if they are not.
    fn repair(&self) -> impl Future<Output = Vec<Violation>> + Send;

    /// The tables as the checker reads them when all faults have ended.
    fn store(&self) -> impl Future<Output = Self::Store> + Send;

    /// Waits until everything that faults have delayed has taken effect, after all of them have ended.
    fn caught_up(&self) -> impl Future<Output = ()> + Send;

    /// The tables without a part of the service (the `index`th of them, from 0) that may be lost; `None` after the last.
    fn store_without(&self, index: u8) -> impl Future<Output = Option<Self::Store>> + Send;

    /// Shuts the service down for good.
    fn shut_down(&self);
}
