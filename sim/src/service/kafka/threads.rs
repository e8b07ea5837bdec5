//! What the threads of the workers' clients do, for the timeline: a lane for each name of a thread of a worker, with a bar for
//! each time in which it called the C library without a longer wait.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use madsim::task::NodeId;
use simulated_threads::Event;

use crate::timeline::{Kind, Party, Recording};

/// Calls with less time between them are of one bar, in simulated microseconds.
const SAME_BAR_US: u64 = 2_000;

/// Bars of a run that are kept: the first.
const MOST_BARS: usize = 20_000;

/// Calls of a bar that are named, the most frequent ones.
const NAMED_CALLS: usize = 4;

/// What the threads of a run do.
#[derive(Default)]
pub(crate) struct Activity(Mutex<Known>);

#[derive(Default)]
struct Known {
    workers: BTreeMap<NodeId, u8>,
    /// By the number of the thread.
    open: BTreeMap<usize, Bar>,
    done: Vec<Bar>,
    left_out: usize,
}

/// A time in which a thread was busy.
struct Bar {
    worker: u8,
    thread: usize,
    name: String,
    /// Simulated microseconds, and events of the trace.
    start: (u64, u64),
    end: (u64, u64),
    calls: BTreeMap<String, u32>,
}

impl Known {
    fn close(&mut self, thread: usize) {
        let Some(bar) = self.open.remove(&thread) else { return };
        match self.done.len() < MOST_BARS {
            true => self.done.push(bar),
            false => self.left_out += 1,
        }
    }

    fn call(&mut self, event: &Event<'_>, trace_event: u64) {
        let Some(worker) = self.workers.get(&event.machine).copied() else { return };
        let now = (event.time.as_micros() as u64, trace_event);
        let continues = |bar: &Bar| bar.name == event.name && now.0 < bar.end.0 + SAME_BAR_US;
        if self.open.get(&event.thread).is_some_and(|bar| !continues(bar)) {
            self.close(event.thread);
        }
        let bar = self.open.entry(event.thread).or_insert_with(|| Bar {
            worker,
            thread: event.thread,
            name: event.name.to_owned(),
            start: now,
            end: now,
            calls: BTreeMap::new(),
        });
        bar.end = now;
        match bar.calls.get_mut(event.call) {
            Some(calls) => *calls += 1,
            None => _ = bar.calls.insert(event.call.to_owned(), 1),
        }
    }
}

impl Bar {
    /// What it did, the most frequent first.
    fn text(&self) -> String {
        let total: u32 = self.calls.values().sum();
        let mut calls: Vec<(&String, &u32)> = self.calls.iter().collect();
        calls.sort_by_key(|(name, calls)| (std::cmp::Reverse(**calls), *name));
        let named: Vec<&str> = calls.iter().take(NAMED_CALLS).map(|(name, _)| name.as_str()).collect();
        let what = if total == 1 { "call" } else { "calls" };
        format!("{total} {what}: {}", named.join(", "))
    }

    fn label(&self) -> String {
        let name = if self.name.is_empty() { "a thread without a name" } else { &self.name };
        format!("worker {}, {name}", self.worker)
    }
}

impl Activity {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine is a worker's.
    pub fn add_worker(&self, machine: NodeId, worker: u8) {
        self.known().workers.insert(machine, worker);
    }

    /// A thread of any machine calls the C library.
    pub fn call(&self, event: &Event<'_>, trace_event: u64) {
        self.known().call(event, trace_event);
    }

    /// Adds lanes and bars to a recording.
    pub fn record(&self, recording: &mut Recording) {
        let mut known = self.known();
        let open: Vec<usize> = known.open.keys().copied().collect();
        open.into_iter().for_each(|thread| known.close(thread));
        let mut lanes: BTreeMap<(u8, String), Vec<&Bar>> = BTreeMap::new();
        for bar in &known.done {
            lanes.entry((bar.worker, bar.label())).or_default().push(bar);
        }
        for (place, ((_, label), bars)) in (0..).zip(lanes) {
            let lane = recording.add_lane(Party::Threads(place), label, "threads of clients");
            for bar in bars {
                let mut item = recording.item(Kind::ThreadRuns, Some(lane), bar.text());
                (item.start, item.event) = bar.start;
                (item.end, item.end_event) = (Some(bar.end.0), Some(bar.end.1));
                item.details.push(("thread".to_owned(), bar.thread.to_string()));
                recording.add(item);
            }
        }
        if known.left_out > 0 {
            let text = format!("{} bars of threads are left out", known.left_out);
            recording.moment(None, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::timeline::Recorder;

    fn bars_of(calls: &[(usize, &str, &str, u64)]) -> Vec<(String, u64, Option<u64>, String)> {
        let activity = Activity::default();
        let machine = madsim::runtime::Runtime::with_seed_and_config(1, madsim::Config::default())
            .handle()
            .create_node()
            .build()
            .id();
        activity.add_worker(machine, 2);
        for (thread, name, call, micros) in calls {
            // Events are made by the simulation only.
            activity.known().observed(machine, *thread, name, call, *micros);
        }
        let recorder = Recorder::on();
        let mut recording = recorder.recording().expect("it records");
        activity.record(&mut recording);
        let timeline = recording.timeline();
        let bar = |item: &crate::timeline::Item| {
            let lane = timeline.lanes[usize::from(item.lane.expect("it has a lane"))].name.clone();
            (lane, item.start, item.end, item.text.clone())
        };
        timeline.items.iter().map(bar).collect()
    }

    #[test]
    fn calls_without_a_longer_wait_between_them_are_one_bar_of_the_thread_name() {
        let bars = bars_of(&[
            (7, "rdk:main", "lock", 100),
            (7, "rdk:main", "poll", 1_500),
            (7, "rdk:main", "lock", 1_600),
            (8, "rdk:broker1", "send", 1_700),
            (7, "rdk:main", "lock", 3_600),
        ]);
        let bar = |name: &str, start, end, text: &str| {
            (format!("worker 2, {name}"), start, Some(end), text.to_owned())
        };
        let expected = [
            bar("rdk:main", 100, 1_600, "3 calls: lock, poll"),
            bar("rdk:broker1", 1_700, 1_700, "1 call: send"),
            bar("rdk:main", 3_600, 3_600, "1 call: lock"),
        ];
        assert_eq!(bars, expected);
    }

    #[test]
    fn what_threads_of_other_machines_do_is_left_out() {
        let mut known = Known::default();
        let runtime = madsim::runtime::Runtime::with_seed_and_config(1, madsim::Config::default());
        known.observed(runtime.handle().create_node().build().id(), 1, "t", "lock", 5);
        assert!(known.open.is_empty());
    }

    impl Known {
        fn observed(&mut self, machine: NodeId, thread: usize, name: &str, call: &str, micros: u64) {
            let time = Duration::from_micros(micros);
            self.call(&Event { time, machine, thread, name, call, size: 0 }, 0);
        }
    }
}
