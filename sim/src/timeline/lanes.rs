//! The lanes of workers and of the log. The services add those of their hosts after them.

use crate::context::SimContext;
use crate::parties::Service;
use crate::scenario::Log;
use crate::scenario::fault::Host;
use crate::timeline::Party;

impl SimContext {
    /// Adds the lanes of who is there in each run: requests go from the middle up to the log, and down to the tables.
    pub(crate) fn add_lanes(&self) {
        self.record(|recording| {
            recording.add_lane(Party::Outside, "outside", "outside");
            recording.add_lane(Service::Log.into(), "log", "log");
            if matches!(self.log_options, Log::Simple) {
                recording.add_lane(Service::Coordinator.into(), "group", "log");
            }
            for worker in 0..self.options.workers {
                recording.add_lane(Party::Host(Host::Worker(worker)), format!("worker {worker}"), "workers");
            }
        });
    }
}
