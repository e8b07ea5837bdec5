//! Cases, backends, and the list of cases that a backend cannot run: shared by the suites of all services.
//!
//! This file does not depend on the runner of cases, so that another crate can include it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

/// What the cases of a service run on: the real service, or a simulated one.
#[allow(async_fn_in_trait)] // cases run on the thread of their backend
pub trait Backend: Sized + 'static {
    /// Operations that cases may use in addition to requests, and that not every backend supports.
    type Verb: Copy + Eq + Debug + Send + Sync + 'static;

    /// The verbs that this backend supports.
    const VERBS: &'static [Self::Verb];

    /// Cleans up after a case, even if it failed: afterwards all nodes run and see each other as up, and everything that
    /// the case named `case` created is deleted.
    async fn heal(&self, case: &str) -> Result<(), String>;

    /// After the last case: restores the services to their state before the first one.
    async fn finish(&self) -> Result<(), String>;
}

/// The future of a case. It stays on the thread of its backend.
pub type Running<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One sentence about a service. It fails by [`Observations::check`], or by panicking.
pub struct Case<W: Backend> {
    /// The sentence.
    pub name: &'static str,
    /// The behaviour according to the documentation or the source of the service, with the reference.
    pub documented: &'static str,
    /// The verbs that it needs.
    pub needs: &'static [W::Verb],
    /// Runs it, and records what was observed.
    pub run: for<'a> fn(&'a W, &'a Observations) -> Running<'a>,
}

/// `case!(name_of_a_function, [verb, ...], "documented behaviour")`, with the type `Verb` in scope. Its variants, and those
/// of the faults, need no path: `[Host(Kill), Link(Cut)]`.
macro_rules! case {
    ($name:ident, [], $documented:expr $(,)?) => {
        crate::suite::case!(@ $name, &[], $documented)
    };
    ($name:ident, [$($verb:expr),+ $(,)?], $documented:expr $(,)?) => {
        crate::suite::case!(@ $name, {
            #[allow(unused_imports)]
            use {Verb::*, ::simulated_hosts::{ClockFaultName::*, DiskFault::*, HostFault::*, LinkFaultName::*}};
            &[$($verb),+]
        }, $documented)
    };
    (@ $name:ident, $needs:expr, $documented:expr) => {
        crate::suite::Case {
            name: stringify!($name),
            documented: $documented,
            needs: $needs,
            run: |backend, seen| Box::pin($name(backend, seen)),
        }
    };
}
pub(crate) use case;

/// The observations of a case. They are the same in every run: no random values, no measured times.
pub struct Observations {
    /// The name of the case.
    pub case: &'static str,
    /// Whether observations are printed immediately.
    print: bool,
    notes: RefCell<Vec<String>>,
    wrong: RefCell<Vec<String>>,
}

impl Observations {
    /// Without observations yet; they will be printed.
    pub fn printed(case: &'static str) -> Self {
        Self { print: true, ..Self::silent(case) }
    }

    /// Without observations yet; they will not be printed.
    pub fn silent(case: &'static str) -> Self {
        Self { case, print: false, notes: RefCell::default(), wrong: RefCell::default() }
    }

    /// Records an observation.
    pub fn note(&self, observation: impl Into<String>) {
        let observation = observation.into();
        if self.print {
            println!("    observed: {observation}");
        }
        self.notes.borrow_mut().push(observation);
    }

    /// Records an observation. If it is not the expected one, the case fails when it has ended.
    pub fn check(&self, what: &str, observed: &str, expected: &str) {
        self.note(format!("{what}: {observed}"));
        if observed != expected {
            if self.print {
                println!("    expected: {what}: {expected}");
            }
            self.wrong.borrow_mut().push(format!("{what}\n  observed: {observed}\n  expected: {expected}"));
        }
    }

    /// The observations that were not expected ones.
    pub fn verdict(&self) -> Result<(), String> {
        let wrong = self.wrong.borrow();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// All observations, in order.
    pub fn text(&self) -> String {
        self.notes.borrow().join("; ")
    }
}

/// The cases that a backend cannot run, each with the reason: lines `case: reason`, and comments after `#`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NotApplicable(pub BTreeMap<String, String>);

impl NotApplicable {
    /// Reads the list.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reasons = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (case, reason) =
                line.split_once(": ").ok_or(format!("line {number} is not `case: reason`"))?;
            if reasons.insert(case.to_owned(), reason.trim().to_owned()).is_some() {
                return Err(format!("line {number} lists {case} a second time"));
            }
        }
        Ok(Self(reasons))
    }

    /// Compares the list with the cases: it must contain exactly those that need a verb which the backend lacks, and
    /// have the length `at_most`, a number that may only be reduced.
    pub fn check<W: Backend>(&self, cases: &[Case<W>], at_most: usize) -> Result<(), String> {
        let mut wrong = Vec::new();
        let mut names = BTreeSet::new();
        for case in cases {
            if !names.insert(case.name) {
                wrong.push(format!("two cases are named {}", case.name));
            }
            let lacking: Vec<_> = case.needs.iter().filter(|verb| !W::VERBS.contains(verb)).collect();
            match (self.0.contains_key(case.name), lacking.as_slice()) {
                (true, []) => {
                    wrong.push(format!("{} is listed, but the backend supports all its verbs", case.name))
                }
                (false, [_, ..]) => {
                    wrong.push(format!("{} is not listed, but the backend lacks {lacking:?}", case.name))
                }
                _ => {}
            }
        }
        for name in self.0.keys().filter(|name| !names.contains(name.as_str())) {
            wrong.push(format!("{name} is listed, but is not a case"));
        }
        if self.0.len() > at_most {
            wrong.push(format!(
                "{} cases are listed, more than {at_most}: the list may only shrink",
                self.0.len()
            ));
        }
        if self.0.len() < at_most {
            wrong.push(format!(
                "only {} cases are listed now: lower the {at_most} of this backend",
                self.0.len()
            ));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}

/// Tests of this file.
pub fn tests() -> Vec<(&'static str, fn())> {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Verb {
        Had,
        Lacking,
    }
    struct TestBackend;
    impl Backend for TestBackend {
        type Verb = Verb;
        const VERBS: &'static [Verb] = &[Verb::Had];
        async fn heal(&self, _case: &str) -> Result<(), String> {
            Ok(())
        }
        async fn finish(&self) -> Result<(), String> {
            Ok(())
        }
    }
    async fn a(_backend: &TestBackend, _seen: &Observations) {}
    async fn b(_backend: &TestBackend, _seen: &Observations) {}
    fn cases() -> Vec<Case<TestBackend>> {
        vec![case!(a, [Had], ""), case!(b, [Had, Lacking], "")]
    }
    fn check(list: &str, at_most: usize) -> Result<(), String> {
        NotApplicable::parse(list)?.check(&cases(), at_most)
    }
    macro_rules! tests {
        ($($name:ident $body:block)*) => { vec![$((stringify!($name), || $body)),*] };
    }
    tests! {
        a_list_of_exactly_the_cases_that_the_backend_cannot_run_is_accepted {
            assert_eq!(check("# why\n\nb: no such thing\n", 1), Ok(()));
        }
        a_listed_name_that_is_no_case_is_refused {
            assert_eq!(check("b: x\nc: x", 2), Err("c is listed, but is not a case".to_owned()));
        }
        a_listed_case_that_the_backend_can_run_is_refused {
            assert_eq!(check("a: x\nb: x", 2), Err("a is listed, but the backend supports all its verbs".to_owned()));
        }
        a_case_that_the_backend_cannot_run_must_be_listed {
            assert_eq!(check("", 0), Err("b is not listed, but the backend lacks [Lacking]".to_owned()));
        }
        the_list_may_not_grow {
            assert_eq!(check("b: x", 0), Err("1 cases are listed, more than 0: the list may only shrink".to_owned()));
        }
        a_shorter_list_requires_a_lower_limit {
            assert_eq!(check("b: x", 2), Err("only 1 cases are listed now: lower the 2 of this backend".to_owned()));
        }
        a_line_without_a_reason_is_refused {
            assert_eq!(NotApplicable::parse("\nb"), Err("line 2 is not `case: reason`".to_owned()));
        }
        a_case_is_listed_once {
            assert_eq!(NotApplicable::parse("b: x\nb: y"), Err("line 2 lists b a second time".to_owned()));
        }
        two_cases_of_one_name_are_refused {
            let twice = vec![case!(a, [], ""), case!(a, [], "")];
            assert_eq!(NotApplicable::default().check::<TestBackend>(&twice, 0), Err("two cases are named a".to_owned()));
        }
    }
}
