//! Runs the cases of a backend, and compares their observations with `docs/contract.md`.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::document::{self, Table};
use crate::suite::{Backend, Case, NotApplicable};

/// Runs the cases of a backend: concurrently, unless it waits for the one before.
pub trait CaseRunner: Send + Sync + 'static {
    /// The backend.
    type Backend: Backend;

    /// Runs a case and cleans up. Returns the observations.
    fn run(&self, case: &Case<Self::Backend>) -> Result<String, Failed>;

    /// After the last case: restores the services to their state before the first one.
    fn finish(&self) -> Result<(), String>;
}

/// Cases of simulated services that run at the same time unless `--test-threads` says otherwise: they wait more than they
/// compute.
const CONCURRENT: usize = 6;

/// Which tests are run.
#[derive(Clone, Copy)]
pub struct Mode {
    /// Those that require no services.
    pub plain: bool,
    /// Those that require services.
    pub services: bool,
    /// Whether the document is written instead of compared.
    pub write: bool,
}

impl Mode {
    /// The mode that the arguments request. The flags for ignored tests are cleared, because a case that is not
    /// applicable must stay ignored with `--ignored`.
    pub fn of(arguments: &mut Arguments) -> Self {
        let services = arguments.ignored || arguments.include_ignored;
        let plain = !arguments.ignored;
        let threads = arguments.test_threads.unwrap_or(CONCURRENT);
        let mode = Self { services, plain, ..Self::simulated(arguments) };
        if !services {
            arguments.test_threads = Some(threads);
        }
        mode
    }

    /// The mode for simulated services: everything is run.
    pub fn simulated(arguments: &mut Arguments) -> Self {
        arguments.ignored = false;
        arguments.include_ignored = false;
        arguments.test_threads = Some(1); // the cases pause and kill shared services
        let write = std::env::var_os("EXACTLYONCE_CONTRACT_WRITE").is_some_and(|value| value == "1");
        Self { plain: true, services: true, write }
    }
}

/// The cases of a service in a backend.
pub struct Plan<G: CaseRunner> {
    /// The service, as in the marks of the document.
    pub service: &'static str,
    /// The backend, as in the names of the tests.
    pub backend: &'static str,
    /// The backend's column in the document.
    pub column: &'static str,
    /// Whether it requires services.
    pub needs_services: bool,
    /// All cases.
    pub cases: Vec<Case<G::Backend>>,
    /// The text of the list of cases that are not applicable.
    pub not_applicable: &'static str,
    /// The length of that list.
    pub not_applicable_at_most: usize,
    /// Runs the cases.
    pub runner: G,
}

/// The name of a case, and the documented behaviour.
type CaseText = (&'static str, &'static str);

/// The part of the document that a backend writes.
struct Part {
    service: &'static str,
    column: &'static str,
    cases: Vec<CaseText>,
}

/// A backend, and what was observed of it.
struct Observed<G> {
    runner: G,
    observations: Mutex<BTreeMap<&'static str, String>>,
    write: Option<Part>,
}

impl<G> Observed<G> {
    /// Adds an observation, and writes all to the document, in that mode.
    fn write(&self, case: Option<(&'static str, String)>) -> Result<(), String> {
        let mut observations = self.observations.lock().unwrap_or_else(PoisonError::into_inner);
        observations.extend(case);
        let Some(Part { service, column, cases }) = &self.write else { return Ok(()) };
        let path = document::path();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let table = Table::parse(&text, service)?.with(cases, column, &observations);
        std::fs::write(&path, table.replace_in(&text, service)?)
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// The work after the last case.
pub trait Finish {
    /// Does it.
    fn finish(&self) -> Result<(), String>;
}

impl<G: CaseRunner> Finish for Arc<Observed<G>> {
    fn finish(&self) -> Result<(), String> {
        self.runner.finish()?;
        self.write(None)
    }
}

/// Finishes all backends; returns whether all succeeded.
pub fn finish(backends: Vec<Box<dyn Finish>>) -> bool {
    let mut succeeded = true;
    for error in backends.iter().filter_map(|backend| backend.finish().err()) {
        eprintln!("after the last case: {error}");
        succeeded = false;
    }
    succeeded
}

/// Tests without services.
pub fn plain(of: &str, tests: Vec<(&'static str, fn())>) -> impl Iterator<Item = Trial> {
    tests.into_iter().map(move |(name, test)| {
        Trial::test(format!("{of}::{name}"), move || {
            test();
            Ok(())
        })
    })
}

/// Adds the trials of a backend.
pub fn add<G: CaseRunner>(trials: &mut Vec<Trial>, mode: Mode, plan: Plan<G>) -> Box<dyn Finish> {
    let Plan { service, backend, column, needs_services, cases, not_applicable, .. } = plan;
    let runs = if needs_services { mode.services } else { mode.plain };
    let listed = NotApplicable::parse(not_applicable);
    let names: Vec<_> = cases.iter().map(|case| (case.name, case.documented)).collect();
    let checked = match &listed {
        Ok(listed) => listed.check(&cases, plan.not_applicable_at_most),
        Err(error) => Err(error.clone()),
    };
    // In every run, because the list determines which cases are run.
    let name = format!("{backend}::{service}::the_list_of_cases_that_are_not_applicable_is_correct");
    trials.push(Trial::test(name, move || Ok(checked?)));
    if mode.plain && !mode.write {
        let names = names.clone();
        let name = format!("{backend}::{service}::the_document_has_a_row_for_each_case_and_no_other");
        trials.push(Trial::test(name, move || Ok(document_is_complete(service, column, &names)?)));
    }
    if mode.plain && !mode.write && !needs_services {
        let name = format!("{backend}::{service}::the_document_says_the_same_of_the_real_service");
        trials.push(Trial::test(name, move || Ok(document_agrees(service)?)));
    }
    let listed = listed.unwrap_or_default();
    let mut observations = BTreeMap::new();
    for case in &cases {
        if let Some(reason) = listed.0.get(case.name) {
            observations.insert(case.name, format!("{}{reason}*", document::NOT_APPLICABLE));
        }
    }
    let write = (runs && mode.write).then_some(Part { service, column, cases: names });
    let observed = Arc::new(Observed { runner: plan.runner, observations: Mutex::new(observations), write });
    let (with_faults, without_faults): (Vec<_>, Vec<_>) =
        cases.into_iter().partition(|case| !case.needs.is_empty());
    let ordered: Vec<_> = match needs_services {
        true => without_faults.into_iter().chain(with_faults).collect(),
        // Those that take longest begin first, since the others run at the same time.
        false => with_faults.into_iter().rev().chain(without_faults).collect(),
    };
    for case in ordered {
        let name = format!("{backend}::{service}::{}", case.name);
        let reason = listed.0.get(case.name).cloned();
        let observed = observed.clone();
        let run = move || match reason {
            Some(reason) => Ok(Completion::ignored_with(format!("not applicable: {reason}"))),
            None => one(&observed, &case, service, column).map(|()| Completion::Completed),
        };
        trials.push(Trial::ignorable_test(name, run).with_ignored_flag(!runs));
    }
    Box::new(observed)
}

fn one<G: CaseRunner>(
    observed: &Observed<G>,
    case: &Case<G::Backend>,
    service: &str,
    column: &str,
) -> Result<(), Failed> {
    let judged = |text: String| {
        if observed.write.is_some() {
            // Written after every case, because a run may be interrupted.
            return Ok(observed.write(Some((case.name, text)))?);
        }
        let path = document::path();
        let written =
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let written = Table::parse(&written, service)?.observed(case.name, column).to_owned();
        if written != text {
            return Err(Failed::from(format!(
                "observed:  {text}\nbut docs/contract.md says:\n           {written}\n(EXACTLYONCE_CONTRACT_WRITE=1 rewrites it)"
            )));
        }
        Ok(())
    };
    observed.runner.run(case).and_then(judged)
}

/// The message of a panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

fn document_agrees(service: &str) -> Result<(), String> {
    let path = document::path();
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    match Table::parse(&text, service)?.differences().as_slice() {
        [] => Ok(()),
        differences => Err(format!("its columns of {service} differ in {}", differences.join(", "))),
    }
}

fn document_is_complete(service: &str, column: &str, cases: &[(&str, &str)]) -> Result<(), String> {
    let path = document::path();
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let table = Table::parse(&text, service)?;
    if table != table.with(cases, column, &BTreeMap::new()) {
        return Err(format!(
            "its table of {service} does not have exactly these cases (EXACTLYONCE_CONTRACT_WRITE=1 rewrites it)"
        ));
    }
    match cases.iter().find(|case| table.observed(case.0, column).is_empty()) {
        Some(case) => Err(format!("it has no observation of {}", case.0)),
        None => Ok(()),
    }
}
