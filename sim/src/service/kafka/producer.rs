//! The producer of a run: a machine of its own, which is never killed. It appends records as `exactlyonce generate` does, and
//! aborts transactions, which leave gaps.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use exactlyonce::broker::kafka::KafkaBroker;
use exactlyonce::broker::{NewRecord, Producer as _};
use exactlyonce::error::chain;
use madsim::runtime::Handle;
use tokio::network::Network;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::context::SimContext;
use crate::parties::Caller;
use crate::scenario::fault::{Moment, Point, Step};
use crate::scenario::options::TOPIC;
use crate::service::kafka::transactions::Transactions;

const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 3));

/// Time until an append is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What the producer is asked for.
enum Request {
    /// To append records, in this order.
    Append(Vec<NewRecord>, oneshot::Sender<()>),
    /// To leave this many offsets without records in a partition, at least 2.
    Gap { partition: i32, offsets: i64, done: oneshot::Sender<()> },
}

/// A record that was acknowledged.
#[derive(Clone)]
pub(crate) struct Acknowledged {
    pub partition: i32,
    pub offset: i64,
    pub value: Option<Vec<u8>>,
}

/// The producer's machine.
pub(crate) struct Producer {
    requests: mpsc::UnboundedSender<Request>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
}

impl Producer {
    /// Starts it.
    pub fn start(
        context: Weak<SimContext>,
        broker: impl FnOnce() -> KafkaBroker + Send + 'static,
        bootstrap: String,
    ) -> Self {
        let node = Handle::current().create_node().name("producer").ip(IP).build();
        Network::current().plug_in(node.id(), IP);
        let (sender, requests) = mpsc::unbounded_channel();
        let acknowledged = Arc::default();
        let known = Arc::clone(&acknowledged);
        node.spawn(async move { serve(context, broker(), bootstrap, requests, &known).await });
        Self { requests: sender, acknowledged }
    }

    /// The records that were acknowledged.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Appends records, until they are durable.
    pub async fn append(&self, records: Vec<NewRecord>) {
        self.ask(|done| Request::Append(records, done)).await;
    }

    /// Leaves offsets without records: those of a transaction that was aborted, and of its marker.
    pub async fn gap(&self, partition: i32, offsets: i64) {
        self.ask(|done| Request::Gap { partition, offsets, done }).await;
    }

    async fn ask(&self, request: impl FnOnce(oneshot::Sender<()>) -> Request) {
        let (done, answer) = oneshot::channel();
        if self.requests.send(request(done)).is_ok() {
            // It ends only with the run.
            let _ = answer.await;
        }
    }
}

/// The producer is about to append a record, or learns that it is appended.
async fn reached(context: &Weak<SimContext>, moment: Moment) {
    let Some(context) = context.upgrade() else { return };
    let point = Point { step: Step::Append, moment };
    context.reached(point, None, Caller { worker: None, life: 0 }, || {}).await;
}

async fn serve(
    context: Weak<SimContext>,
    broker: KafkaBroker,
    bootstrap: String,
    mut requests: mpsc::UnboundedReceiver<Request>,
    acknowledged: &Mutex<Vec<Acknowledged>>,
) {
    let note = |text: String| {
        if let Some(context) = context.upgrade() {
            context.note(format_args!("producer: {text}"));
        }
    };
    let transactions = Transactions::new(bootstrap, "gaps");
    // Nothing more can be appended after some damage: a compacted topic refuses records without a key, and the producer does not
    // learn that its topic is another one.
    let mut gives_up = false;
    while let Some(request) = requests.recv().await {
        match request {
            Request::Append(_, done) | Request::Gap { done, .. } if gives_up => {
                let _ = done.send(());
            }
            Request::Append(records, done) => {
                loop {
                    reached(&context, Moment::Before).await;
                    match broker.append(TOPIC, records.clone()).await {
                        Ok(positions) => {
                            reached(&context, Moment::After).await;
                            let appended = positions.into_iter().zip(records);
                            let appended = appended.map(|((partition, offset), record)| {
                                let value = record.value;
                                Acknowledged { partition, offset, value }
                            });
                            acknowledged.lock().unwrap_or_else(PoisonError::into_inner).extend(appended);
                            break;
                        }
                        Err(error) => note(format!("append failed: {}", chain(&error))),
                    }
                    gives_up = context.upgrade().is_none_or(|context| context.damage().done);
                    if gives_up {
                        break;
                    }
                    sleep(RETRY).await;
                }
                let _ = done.send(());
            }
            Request::Gap { partition, offsets, done } => {
                let partitions = vec![partition; (offsets - 1).max(1) as usize];
                if let Err(error) = transactions.clone().abort(partitions).await {
                    note(format!("no gap: {error}"));
                }
                let _ = done.send(());
            }
        }
    }
}
