//! Requests and responses over madsim's network, and the faults that apply to them.
//!
//! A request is one message and its response another. The run's faults may lose a request, apply it late, twice or
//! in part, or apply it and lose its response. A client times out; its request may still be applied afterwards. Two
//! requests of one client may be applied in any order.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use madsim::net::Endpoint;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::context::SimContext;
use crate::observed::Sometimes;

/// A simulated service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The tables.
    Store,
    /// The part of the broker that stores records.
    Log,
    /// The part of the broker that coordinates the group: a worker may be partitioned from it and still read the log.
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

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// The worker; `None` for the operator who runs `init`.
    pub worker: Option<u8>,
    /// How many times it was started before.
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

/// A request to a service.
pub(crate) trait Request: Clone + fmt::Display + Send + Sync + 'static {
    type Response: Send + Sync + 'static;
    const SERVICE: Service;

    /// True if it changes something.
    fn is_write(&self) -> bool;
    /// The response, for the trace.
    fn describe(response: &Self::Response) -> String;
}

struct Envelope<Q> {
    /// Unique in the run, and the tag of the response: a response to an earlier process of a worker at the same address
    /// cannot be mistaken for another one.
    number: u64,
    caller: Caller,
    request: Q,
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
    endpoint: Endpoint,
}

impl Channel {
    /// Opens a channel for the current node.
    pub async fn open(context: Arc<SimContext>, caller: Caller) -> Self {
        let endpoint = Endpoint::bind("0.0.0.0:0").await.expect("a node has free ports");
        Self { context, caller, endpoint }
    }

    /// Sends a request and waits for its response; does not retry.
    pub async fn send<Q: Request>(&self, request: &Q) -> Result<Q::Response, RequestError> {
        let Self { context, caller, .. } = self;
        let number = context.next_request();
        let service = Q::SERVICE;
        context.note(format_args!("{caller} sends to {service:?} #{number}: {request}"));
        context.observe_cut(*caller, service, false);
        let envelope = Envelope { number, caller: *caller, request: request.clone() };
        let exchange = async {
            self.endpoint.send_to_raw(service.address(), 0, Box::new(envelope)).await?;
            self.endpoint.recv_from_raw(number).await
        };
        let deadline = Duration::from_millis(context.options.request_timeout_ms);
        let response = match timeout(deadline, exchange).await {
            Ok(Ok((reply, _))) => match *reply.downcast().expect("a service responds to its own requests") {
                Reply::Response(response) => Ok(response),
                Reply::Error => Err(RequestError::Overloaded),
            },
            Ok(Err(_)) | Err(_) => Err(RequestError::TimedOut),
        };
        match &response {
            Ok(response) => {
                context.note(format_args!("{caller} receives #{number}: {}", Q::describe(response)))
            }
            Err(error) => context.note(format_args!("{caller} gives up #{number}: {error}")),
        }
        response
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

/// How many requests a service receives at the same time.
const LISTENERS: usize = 8;

/// Serves requests until the node is killed.
pub(crate) async fn serve<Q, H, F>(context: Arc<SimContext>, handle: H)
where
    Q: Request,
    H: Fn(Arc<SimContext>, Q, Handling) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Q::Response> + Send + 'static,
{
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Q::SERVICE.address().port());
    let endpoint = Endpoint::bind(address).await.expect("the port is free when the service begins");
    for _ in 0..LISTENERS {
        let (context, handle, endpoint) = (context.clone(), handle.clone(), endpoint.clone());
        tokio::spawn(async move {
            loop {
                let Ok((message, from)) = endpoint.recv_from_raw(0).await else { return };
                let envelope =
                    *message.downcast::<Envelope<Q>>().expect("clients send requests that the service knows");
                tokio::spawn(serve_request(
                    context.clone(),
                    handle.clone(),
                    endpoint.clone(),
                    from,
                    envelope,
                ));
            }
        });
    }
    std::future::pending().await
}

/// Handles one request, subject to the active faults.
async fn serve_request<Q, H, F>(
    context: Arc<SimContext>,
    handle: H,
    endpoint: Endpoint,
    from: SocketAddr,
    envelope: Envelope<Q>,
) where
    Q: Request,
    H: Fn(Arc<SimContext>, Q, Handling) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Q::Response> + Send + 'static,
{
    let Envelope { number, caller, request } = envelope;
    let service = Q::SERVICE;
    let faults = context.request_faults(service, request.is_write());
    let arrived = context.now_ms();
    let took = context.random(service).within(0..=context.options.service_time_ms);
    if faults.lost {
        return context.note(format_args!("{service:?} never receives #{number}"));
    }
    if let Some(delay_ms) = faults.delay_ms {
        context.note(format_args!("{service:?} will receive #{number} in {delay_ms} ms"));
        sleep(Duration::from_millis(delay_ms)).await;
    }
    if took > 0 {
        sleep(Duration::from_millis(took)).await;
    }
    let handling = Handling { number, caller, torn: faults.torn };
    let reply = if faults.error && !faults.torn {
        context.note(format_args!("{service:?} fails #{number}"));
        Reply::Error
    } else {
        if context.now_ms() > arrived + context.options.request_timeout_ms && request.is_write() {
            context.observe(Sometimes::LateWrite);
        }
        let response = handle(context.clone(), request.clone(), handling).await;
        context.note(format_args!("{service:?} applied #{number} of {caller}: {}", Q::describe(&response)));
        match faults.torn {
            true => Reply::Error,
            false => Reply::Response(response),
        }
    };
    if let Some(after_ms) = faults.duplicated_after_ms {
        let context = context.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(after_ms)).await;
            let response = handle(context.clone(), request, handling).await;
            context.note(format_args!("{service:?} applied #{number} again: {}", Q::describe(&response)));
        });
    }
    if faults.response_lost {
        context.observe(Sometimes::ResponseLost);
        return context.note(format_args!("{service:?} loses its response to #{number}"));
    }
    context.observe_cut(caller, service, true);
    // The client may be gone; the service does not care.
    let _ = endpoint.send_to_raw(from, number, Box::new(reply)).await;
}
