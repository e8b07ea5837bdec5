//! Descriptions of who waits for what, and what ends a simulation that cannot go on.

use std::fmt::Write;

use crate::worker::Worker;
use crate::world::{EXECUTOR, Life, Signal, State, Wait, World, is_inside};

impl World {
    /// Ends the simulation, because of something in the calling thread. Below that may be C code, through which no panic can
    /// unwind: the executor panics in its place.
    pub(crate) fn fail(&self, what: &str) -> ! {
        let me = Worker::current();
        let text = format!("{}: {what}", self.place());
        if let Some(me) = me {
            self.lock().failure.get_or_insert(text);
            loop {
                me.hand_back();
                // It gets no other turn than the one to end.
                me.await_turn();
            }
        }
        if is_inside() {
            // A task that has called C code: neither can it unwind, nor can another thread do it in its place. While this
            // crate's code runs, it is the process that ends.
            eprintln!("{text}");
            std::process::abort();
        }
        panic!("{text}");
    }

    /// The seed, the time and the calling thread.
    pub(crate) fn place(&self) -> String {
        let (seed, now) = (self.setup().seed, self.now().as_secs_f64());
        let number = Worker::current().map_or(EXECUTOR, |me| me.number);
        format!("seed {seed} at {now:.6} s, {}", self.lock().named(number))
    }

    /// The same, unless the calling thread is in the middle of a change.
    pub(crate) fn try_place(&self) -> Option<String> {
        self.is_free().then(|| self.place())
    }

    /// All threads that have not ended, and what each waits for.
    pub(crate) fn report(&self) -> String {
        let state = &*self.lock();
        let mut text = String::new();
        for number in 0..state.threads.len() {
            let thread = &state.threads[number];
            if thread.life == Life::Alive && (number != EXECUTOR || !matches!(thread.wait, Wait::Nothing)) {
                // Writing to a string does not fail.
                let _ = writeln!(text, "  {} {}", state.named(number), state.describe(number));
            }
        }
        text
    }
}

impl State {
    /// A thread by its number, name and machine.
    pub(crate) fn named(&self, number: usize) -> String {
        let thread = &self.threads[number];
        match thread.machine {
            Some(machine) => format!("thread {number} {:?} of machine {machine}", thread.name),
            None => "a task".to_owned(),
        }
    }

    /// What a thread waits for.
    pub(crate) fn describe(&self, number: usize) -> String {
        let thread = &self.threads[number];
        let mut text = match &thread.wait {
            Wait::Nothing => "can run".to_owned(),
            Wait::Lock { address, .. } => {
                let holders =
                    self.locks.get(address).map(|holders| holders.threads().map(|holder| self.named(holder)));
                let holders: Vec<String> = holders.into_iter().flatten().collect();
                match holders.as_slice() {
                    [] => format!("waits for the lock {address:#x}, which is free"),
                    holders => format!("waits for the lock {address:#x}, held by {}", holders.join(" and ")),
                }
            }
            Wait::Signal { address, signal, .. } => {
                let signal = match signal {
                    Signal::Condition => "condition",
                    Signal::Futex => "futex",
                    Signal::Semaphore => "semaphore",
                };
                format!("waits for the {signal} {address:#x}")
            }
            Wait::Descriptors(wanted) => {
                let each = |(descriptor, events): &(i32, i16)| {
                    let reads = if events & libc::POLLIN != 0 { "reads" } else { "writes" };
                    format!("{} ({reads})", self.descriptors.describe(*descriptor))
                };
                format!("waits for {}", wanted.iter().map(each).collect::<Vec<_>>().join(", "))
            }
            Wait::Time => "sleeps".to_owned(),
            Wait::End(other) => format!("waits for the end of {}", self.named(*other)),
            Wait::Once(address) => format!("waits until {address:#x} has been done once"),
        };
        if !thread.holds.is_empty() {
            let held: Vec<String> = thread.holds.iter().map(|held| format!("{:#x}", held.address)).collect();
            let _ = write!(text, ", holds {}", held.join(" and "));
        }
        if let Some(deadline) = thread.deadline {
            let _ = write!(text, ", until {:.6} s", deadline.as_secs_f64());
        }
        text
    }

    /// The threads of which this one waits for each to go on.
    pub(crate) fn blockers(&self, number: usize) -> Vec<usize> {
        let thread = &self.threads[number];
        if thread.deadline.is_some() {
            return Vec::new();
        }
        match &thread.wait {
            Wait::Lock { address, .. } => {
                self.locks.get(address).map(|holders| holders.threads().collect()).unwrap_or_default()
            }
            Wait::End(other) if self.threads[*other].life == Life::Alive => vec![*other],
            Wait::Once(address) => self.once.get(address).copied().into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// A description of the threads that wait for each other, if this one is one of them.
    pub(crate) fn cycle(&self, number: usize) -> Option<String> {
        let mut path = vec![number];
        self.path_back(number, &mut path).then(|| {
            let each = |number: &usize| format!("{} {}", self.named(*number), self.describe(*number));
            path.iter().map(each).collect::<Vec<_>>().join("; ")
        })
    }

    fn path_back(&self, to: usize, path: &mut Vec<usize>) -> bool {
        let Some(last) = path.last() else { return false };
        for next in self.blockers(*last) {
            if next == to {
                return true;
            }
            if path.contains(&next) {
                continue;
            }
            path.push(next);
            if self.path_back(to, path) {
                return true;
            }
            path.pop();
        }
        false
    }
}
