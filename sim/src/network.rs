//! Requests and responses of the simple services, and the faults that apply to them.
//!
//! A request is one message and its response another. The run's faults may lose a request, apply it late, twice or
//! in part, or apply it and lose its response. A client times out; its request may still be applied afterwards. Two
//! requests of one client may be applied in any order.

use std::fmt;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use madsim::plugin;
use madsim::task::NodeId;
use tokio::sync::oneshot;
use tokio::time::{Instant, call_at, sleep, timeout_at};

use crate::context::SimContext;
use crate::observed::Sometimes;
use crate::parties::{Caller, Service};
use crate::timeline::{Kind, Outcome};

/// A request to a service.
pub(crate) trait Request: fmt::Display + Send + Sync + 'static {
    type Response: Send + Sync + 'static;
    const SERVICE: Service;

    /// True if it changes something.
    fn is_write(&self) -> bool;
    /// The response, for the trace.
    fn describe(response: &Self::Response) -> String;
    /// The kind of message that it is, in a timeline.
    fn kind(&self) -> Kind {
        Kind::TableRequest
    }
    /// The partition that it is about, if it is about one.
    fn partition(&self) -> Option<i32> {
        None
    }
    /// How long the service may hold it until there is something to respond with.
    fn may_be_held(&self) -> Duration {
        Duration::ZERO
    }
}

/// Microseconds that a message takes, at least and at most.
const LATENCY_MICROS: (u64, u64) = (3_000, 12_000);

struct Envelope<Q: Request> {
    /// Unique in the run.
    number: u64,
    caller: Caller,
    from: NodeId,
    request: Arc<Q>,
    reply: oneshot::Sender<Reply<Q::Response>>,
}

enum Reply<A> {
    Response(A),
    Error,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("no response in time")]
    TimedOut,
    #[error("the service is overloaded")]
    Overloaded,
}

/// A client's connection to all services. Clones share it.
#[derive(Clone)]
pub(crate) struct Channel {
    pub context: Arc<SimContext>,
    pub caller: Caller,
    node: NodeId,
}

impl Channel {
    /// Opens a channel for the current node.
    pub fn open(context: Arc<SimContext>, caller: Caller) -> Self {
        Self { context, caller, node: plugin::node() }
    }

    /// Sends a request and waits for its response; does not retry.
    pub async fn send<Q: Request>(&self, request: &Arc<Q>) -> Result<Q::Response, RequestError> {
        let Self { context, caller, node } = self;
        let number = context.next_request();
        let service = Q::SERVICE;
        context.note(format_args!("{caller} sends to {service:?} #{number}: {request}"));
        context.record(|recording| {
            let kind = (request.kind(), request.partition());
            recording.request_sent(number, (*caller, service), kind, request.to_string());
        });
        context.observe_cut(*caller, service, false);
        let deadline = Instant::now()
            + Duration::from_millis(context.options.request_timeout_ms)
            + request.may_be_held();
        let (reply, response) = oneshot::channel();
        let is_lost = |why: &str| {
            context.record(|recording| recording.request_lost(number, why));
        };
        match context.links.of(service) {
            Some((to, service)) if !context.links.is_cut(*node, to) => {
                let envelope =
                    Envelope { number, caller: *caller, from: *node, request: request.clone(), reply };
                // Nobody receives it if the service is killed meanwhile.
                call_at(arrival(context, Q::SERVICE, *caller), move || {
                    drop(service.send(Box::new(envelope)))
                });
            }
            Some(_) => is_lost("the link is cut"),
            None => is_lost("the service does not run"),
        }
        let reply = async {
            match response.await {
                Ok(reply) => reply,
                // It was lost, which a client cannot know.
                Err(_) => pending().await,
            }
        };
        let response = match timeout_at(deadline, reply).await {
            // The caller's machine may have been paused.
            _ if Instant::now() >= deadline => Err(RequestError::TimedOut),
            Ok(Reply::Response(response)) => Ok(response),
            Ok(Reply::Error) => Err(RequestError::Overloaded),
            Err(_) => Err(RequestError::TimedOut),
        };
        match &response {
            Ok(response) => {
                context.note(format_args!("{caller} receives #{number}: {}", Described::<Q>(response)));
                context.record(|recording| recording.response_arrives(number, Outcome::Acknowledged));
            }
            Err(error) => {
                context.note(format_args!("{caller} gives up #{number}: {error}"));
                context.record(|recording| match error {
                    RequestError::Overloaded => recording.response_arrives(number, Outcome::Failed),
                    RequestError::TimedOut => recording.request_given_up(number, &error.to_string()),
                });
            }
        }
        response
    }
}

/// Draws when a message to or from a service arrives.
fn arrival(context: &SimContext, service: Service, client: Caller) -> Instant {
    let (shortest, longest) = LATENCY_MICROS;
    // In nanoseconds, so that no two arrive at the same time.
    let nanos = context.random(service, client).within(shortest * 1_000..=longest * 1_000);
    Instant::now() + Duration::from_nanos(nanos)
}

/// A response as the trace has it, if it is kept.
struct Described<'a, Q: Request>(&'a Q::Response);

impl<Q: Request> fmt::Display for Described<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Q::describe(self.0))
    }
}

/// How a service handles a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handling {
    pub number: u64,
    pub caller: Caller,
    /// Apply only a part of it.
    pub torn: bool,
}

/// Serves requests until the node is killed.
pub(crate) async fn serve<Q, H, F>(context: Arc<SimContext>, handle: H)
where
    Q: Request,
    H: Fn(Arc<SimContext>, Arc<Q>, Handling) -> F + Send + Sync,
    F: Future<Output = Q::Response> + Send,
{
    let mut inbox = context.links.serve(Q::SERVICE);
    let mut requests = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = requests.next(), if !requests.is_empty() => {}
            Some(message) = inbox.recv() => {
                let envelope =
                    *message.downcast::<Envelope<Q>>().expect("clients send requests that the service knows");
                requests.push(serve_request(&context, &handle, envelope));
            }
        }
    }
}

/// Handles one request, subject to the active faults.
async fn serve_request<Q, H, F>(context: &Arc<SimContext>, handle: &H, envelope: Envelope<Q>)
where
    Q: Request,
    H: Fn(Arc<SimContext>, Arc<Q>, Handling) -> F + Send + Sync,
    F: Future<Output = Q::Response> + Send,
{
    let Envelope { number, caller, from, request, reply } = envelope;
    let service = Q::SERVICE;
    let faults = context.request_faults(service, request.is_write());
    let arrived = context.now_ms();
    let took = context.random(service, caller).within(0..=context.options.service_time_ms);
    if faults.lost {
        context.note(format_args!("{service:?} never receives #{number}"));
        context.record(|recording| recording.request_lost(number, "a fault loses it"));
        return;
    }
    let _delayed =
        (faults.delay_ms.is_some() || faults.duplicated_after_ms.is_some()).then(|| context.links.delay());
    if let Some(delay_ms) = faults.delay_ms {
        context.note(format_args!("{service:?} will receive #{number} in {delay_ms} ms"));
        sleep(Duration::from_millis(delay_ms)).await;
    }
    context.record(|recording| recording.request_arrives(number));
    if took > 0 {
        sleep(Duration::from_millis(took)).await;
    }
    let handling = Handling { number, caller, torn: faults.torn };
    let response = if faults.error && !faults.torn {
        context.note(format_args!("{service:?} fails #{number}"));
        Reply::Error
    } else {
        if request.is_write() && context.now_ms() > arrived + context.options.request_timeout_ms {
            context.observe(Sometimes::LateWrite);
        }
        let response = handle(context.clone(), request.clone(), handling).await;
        let described = Described::<Q>(&response);
        context.note(format_args!("{service:?} applied #{number} of {caller}: {described}"));
        match faults.torn {
            true => Reply::Error,
            false => Reply::Response(response),
        }
    };
    context.record(|recording| {
        let text = match &response {
            Reply::Response(response) => Q::describe(response),
            Reply::Error => "an error".to_owned(),
        };
        let is_cut = context.links.is_cut(plugin::node(), from);
        let lost = match faults.response_lost {
            true => Some("a fault loses it"),
            false => is_cut.then_some("the link is cut"),
        };
        recording.response_sent(number, (service, caller), text, lost);
    });
    if faults.response_lost {
        context.observe(Sometimes::ResponseLost);
        context.note(format_args!("{service:?} loses its response to #{number}"));
    } else {
        context.observe_cut(caller, service, true);
        if !context.links.is_cut(plugin::node(), from) {
            // The client may be gone; the service does not care.
            call_at(arrival(context, service, caller), move || drop(reply.send(response)));
        }
    }
    if let Some(after_ms) = faults.duplicated_after_ms {
        sleep(Duration::from_millis(after_ms)).await;
        let response = handle(context.clone(), request, handling).await;
        let described = Described::<Q>(&response);
        context.note(format_args!("{service:?} applied #{number} again: {described}"));
        context.record(|recording| recording.applied_again(number, service));
    }
}
