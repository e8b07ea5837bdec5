//! Violations in plain terms: what one of a name means, and what the evidence says.

use crate::oracle::cell::{Cell, Seen};
use crate::oracle::{Difference, Position, Violation, Window};
use crate::timeline::history::in_words;
use crate::timeline::recording::short;
use crate::timeline::{Judged, Recording};

/// Characters of the evidence that are kept.
const EVIDENCE: usize = 2_000;

/// A violation, for a reader.
struct Meaning {
    title: &'static str,
    meaning: &'static str,
    finding: String,
}

fn of(title: &'static str, meaning: &'static str, finding: String) -> Meaning {
    Meaning { title, meaning, finding }
}

fn record(Position { partition, offset }: &Position) -> String {
    format!("the record at offset {offset} of partition {partition}")
}

fn window(Window { source, end }: &Window) -> String {
    format!("the window of {source:?} that ends at {end}")
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Progress(partition) => format!("the progress of partition {partition}"),
        Cell::Registry => "the registry of partitions".to_owned(),
        Cell::Count(partition, key) => {
            format!("the count of partition {partition} in {}", window(&Window::from(key)))
        }
        Cell::Alert(key) => format!("the alert of {}", window(&Window::from(key))),
        Cell::Row { partition, offset, is_dead_letter } => {
            let table = if *is_dead_letter { "dead_letters" } else { "events" };
            format!("the row in {table} of the record at offset {offset} of partition {partition}")
        }
    }
}

fn replicas(seen: &[Seen]) -> String {
    match seen {
        [one] => format!("the store has {}", in_words(one)),
        _ => format!("the replicas have: {}", seen.iter().map(in_words).collect::<Vec<_>>().join(" | ")),
    }
}

/// Values are written as Rust has them.
fn plain(value: &str) -> String {
    let inner = value.strip_prefix("Some(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(value);
    let count = inner.strip_prefix("Count { count: ").and_then(|count| count.strip_suffix(" }"));
    match count {
        Some(count) => count.replace(", through_offset: ", " through offset "),
        None if inner == "None" => "nothing".to_owned(),
        None => inner.to_owned(),
    }
}

fn differs(Difference { found, expected }: &Difference) -> String {
    format!("found {}, expected {}", plain(found), plain(expected))
}

fn meaning(violation: &Violation) -> Meaning {
    match violation {
        Violation::LostEvent(at) => of(
            "An event is lost",
            "Every valid record of the log must have a row in the table events when the log is drained.",
            format!("{} has no row.", capital(record(at))),
        ),
        Violation::ForeignEvent(at) => of(
            "A row without a record",
            "Every row of the table events must come from a valid record of the log.",
            format!("There is a row for {}, which is not a valid record.", record(at)),
        ),
        Violation::AlteredEvent(at, difference) => of(
            "A row differs from its record",
            "A row of the table events is a function of its record, so that writing it again changes nothing.",
            format!("{}: {}.", capital(record(at)), differs(difference)),
        ),
        Violation::LostDeadLetter(at) => of(
            "A dead letter is lost",
            "Every record that is not a valid event must have a row in the table dead_letters.",
            format!("{} has no row.", capital(record(at))),
        ),
        Violation::ForeignDeadLetter(at) => of(
            "A dead letter without an invalid record",
            "Every row of the table dead_letters must come from a record that is not a valid event.",
            format!("There is a row for {}.", record(at)),
        ),
        Violation::AlteredDeadLetter(at, difference) => of(
            "A dead letter differs from its record",
            "A row of the table dead_letters is a function of its record, so that writing it again changes nothing.",
            format!("{}: {}.", capital(record(at)), differs(difference)),
        ),
        Violation::DuplicateRow(at) => of(
            "A record has two rows",
            "A record is either an event or a dead letter.",
            format!("{} has a row in both tables.", capital(record(at))),
        ),
        Violation::MissingAlert(key) => of(
            "An alert is missing",
            "A window whose events reach the threshold, over all partitions, must have an alert.",
            format!("{} reached the threshold and has no alert.", capital(window(key))),
        ),
        Violation::PhantomAlert(key) => of(
            "An alert without enough events",
            "A window whose events do not reach the threshold must have no alert.",
            format!("{} has an alert and did not reach the threshold.", capital(window(key))),
        ),
        Violation::WrongAlertCount(key, difference) => of(
            "An alert has the wrong count",
            "An alert counts the events of its window over all partitions.",
            format!("{}: {}.", capital(window(key)), differs(difference)),
        ),
        Violation::AlertAheadOfTruth(key, difference) => of(
            "An alert counts more than the log has",
            "While the pipeline runs, an alert counts at least the threshold, and at most the events that the log has.",
            format!("{}: {}, lowest and highest.", capital(window(key)), differs(difference)),
        ),
        Violation::AlertBehindProgress { window: key, seen, passed } => of(
            "Progress has passed events that the alert does not count",
            "Progress says that everything below it is durable in every table, alerts included. After a crash nobody \
             would look at these events again, so the alert would stay wrong.",
            format!(
                "Progress has passed {} of {} over all partitions; of its alert {}.",
                if *passed == 1 { "1 event".to_owned() } else { format!("{passed} events") },
                window(key),
                replicas(seen)
            ),
        ),
        Violation::WrongCount(partition, key, difference) => of(
            "A count is wrong",
            "A count of a partition's events in a window must be that of the log up to the offset that is stored with it.",
            format!("Partition {partition}, {}: {}.", window(key), differs(difference)),
        ),
        Violation::NotDurable { cell: of_cell, seen } => of(
            "An acknowledged write is not durable",
            "When a worker learns that something is written, a quorum of replicas must have it, or something newer. What \
             the worker does next relies on that.",
            format!("A worker learned that {} is written; {}.", cell(of_cell), replicas(seen)),
        ),
        Violation::Unregistered { partition, seen } => of(
            "A partition is counted before it is registered",
            "Workers sum the counts of all registered partitions. A count of a partition that is not registered at a \
             quorum of replicas is one that another worker may leave out.",
            format!(
                "A worker is about to write counts of partition {partition}; of its registration {}.",
                replicas(seen)
            ),
        ),
        Violation::RegistryNotRead { partition, through_offset, next_offset } => of(
            "The registry was not read after the counts",
            "Only a read of the registry that begins after the own counts are acknowledged sees every partition that may \
             have counted the same window and not seen this count.",
            format!(
                "Progress of partition {partition} is about to become {next_offset}, and since its counts through offset \
                 {through_offset} were acknowledged, the worker has not begun to read the registry."
            ),
        ),
        Violation::ProgressAheadOfData { position, next_offset } => of(
            "Progress is ahead of the data",
            "Progress says that everything below it is durable in every table. After a crash the next worker starts there, \
             so what is missing below it is lost for good.",
            format!(
                "Progress {next_offset} has passed {}, whose row or count a quorum does not have.",
                record(position)
            ),
        ),
        Violation::ProgressBack { partition, acknowledged, read } => of(
            "Progress went back",
            "A worker that is assigned a partition must read at least the progress that was acknowledged before.",
            format!(
                "Progress {acknowledged} of partition {partition} was acknowledged, and {} was read.",
                read.map_or("none".to_owned(), |read| read.to_string())
            ),
        ),
        Violation::ReportedAhead { worker, partition, reported, durable } => of(
            "A position is reported that is not durable",
            "The positions that a worker reports to its group are what dashboards show as done, so they follow progress.",
            format!(
                "Worker {worker} reported {reported} for partition {partition}, and its progress is {}.",
                durable.map_or("none".to_owned(), |offset| offset.to_string())
            ),
        ),
        Violation::CommittedAhead { partition, offset, durable } => of(
            "A position is committed that is not durable",
            "The positions that are committed to the group are what dashboards show as done, so they follow progress.",
            format!(
                "Offset {offset} of partition {partition} was committed, and progress is {durable} at most."
            ),
        ),
        Violation::CommittedBehind { partition, committed, durable } => of(
            "A committed position stays behind progress",
            "Dashboards show the positions that are committed to the group, so these reach progress soon after the \
             faults have ended.",
            format!(
                "Partition {partition} is processed up to {durable}, and its committed position is {}.",
                committed.map_or("none".to_owned(), |offset| offset.to_string())
            ),
        ),
        Violation::StartedElsewhere { worker, partition, offset, progress } => of(
            "A partition is started somewhere else than at its progress",
            "A worker reads a partition from the stored progress on, and from nowhere else: what is before it is done, \
             and what is after it is not.",
            format!(
                "Worker {worker} started partition {partition} at {offset}, and its progress is {progress}."
            ),
        ),
        Violation::DeliveredAfterRevocation { worker, position } => of(
            "Records are delivered after their partition was revoked",
            "After a consumer has reported to its worker that a partition is revoked or lost, no records of it follow: another \
             worker may have them.",
            format!("Worker {worker} got offset {} of partition {}.", position.offset, position.partition),
        ),
        Violation::RecordPassedOver { worker, position } => of(
            "A record is passed over",
            "A consumer delivers each record of the log from the position on at which a partition was started, or says that \
             the position is out of range.",
            format!(
                "Worker {worker} got what follows offset {} of partition {}, and not the record.",
                position.offset, position.partition
            ),
        ),
        Violation::GivenBeforeRelease { worker, partition, to } => of(
            "A partition is given to another worker before its holder has released it",
            "A worker that must give a partition back finishes its work on it first; until it has, no other worker gets \
             it, unless the group has removed the worker.",
            format!("Worker {worker} held partition {partition} when worker {to} got it."),
        ),
        Violation::OutsideGroup { worker } => of(
            "A worker stays outside its group",
            "A worker that has lost its membership joins again by itself: without the other workers, nobody would read the log.",
            format!(
                "Worker {worker} has a consumer, but the group has no member of it, although all faults have ended."
            ),
        ),
        Violation::LeftUnasked { worker } => of(
            "A worker leaves its group although it runs",
            "The member thread serves the group whatever the worker and the tables do, so a worker that runs never \
             exceeds the longest time between two polls.",
            format!("Worker {worker} left, and nobody had asked it to stop."),
        ),
        Violation::ThreadSpins { thread, calls } => of(
            "A thread of a client occupies a processor",
            "A client waits for what it has to do; a thread that asks again and again takes a processor from the worker.",
            format!("The thread {thread:?} called the C library {calls} times without waiting."),
        ),
        Violation::TwoOwners { partition, epoch } => of(
            "A group gives a partition to two members",
            "In one generation of a group, each partition has one owner.",
            format!("Partition {partition} has two in generation {epoch}."),
        ),
        Violation::WrongProgress { partition, next_offset, log_end } => of(
            "Progress is wrong at the end",
            "When the log is drained, the progress of each partition is the end of its log.",
            format!(
                "Partition {partition}: progress is {}, the log ends at {log_end}.",
                next_offset.map_or("none".to_owned(), |offset| offset.to_string())
            ),
        ),
        Violation::WrongRegistry { registered, least, most } => of(
            "The registry is wrong at the end",
            "The registry must have each partition that has counts, or sums leave it out, and none that the topic does not \
             have.",
            format!("It has {registered} partitions, and must have {least} to {most}."),
        ),
        Violation::StaleRecordApplied { worker, position } => of(
            "A record of an older assignment was applied",
            "A worker must process only what is delivered to its current assignment of a partition: between the two, \
             another worker may have had the partition.",
            format!(
                "Worker {worker} wrote {}, which was not delivered to its current assignment.",
                record(position)
            ),
        ),
        Violation::MemoryExceeded { worker, partition, bytes, limit } => of(
            "A worker holds too many records",
            "The memory of a worker is bounded by its options.",
            format!(
                "{bytes} bytes of partition {partition} wait in the inbox of worker {worker}, and its limit is {limit}."
            ),
        ),
        Violation::AppendLost(at) => of(
            "A record that was acknowledged is not in the log",
            "When an append is acknowledged, all replicas that are in sync have the record, so no fault that the cluster \
             survives may lose it.",
            format!("{} was acknowledged, and is not there.", capital(record(at))),
        ),
        Violation::LogChanged(at) => of(
            "A record was delivered altered",
            "The broker must deliver each record as it was appended.",
            format!("{} was delivered with other content.", capital(record(at))),
        ),
        Violation::ReplicasDiffer { table, nodes: (one, other) } => of(
            "Replicas differ after a repair",
            "When a repair has ended, all replicas have the same rows.",
            format!("Nodes {} and {} differ in the table {table}.", one + 1, other + 1),
        ),
        Violation::RequestRefused { worker, error } => of(
            "A valid request was refused",
            "The store must not refuse a request with which nothing is wrong.",
            format!("Worker {worker} ended: {error}."),
        ),
        Violation::InitFailed { error } => of(
            "The tables are not bound",
            "Where the topic exists, init binds the tables to it: what brokers do not know yet, it asks for again.",
            format!("Init ended: {error}."),
        ),
        Violation::GaveUp { worker, error } => of(
            "A worker gave up",
            "A worker without a deadline for retries retries until the store responds.",
            format!("Worker {worker} ended: {error}."),
        ),
        Violation::Stuck { partitions } => {
            let behind = partitions.iter().filter(|(_, (progress, end))| progress.unwrap_or(0) < *end);
            let behind: Vec<String> = behind
                .map(|(partition, (progress, end))| {
                    let progress = progress.map_or("none".to_owned(), |progress| progress.to_string());
                    format!("partition {partition}: progress {progress} of {end}")
                })
                .collect();
            of(
                "The log is not drained",
                "When the faults have ended, or enough of them, the workers must process the log to its end.",
                format!("{}.", capital(behind.join(", "))),
            )
        }
        Violation::Refused { worker, error } => of(
            "A worker refused to continue",
            "A worker refuses to continue where log and tables contradict each other. Here nothing was damaged, so \
             either they contradict each other because something went wrong before, or the worker is wrong.",
            format!("Worker {worker} ended: {error}."),
        ),
        Violation::NotRefused { difference } => of(
            "Damage went unnoticed",
            "Where log and tables disagree, a worker must refuse to continue, or verify must name a difference.",
            format!("{difference}."),
        ),
        Violation::VerifyWrong { found } => of(
            "A false report of damage",
            "Where log and tables agree, verify must name no difference.",
            format!("It found {found}."),
        ),
        Violation::EndedUnexpectedly { worker } => of(
            "A worker ended",
            "A worker runs until it is asked to stop.",
            format!("Worker {worker} ended without being asked to."),
        ),
        Violation::DidNotStop { worker } => of(
            "A worker did not stop",
            "A worker that is asked to stop ends within its deadline.",
            format!("Worker {worker} was still running long after it."),
        ),
        Violation::Panicked { message } => {
            of("A panic", "Neither the pipeline nor the simulation may panic.", message.clone())
        }
        Violation::Crashed { how } => of(
            "A crash",
            "The process of a run must end by itself, with a report.",
            format!("It ended without one: {how}."),
        ),
    }
}

fn capital(text: String) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}

impl Recording {
    /// A violation is found.
    pub fn violation(&mut self, violation: &Violation) {
        let Meaning { title, meaning, finding } = meaning(violation);
        let lane = match violation {
            Violation::StaleRecordApplied { worker, .. }
            | Violation::MemoryExceeded { worker, .. }
            | Violation::ReportedAhead { worker, .. }
            | Violation::StartedElsewhere { worker, .. }
            | Violation::GivenBeforeRelease { worker, .. }
            | Violation::LeftUnasked { worker }
            | Violation::OutsideGroup { worker }
            | Violation::DeliveredAfterRevocation { worker, .. }
            | Violation::RecordPassedOver { worker, .. }
            | Violation::RequestRefused { worker, .. }
            | Violation::GaveUp { worker, .. }
            | Violation::Refused { worker, .. }
            | Violation::EndedUnexpectedly { worker }
            | Violation::DidNotStop { worker } => Some(*worker),
            _ => None,
        };
        let host = |worker| crate::timeline::Party::Host(crate::scenario::fault::Host::Worker(worker));
        let (at, event) = self.now;
        let judged = Judged {
            name: violation.name().to_owned(),
            title: title.to_owned(),
            meaning: meaning.to_owned(),
            finding: short(finding, EVIDENCE),
            evidence: short(format!("{violation:?}"), EVIDENCE),
            at,
            event,
            lane: lane.map(|worker| self.lane(host(worker))),
        };
        self.violations.push(judged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::cell::Value;

    #[test]
    fn the_evidence_is_in_the_sentence() {
        let seen = vec![Seen::Value(Value::Progress(7)), Seen::Nothing, Seen::Down];
        let found = meaning(&Violation::NotDurable { cell: Cell::Progress(3), seen });
        assert_eq!(
            found.finding,
            "A worker learned that the progress of partition 3 is written; the replicas have: 7 | nothing | down."
        );
        let (found, expected) = ("None".to_owned(), "Some((1, 7))".to_owned());
        assert_eq!(differs(&Difference { found, expected }), "found nothing, expected (1, 7)");
        let count = exactlyonce::store::Count { count: 3, through_offset: 9 };
        assert_eq!(plain(&format!("{:?}", Some(count))), "3 through offset 9");
        let position = Position { partition: 1, offset: 40 };
        let lost = meaning(&Violation::LostEvent(position));
        assert_eq!(lost.finding, "The record at offset 40 of partition 1 has no row.");
    }
}
