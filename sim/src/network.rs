//! Requests and answers over madsim's network, and what may become of them.
//!
//! A request is one message and its answer another. Between its arrival and its answer a service is at the
//! mercy of the run's faults: the request may be lost, applied late, applied twice, applied in part, or
//! applied and not answered. A client that hears nothing in time gives up, and the request goes on without
//! it. Nothing keeps two requests of one client in order.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use madsim::net::Endpoint;
use tokio::time::{sleep, timeout};

use crate::faults::Point;
use crate::observed;
use crate::stage::Stage;

/// A service of the simulated world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The tables.
    Store,
    /// The broker, as far as it keeps records.
    Log,
    /// The broker, as far as it keeps groups: a worker may be cut off from it and go on reading the log.
    Coordinator,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 3] = [Service::Store, Service::Log, Service::Coordinator];

    pub(crate) fn ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1 + self as u8))
    }

    fn address(self) -> SocketAddr {
        SocketAddr::new(self.ip(), 1)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// The worker; `None` for the operator who runs `init`.
    pub worker: Option<u8>,
    /// How many lives it had before.
    pub life: u32,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.worker {
            Some(worker) => write!(f, "worker {worker} (life {})", self.life),
            None => f.write_str("operator"),
        }
    }
}

/// A question to a service.
pub(crate) trait Question: Clone + fmt::Display + Send + Sync + 'static {
    type Answer: Send + Sync + 'static;
    const SERVICE: Service;

    /// The point that is reached when the question has arrived.
    fn point_on_arrival(&self) -> Option<Point>;
    /// The point that is reached when it has been dealt with.
    fn point_before_answer(&self) -> Option<Point>;
    /// The answer for the trace.
    fn describe(answer: &Self::Answer) -> String;
}

struct Envelope<Q> {
    /// Unique in the run, and the tag of the answer: what is meant for a worker's earlier life at the same
    /// address cannot be taken for another answer.
    number: u64,
    caller: Caller,
    question: Q,
}

enum Reply<A> {
    Answer(A),
    Error,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("no answer in time")]
    TimedOut,
    #[error("the service is overloaded")]
    Overloaded,
}

/// A client's end of the network. Clones share it.
#[derive(Clone)]
pub(crate) struct Line {
    pub stage: Arc<Stage>,
    pub caller: Caller,
    endpoint: Endpoint,
}

impl Line {
    /// Opens the network for the present node.
    pub async fn open(stage: Arc<Stage>, caller: Caller) -> Self {
        let endpoint = Endpoint::bind("0.0.0.0:0").await.expect("a node has free ports");
        Self { stage, caller, endpoint }
    }

    /// Asks once.
    pub async fn ask<Q: Question>(&self, question: &Q) -> Result<Q::Answer, NoAnswer> {
        let Self { stage, caller, .. } = self;
        let number = stage.next_request();
        let service = Q::SERVICE;
        stage.note(format_args!("{caller} asks {service:?} #{number}: {question}"));
        if stage.is_cut(*caller, service, false) {
            stage.observe("link cut");
        }
        let envelope = Envelope { number, caller: *caller, question: question.clone() };
        let exchange = async {
            self.endpoint.send_to_raw(service.address(), 0, Box::new(envelope)).await?;
            self.endpoint.recv_from_raw(number).await
        };
        let patience = Duration::from_millis(stage.world.request_timeout_ms);
        let answer = match timeout(patience, exchange).await {
            Ok(Ok((reply, _))) => match *reply.downcast().expect("a service answers its own questions") {
                Reply::Answer(answer) => Ok(answer),
                Reply::Error => Err(NoAnswer::Overloaded),
            },
            Ok(Err(_)) | Err(_) => Err(NoAnswer::TimedOut),
        };
        match &answer {
            Ok(answer) => stage.note(format_args!("{caller} has #{number}: {}", Q::describe(answer))),
            Err(error) => stage.note(format_args!("{caller} gives up #{number}: {error}")),
        }
        answer
    }
}

/// How a question is to be dealt with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub number: u64,
    pub caller: Caller,
    /// Do only a part of it.
    pub torn: bool,
    /// Do nothing, and say that all is done.
    pub forgotten: bool,
}

/// How many requests may be on their way into a service at once.
const LISTENERS: usize = 8;

/// Serves questions until the node is killed.
pub(crate) async fn serve<Q, H, F>(stage: Arc<Stage>, handle: H)
where
    Q: Question,
    H: Fn(Arc<Stage>, Q, Manner) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Q::Answer> + Send + 'static,
{
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Q::SERVICE.address().port());
    let endpoint = Endpoint::bind(address).await.expect("the port is free when the service begins");
    for _ in 0..LISTENERS {
        let (stage, handle, endpoint) = (stage.clone(), handle.clone(), endpoint.clone());
        tokio::spawn(async move {
            loop {
                let Ok((message, from)) = endpoint.recv_from_raw(0).await else { return };
                let envelope = *message.downcast::<Envelope<Q>>().expect("clients ask what a service knows");
                tokio::spawn(meet_fate(stage.clone(), handle.clone(), endpoint.clone(), from, envelope));
            }
        });
    }
    std::future::pending().await
}

/// Deals with one request, as the faults of the moment have it.
async fn meet_fate<Q, H, F>(
    stage: Arc<Stage>,
    handle: H,
    endpoint: Endpoint,
    from: SocketAddr,
    envelope: Envelope<Q>,
) where
    Q: Question,
    H: Fn(Arc<Stage>, Q, Manner) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Q::Answer> + Send + 'static,
{
    let Envelope { number, caller, question } = envelope;
    let service = Q::SERVICE;
    let fate = stage.fate(service);
    let arrived = stage.now_ms();
    let took = stage.dice().within(0..=stage.world.service_time_ms);
    if fate.lost {
        stage.observe("requests lost");
        return stage.note(format_args!("{service:?} never sees #{number}"));
    }
    if let Some(delay_ms) = fate.delay_ms {
        stage.observe("requests delayed");
        stage.note(format_args!("{service:?} will see #{number} in {delay_ms} ms"));
        sleep(Duration::from_millis(delay_ms)).await;
    }
    if took > 0 {
        sleep(Duration::from_millis(took)).await;
    }
    if let Some(point) = question.point_on_arrival() {
        stage.reached(point, caller).await;
    }
    let manner = Manner { number, caller, torn: fate.torn, forgotten: fate.forgotten };
    let reply = if fate.error && !fate.torn {
        stage.observe("errors answered");
        stage.note(format_args!("{service:?} does not do #{number}"));
        Reply::Error
    } else {
        if stage.now_ms() > arrived + stage.world.request_timeout_ms && question.point_on_arrival().is_some()
        {
            stage.observe(observed::LATE_WRITE);
        }
        let answer = handle(stage.clone(), question.clone(), manner).await;
        stage.note(format_args!("{service:?} did #{number} of {caller}: {}", Q::describe(&answer)));
        match fate.torn {
            true => Reply::Error,
            false => Reply::Answer(answer),
        }
    };
    if let Some(point) = question.point_before_answer() {
        stage.reached(point, caller).await;
    }
    if let Some(after_ms) = fate.doubled_after_ms {
        let stage = stage.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(after_ms)).await;
            stage.observe("requests doubled");
            let answer = handle(stage.clone(), question, manner).await;
            stage.note(format_args!("{service:?} did #{number} once more: {}", Q::describe(&answer)));
        });
    }
    if fate.answer_lost {
        stage.observe("answers lost");
        stage.observe(observed::UNANSWERED);
        return stage.note(format_args!("{service:?} loses its answer to #{number}"));
    }
    if stage.is_cut(caller, service, true) {
        stage.observe("link cut");
    }
    // A client that is gone cannot be told, which is nothing to the service.
    let _ = endpoint.send_to_raw(from, number, Box::new(reply)).await;
}
