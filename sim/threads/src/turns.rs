//! Threads begin, run, wait and end. Each has a task on its machine that waits in its place.

use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use madsim::plugin;
use tokio::time::{Sleep, sleep_until};

use crate::worker::{FIRST_ID, Worker};
use crate::world::{EXECUTOR, Life, State, Thread, Wait, World};
use crate::wrap::threads::Start;

/// Waits in a thread's place, and gives it its turns. It ends with the thread, and the thread with it.
struct Turns {
    world: Arc<World>,
    number: usize,
    /// Until the thread's deadline.
    timer: Option<(Duration, Pin<Box<Sleep>>)>,
}

/// What a task of a thread does next.
enum Next {
    End,
    Run,
    /// It lets this other thread go first, or whoever is ready.
    Yield(Option<usize>),
    Wait(Option<Duration>),
}

impl Turns {
    fn next(&self, has_run: bool, context: &Context<'_>) -> Next {
        let (number, now) = (self.number, self.world.now());
        let state = &mut *self.world.lock();
        if state.threads[number].life != Life::Alive {
            return Next::End;
        }
        if !state.is_ready(number, now) {
            let thread = &mut state.threads[number];
            thread.waker = Some(context.waker().clone());
            return Next::Wait(thread.deadline);
        }
        if has_run {
            return Next::Yield(None);
        }
        match state.preferred(number, now) {
            Some(other) => Next::Yield(Some(other)),
            None => Next::Run,
        }
    }

    fn poll_timer(&mut self, deadline: Duration, context: &mut Context<'_>) -> Poll<()> {
        if self.timer.as_ref().is_none_or(|(until, _)| *until != deadline) {
            let time = &self.world.time;
            let instant = time.now_instant() + deadline.saturating_sub(time.elapsed());
            let mut sleep = Box::pin(sleep_until(instant));
            // By itself it would take a millisecond at least.
            sleep.as_mut().reset(instant);
            self.timer = Some((deadline, sleep));
        }
        let ready = match &mut self.timer {
            Some((_, sleep)) => sleep.as_mut().poll(context),
            None => Poll::Ready(()),
        };
        if ready.is_ready() {
            self.timer = None;
        }
        ready
    }
}

impl Future for Turns {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut has_run = false;
        loop {
            match self.next(has_run, context) {
                Next::End => return Poll::Ready(()),
                Next::Run => {
                    self.world.run(self.number);
                    has_run = true;
                }
                Next::Yield(other) => {
                    if let Some(other) = other {
                        self.world.lock().wake(other);
                    }
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Next::Wait(None) => {
                    self.timer = None;
                    return Poll::Pending;
                }
                Next::Wait(Some(deadline)) => {
                    if self.poll_timer(deadline, context).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for Turns {
    /// The simulator drops a task with its machine.
    fn drop(&mut self) {
        let number = self.number;
        self.world.kill(|thread| thread.worker.as_ref().is_some_and(|worker| worker.number == number));
    }
}

impl World {
    /// The simulation, to be kept.
    pub(crate) fn own(&'static self) -> Arc<World> {
        let world: *const World = self;
        // SAFETY: worlds are only ever made in an `Arc`, and this one is alive.
        unsafe {
            Arc::increment_strong_count(world);
            Arc::from_raw(world)
        }
    }

    /// Starts a thread on the caller's machine. Returns its `pthread_t`.
    pub(crate) fn start(
        &'static self,
        stack: usize,
        detached: bool,
        start: Start,
        argument: *mut c_void,
    ) -> Result<u64, i32> {
        let argument = argument as usize;
        if self.lock().over {
            return Err(libc::EAGAIN);
        }
        self.by_executor(move || {
            let world = self.own();
            let number = world.lock().threads.len();
            let worker = Worker::start(&world, number, stack, start, argument as *mut c_void)?;
            let mut thread = Thread::new(Some(plugin::node()), Some(worker));
            thread.detached = detached;
            let priority = world.lock().scheduler.priority(|below| world.draw_long(below));
            thread.priority = priority;
            {
                let state = &mut *world.lock();
                state.figures.threads += 1;
                state.threads.push(thread);
                state.scheduler.woken(&state.threads, number);
            }
            madsim::task::spawn(Turns { world, number, timer: None });
            Ok(FIRST_ID + number as u64)
        })
    }

    /// The executor's: gives a thread that can run a turn, until it waits, gives way or ends.
    fn run(&self, number: usize) {
        let worker = {
            let state = &mut *self.lock();
            state.figures.turns += 1;
            state.leave(number);
            state.threads[number].worker.clone()
        };
        let Some(worker) = worker else { return };
        let calls = {
            let mut state = self.lock();
            state.scheduler.turn(number, |below| self.draw_long(below))
        };
        worker.run(calls);
        loop {
            let (errand, failure) = {
                let state = &mut *self.lock();
                (state.errand.take(), state.failure.take())
            };
            if let Some(failure) = failure {
                // A thread that cannot go on: the executor, unlike it, has no C code below.
                panic!("{failure}");
            }
            let Some(errand) = errand else { break };
            let is_here = self.lock().threads[number].machine == Some(plugin::node());
            assert!(
                is_here,
                "a thread of another machine needs the executor while a task waits for its lock"
            );
            errand();
            worker.run(calls);
        }
        if self.lock().threads[number].life == Life::Ended {
            // What the C library frees at the real end, it frees before anything else happens.
            worker.join();
            self.lock().threads[number].worker = None;
        }
    }

    /// Waits. The caller looks again afterwards: it may have been woken early, or only the deadline may have passed. A thread that
    /// need not wait, because the deadline has passed, gives way: it spins on, if it does.
    pub(crate) fn wait(&self, wait: Wait, deadline: Option<Duration>) {
        let me = Worker::current();
        let number = me.map_or(EXECUTOR, |me| me.number);
        let now = self.now();
        let (cycle, waits) = {
            let state = &mut *self.lock();
            state.enter(number, wait, deadline);
            (state.cycle(number), !state.is_ready(number, now))
        };
        if let Some(cycle) = cycle {
            self.fail(&format!("deadlock: {cycle}"));
        }
        match me {
            Some(me) => {
                me.hand_back();
                me.await_turn();
                if waits {
                    me.calls_since_wait.store(0, Ordering::Relaxed);
                }
            }
            None => self.run_others(),
        }
    }

    /// The executor itself waits, in the middle of a task that calls C code. Threads of its machine run meanwhile, and
    /// time stands still, as it does for every other task.
    fn run_others(&self) {
        let machine = Some(plugin::node());
        loop {
            let now = self.now();
            let candidates = {
                let state = &*self.lock();
                if state.is_ready(EXECUTOR, now) {
                    break;
                }
                let holders = state.blockers(EXECUTOR);
                let can = |number: &usize| {
                    let thread = &state.threads[*number];
                    (thread.machine == machine || holders.contains(number))
                        && thread.life == Life::Alive
                        && state.is_ready(*number, now)
                };
                (1..state.threads.len()).filter(can).collect::<Vec<_>>()
            };
            let Some(chosen) = candidates.get(self.draw(candidates.len())).copied() else {
                let waits = self.lock().describe(EXECUTOR);
                self.fail(&format!(
                    "a task calls C code that {waits}, which takes time: outside the simulation it would block its \
                     runtime\n{}",
                    self.report()
                ));
            };
            self.run(chosen);
            // Its task waits for what it waits for now.
            self.lock().wake(chosen);
        }
        self.lock().leave(EXECUTOR);
    }

    /// Has the executor do something, in a task of the calling thread's machine.
    pub(crate) fn by_executor<T: Send + 'static>(&self, errand: impl FnOnce() -> T + Send + 'static) -> T {
        let Some(me) = Worker::current() else { return errand() };
        let place = Arc::new(Mutex::new(None));
        let answer = place.clone();
        self.lock().errand = Some(Box::new(move || {
            let done = errand();
            *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        }));
        me.hand_back();
        me.await_turn();
        let answer = place.lock().unwrap_or_else(PoisonError::into_inner).take();
        answer.unwrap_or_else(|| unreachable!("the executor gives a turn only after the errand"))
    }

    /// Lets other threads run, if it is time to.
    pub(crate) fn give_way(&self) {
        let Some(me) = Worker::current() else { return };
        if me.is_undisturbed() {
            return;
        }
        let (spent, calls) = (me.spends_call(), me.calls_since_wait.load(Ordering::Relaxed));
        if self.lock().gives_way(me.number, spent, calls) {
            self.wait(Wait::Nothing, None);
        }
    }

    /// Lets other threads run that can, because the thread asks for it.
    pub(crate) fn yields(&self) {
        let Some(me) = Worker::current() else { return };
        self.lock().yields(me.number);
        self.wait(Wait::Nothing, None);
    }

    /// The thread's function has returned, and all that it cleans up is done.
    pub(crate) fn ended(&self, number: usize, result: u64) {
        self.note("ended", 0);
        self.lock().ended(number, result as usize);
    }

    /// Takes threads out of the simulation, in the middle of what they do. They do not run now, and never again: what they
    /// have allocated is lost, but the C library's locks that they hold are freed, because clients of other machines in
    /// this process may need them.
    pub(crate) fn kill(&self, which: impl Fn(&Thread) -> bool) {
        let mut ending = Vec::new();
        {
            let state = &mut *self.lock();
            for number in 1..state.threads.len() {
                let thread = &mut state.threads[number];
                if thread.life != Life::Alive || !which(thread) {
                    continue;
                }
                thread.life = Life::Killed;
                let (worker, holds) = (thread.worker.take(), thread.holds.clone());
                state.figures.killed += 1;
                state.leave(number);
                for held in &holds {
                    state.release(number, held.address);
                }
                state.once.retain(|_, by| *by != number);
                ending.extend(worker.map(|worker| (worker, holds)));
            }
        }
        // All are still there, and so are their stacks, on which locks may lie.
        for (worker, holds) in &ending {
            worker.free(holds.clone());
        }
        {
            let state = &mut *self.lock();
            for (_, holds) in &ending {
                for held in holds {
                    state.wake_address(held.address);
                }
            }
        }
        for (worker, _) in ending {
            worker.end();
        }
    }
}

impl State {
    fn ended(&mut self, number: usize, result: usize) {
        let thread = &mut self.threads[number];
        (thread.life, thread.result) = (Life::Ended, result);
        for other in 0..self.threads.len() {
            if matches!(self.threads[other].wait, Wait::End(awaited) if awaited == number) {
                self.wake(other);
            }
        }
    }
}
