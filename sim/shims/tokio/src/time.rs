//! Simulated time. The simulator's own futures set a timer each time they are polled and cancel none, so that a task
//! that waits for a distant time beside something frequent is woken at that time as often as it was polled. Here each
//! wait has one timer, which does nothing once the wait is over.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use madsim_tokio::time as simulated;

pub use simulated::{Duration, Instant, MissedTickBehavior, advance, error};

/// Who waits for a timer; nobody once the wait is over.
struct Timer(Mutex<Option<Waker>>);

impl Timer {
    fn replace(&self, waker: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), waker)
    }

    /// Wakes this waker instead of the one before.
    fn set(&self, waker: &Waker) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !current.as_ref().is_some_and(|current| current.will_wake(waker)) {
            *current = Some(waker.clone());
        }
    }
}

impl Wake for Timer {
    fn wake(self: Arc<Self>) {
        if let Some(waker) = self.replace(None) {
            waker.wake();
        }
    }
}

/// Waits until a point in time.
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Sleep {
    until: simulated::Sleep,
    timer: Option<Arc<Timer>>,
}

impl Sleep {
    fn new(until: simulated::Sleep) -> Self {
        Self { until, timer: None }
    }

    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.until.deadline()
    }

    /// True if that time is over.
    pub fn is_elapsed(&self) -> bool {
        self.until.is_elapsed()
    }

    /// Waits until another point in time instead.
    pub fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.cancel();
        Pin::new(&mut self.until).reset(deadline);
    }

    fn cancel(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.replace(None);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.until.is_elapsed() {
            return Poll::Ready(());
        }
        if let Some(timer) = &self.timer {
            timer.set(context.waker());
            return Poll::Pending;
        }
        let timer = Arc::new(Timer(Mutex::new(Some(context.waker().clone()))));
        self.timer = Some(timer.clone());
        Pin::new(&mut self.until).poll(&mut Context::from_waker(&Waker::from(timer)))
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.until.fmt(f)
    }
}

/// Waits for this long, at least 1 ms.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::new(simulated::sleep(duration))
}

/// Waits until `deadline`, at least 1 ms.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep::new(simulated::sleep_until(deadline))
}

/// The output of a future, if it ends within this time.
pub fn timeout<F: Future>(
    duration: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, error::Elapsed>> {
    ends_before(sleep(duration), future)
}

/// The output of a future, if it ends before `deadline`.
pub fn timeout_at<F: Future>(
    deadline: Instant,
    future: F,
) -> impl Future<Output = Result<F::Output, error::Elapsed>> {
    ends_before(sleep_until(deadline), future)
}

async fn ends_before<F: Future>(sleep: Sleep, future: F) -> Result<F::Output, error::Elapsed> {
    let (mut sleep, mut future) = (pin!(sleep), pin!(future));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => sleep.as_mut().poll(context).map(|()| Err(error::Elapsed)),
    })
    .await
}

/// Calls something at this time, whatever becomes of the caller's machine. The simulator's clock is locked meanwhile,
/// so it must not read the time, start a wait or spawn a task; it may wake tasks.
pub fn call_at(deadline: Instant, call: impl FnOnce() + Send + 'static) {
    struct Call<F>(Mutex<Option<F>>);

    impl<F: FnOnce() + Send + 'static> Wake for Call<F> {
        fn wake(self: Arc<Self>) {
            let call = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(call) = call {
                call();
            }
        }
    }

    let mut until = pin!(simulated::sleep_until(deadline));
    // It would wait 1 ms at least.
    until.as_mut().reset(deadline);
    let waker = Waker::from(Arc::new(Call(Mutex::new(Some(call)))));
    // Its timer stays when it is dropped.
    if until.poll(&mut Context::from_waker(&waker)).is_ready() {
        waker.wake();
    }
}

/// Ticks of a fixed period.
#[derive(Debug)]
pub struct Interval {
    next: Sleep,
    period: Duration,
    missed: MissedTickBehavior,
}

/// Ticks now, and then after each period.
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// Ticks at `start`, and then after each period.
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "`period` must be non-zero.");
    Interval { next: sleep_until(start), period, missed: MissedTickBehavior::default() }
}

impl Interval {
    /// A tick later than this is late, as in tokio.
    const TOLERANCE: Duration = Duration::from_millis(5);

    /// Waits for the next tick; the time at which it was due.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|context| self.poll_tick(context)).await
    }

    /// The same for a caller that polls.
    pub fn poll_tick(&mut self, context: &mut Context<'_>) -> Poll<Instant> {
        if Pin::new(&mut self.next).poll(context).is_pending() {
            return Poll::Pending;
        }
        let (due, now, period) = (self.next.deadline(), Instant::now(), self.period);
        let next = match self.missed {
            _ if now <= due + Self::TOLERANCE => due + period,
            MissedTickBehavior::Burst => due + period,
            MissedTickBehavior::Delay => now + period,
            MissedTickBehavior::Skip => {
                let late = (now - due).as_nanos() % period.as_nanos();
                now + period - Duration::from_nanos(late as u64)
            }
        };
        Pin::new(&mut self.next).reset(next);
        Poll::Ready(due)
    }

    /// The next tick is one period from now.
    pub fn reset(&mut self) {
        Pin::new(&mut self.next).reset(Instant::now() + self.period);
    }

    /// What it does about ticks that were missed.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// Sets what it does about ticks that were missed.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }

    /// The period.
    pub fn period(&self) -> Duration {
        self.period
    }
}
