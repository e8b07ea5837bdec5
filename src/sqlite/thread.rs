//! Threads that own a connection, because SQLite's calls block.

use std::fmt;
use std::io;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

/// A thread that takes jobs from a bounded queue. It ends, with its connection closed, when this is dropped;
/// the drop waits for that.
pub(crate) struct Thread<J> {
    jobs: Option<mpsc::Sender<J>>,
    handle: Option<JoinHandle<()>>,
}

/// The thread has ended. It never ends by itself, so it has panicked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Panicked {
    /// Before it took the job.
    Before,
    /// After it took the job.
    During,
}

/// A job of a [`Connected`] thread: a closure that sends its own response.
pub(crate) type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A thread that runs closures on its connection, one after the other.
pub(crate) type Connected = Thread<Job>;

impl<J: Send + 'static> Thread<J> {
    /// Starts a thread with a queue of `queue` jobs.
    pub fn start(
        name: &str,
        queue: usize,
        body: impl FnOnce(mpsc::Receiver<J>) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel(queue);
        let builder = std::thread::Builder::new().name(name.to_owned());
        let handle = builder.spawn(move || body(receiver))?;
        Ok(Self { jobs: Some(jobs), handle: Some(handle) })
    }

    /// Queues a job; waits while the queue is full.
    pub async fn send(&self, job: J) -> Result<(), Panicked> {
        match &self.jobs {
            Some(jobs) => jobs.send(job).await.map_err(|_| Panicked::Before),
            None => Err(Panicked::Before),
        }
    }
}

impl<J> fmt::Debug for Thread<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl<J> Drop for Thread<J> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(handle) = self.handle.take() {
            // A panic was reported when it happened.
            let _ = handle.join();
        }
    }
}

impl Connected {
    /// Starts a thread that owns this connection.
    pub fn with(name: &str, mut connection: Connection) -> io::Result<Self> {
        Self::start(name, 64, move |mut jobs| {
            while let Some(job) = jobs.blocking_recv() {
                job(&mut connection);
            }
        })
    }

    /// Runs a closure on the thread. If the future is dropped before the closure's turn, it is not run.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let (job, response) = job(work);
        self.send(job).await?;
        response.await.map_err(|_| Panicked::During)
    }

    /// Queues a closure without waiting; the reply comes through the channel.
    pub fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Panicked> {
        let (job, response) = job(work);
        match self.jobs.as_ref().map(|jobs| jobs.try_send(job)) {
            Some(Ok(())) => Ok(response),
            _ => Err(Panicked::Before),
        }
    }
}

fn job<T: Send + 'static>(
    work: impl FnOnce(&mut Connection) -> T + Send + 'static,
) -> (Job, oneshot::Receiver<T>) {
    let (reply, response) = oneshot::channel();
    let job = Box::new(move |connection: &mut Connection| {
        if !reply.is_closed() {
            // The caller may have given up by now.
            let _ = reply.send(work(connection));
        }
    });
    (job, response)
}
