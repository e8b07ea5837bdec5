//! The operator of a run: binds the tables to the topic, as `init` does, before the workers start.
//!
//! In some scenarios the faults begin before it ends, and it is killed and started again meanwhile.

use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use exactlyonce::binding::{self, BindingError, Origin};
use exactlyonce::broker::Broker;
use exactlyonce::error::chain;
use exactlyonce::store::{Binding, Store};
use madsim::runtime::Handle;
use madsim::task::NodeId;
use tokio::network::Network;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::context::SimContext;
use crate::network::Channel;
use crate::oracle::Violation;
use crate::parties::Caller;
use crate::random::{Random, Stream};
use crate::scenario::options::{Begin, TOPIC};
use crate::service::{BrokerOpener, Opener};

/// Time between two attempts.
const RETRY: Duration = Duration::from_millis(100);

/// How often the operator is killed among faults, at most.
const MOST_KILLS: u64 = 3;

/// The operator's node. It retries until the tables are bound.
pub(crate) struct Operator {
    handle: Handle,
    /// When it begins, in simulated milliseconds.
    begins_ms: u64,
    random: Random,
    node: NodeId,
    bound: watch::Receiver<Option<Binding>>,
}

impl Operator {
    /// Starts it: it begins at once, or among the faults.
    pub fn start<L: BrokerOpener, T: Opener>(context: &Arc<SimContext>, openers: (L, T)) -> Self {
        let handle = Handle::current();
        let ip = Ipv4Addr::new(10, 0, 2, 1).into();
        let mut random = Random::new(context.seed, Stream::Operator);
        let begins_ms = match context.options.init_among_faults {
            true => context.now_ms() + random.below(context.options.chaos_ms / 2),
            false => 0,
        };
        let (sender, bound) = watch::channel(None);
        let sender = Arc::new(sender);
        // A weak reference, because the simulator keeps the function.
        let context = Arc::downgrade(context);
        let work = move || {
            let (context, openers, sender) = (context.clone(), openers.clone(), sender.clone());
            async move {
                if let Some(binding) = init(context, openers, begins_ms).await {
                    sender.send_replace(Some(binding));
                }
            }
        };
        let node = handle.create_node().name("operator").ip(ip).init(work).build().id();
        Network::current().plug_in(node, ip);
        Self { handle, begins_ms, random, node, bound }
    }

    /// Waits until the tables are bound, for so long at most.
    pub async fn binding_within(&mut self, limit: Duration) -> Option<Binding> {
        timeout(limit, self.binding()).await.ok()
    }

    async fn binding(&mut self) -> Binding {
        let bound = self.bound.wait_for(Option::is_some).await;
        bound.expect("the operator's machine is never removed").clone().expect("it was waited for")
    }

    /// The same, for so long at most, while the operator is killed now and then.
    pub async fn binding_among_faults(&mut self, context: &SimContext, limit: Duration) -> Option<Binding> {
        wait_until(context, self.begins_ms).await;
        for _ in 0..self.random.below(MOST_KILLS + 1) {
            let lives = Duration::from_millis(self.random.log_uniform(1..=1_000));
            if let Some(binding) = self.binding_within(lives).await {
                return Some(binding);
            }
            context.note_event(format_args!("the operator is killed"));
            self.handle.kill(self.node);
            sleep(Duration::from_millis(self.random.within(1..=200))).await;
            self.handle.restart(self.node);
        }
        self.binding_within(limit).await
    }

    /// Ends it.
    pub fn end(self) {
        self.handle.kill(self.node);
    }
}

async fn wait_until(context: &SimContext, ms: u64) {
    sleep(Duration::from_millis(ms.saturating_sub(context.now_ms()))).await;
}

/// Binds the tables, retrying until it succeeds. `None` if the run has ended.
async fn init<L: BrokerOpener, T: Opener>(
    context: Weak<SimContext>,
    (log, tables): (L, T),
    begins_ms: u64,
) -> Option<Binding> {
    let context = context.upgrade()?;
    wait_until(&context, begins_ms).await;
    context.note_event(format_args!("init begins"));
    let origin = match context.options.begin {
        Begin::Start => Origin::Start,
        Begin::End => Origin::End,
    };
    let channel = Channel::open(context.clone(), Caller { worker: None, life: 0 });
    let broker = loop {
        match log.open(&channel).await {
            Ok(broker) => break broker,
            Err(error) => context.note(format_args!("init has no log: {error}")),
        }
        sleep(RETRY).await;
    };
    context.note_event(format_args!("init has the log"));
    loop {
        match tables.open(&channel).await {
            Ok(store) => match bind(&context, &broker, &store, &origin).await {
                Ok(binding) => return Some(binding),
                Err(error) => {
                    context.note(format_args!("init failed, retrying: {}", chain(&error)));
                    if !error.is_transient() && !context.damage().done {
                        context.violate(Violation::InitFailed { error: chain(&error).to_string() });
                    }
                }
            },
            Err(error) => context.note(format_args!("init has no tables: {error}")),
        }
        sleep(RETRY).await;
    }
}

/// What `init` does: checks the settings of the topic, and binds the tables.
async fn bind<B: Broker, S: Store>(
    context: &SimContext,
    broker: &B,
    store: &S,
    origin: &Origin,
) -> Result<Binding, BindingError> {
    let of_topic = |source| BindingError::Broker { topic: TOPIC.to_owned(), source };
    broker.guarantees(TOPIC).await.map_err(of_topic)?;
    let initialized = binding::init(broker, store, &context.options.pipeline.binding_spec, origin).await?;
    Ok(initialized.binding)
}
