//! Cases, backends, and the list of cases that a backend cannot run: the parts of every service's suite.
//!
//! This file does not depend on how cases are run, so that another crate can include it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

/// Where the cases of a service are run: the real service, or a simulated one.
#[allow(async_fn_in_trait)] // cases run on the thread that made their backend
pub trait Backend: Sized + 'static {
    /// Operations that cases may use in addition to requests, and that not every backend supports.
    type Verb: Copy + Eq + Debug + Send + Sync + 'static;

    /// The verbs that this backend supports.
    const VERBS: &'static [Self::Verb];

    /// Undoes what a case may have left behind, even if it failed: afterwards all nodes run and see each other as up, and
    /// what the case named `case` created is deleted.
    async fn heal(&self, case: &str) -> Result<(), String>;

    /// After the last case: leaves the services as they were found.
    async fn finish(&self) -> Result<(), String>;
}

/// The future of a case. It stays on the thread of its backend.
pub type Running<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One sentence about a service. It fails by [`Seen::hold`], or by panicking.
pub struct Case<W: Backend> {
    /// The sentence.
    pub name: &'static str,
    /// What the documentation or the source of the service says, and where.
    pub documented: &'static str,
    /// The verbs that it needs.
    pub needs: &'static [W::Verb],
    /// Runs it, and records what was observed.
    pub run: for<'a> fn(&'a W, &'a Seen) -> Running<'a>,
}

/// `case!(name_of_a_function, [Verb, ...], "what is documented")`, with the type `Verb` in scope.
macro_rules! case {
    ($name:ident, [$($verb:ident),* $(,)?], $documented:expr $(,)?) => {
        crate::suite::Case {
            name: stringify!($name),
            documented: $documented,
            needs: &[$(Verb::$verb),*],
            run: |backend, seen| Box::pin($name(backend, seen)),
        }
    };
}
pub(crate) use case;

/// What a case observed. The text is the same in every run: no random values, no measured times.
pub struct Seen {
    /// The name of the case.
    pub case: &'static str,
    /// Whether it is printed as it is observed.
    aloud: bool,
    notes: RefCell<Vec<String>>,
    wrong: RefCell<Vec<String>>,
}

impl Seen {
    /// Nothing observed yet. What is will be printed.
    pub fn nothing(case: &'static str) -> Self {
        Self { aloud: true, ..Self::silently(case) }
    }

    /// Nothing observed yet. What is will not be printed.
    pub fn silently(case: &'static str) -> Self {
        Self { case, aloud: false, notes: RefCell::default(), wrong: RefCell::default() }
    }

    /// Notes an observation.
    pub fn note(&self, observation: impl Into<String>) {
        let observation = observation.into();
        if self.aloud {
            println!("    observed: {observation}");
        }
        self.notes.borrow_mut().push(observation);
    }

    /// Notes an observation, and fails the case, when it has ended, if it is not as expected.
    pub fn hold(&self, what: &str, observed: &str, expected: &str) {
        self.note(format!("{what}: {observed}"));
        if observed != expected {
            if self.aloud {
                println!("    expected: {what}: {expected}");
            }
            self.wrong.borrow_mut().push(format!("{what}\n  observed: {observed}\n  expected: {expected}"));
        }
    }

    /// What was not as expected.
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
                return Err(format!("line {number} lists {case} again"));
            }
        }
        Ok(Self(reasons))
    }

    /// Holds the list against the cases: it must name exactly those that need a verb which the backend lacks, and
    /// hold as many as `at_most` says, a number that may only ever be lowered.
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
                    wrong.push(format!("{} is listed, but the backend has all that it needs", case.name))
                }
                (false, [_, ..]) => {
                    wrong.push(format!("{} is not listed, but the backend lacks {lacking:?}", case.name))
                }
                _ => {}
            }
        }
        for name in self.0.keys().filter(|name| !names.contains(name.as_str())) {
            wrong.push(format!("{name} is listed, but is no case"));
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
    struct Small;
    impl Backend for Small {
        type Verb = Verb;
        const VERBS: &'static [Verb] = &[Verb::Had];
        async fn heal(&self, _case: &str) -> Result<(), String> {
            Ok(())
        }
        async fn finish(&self) -> Result<(), String> {
            Ok(())
        }
    }
    async fn a(_world: &Small, _seen: &Seen) {}
    async fn b(_world: &Small, _seen: &Seen) {}
    fn cases() -> Vec<Case<Small>> {
        vec![case!(a, [Had], ""), case!(b, [Had, Lacking], "")]
    }
    fn check(list: &str, at_most: usize) -> Result<(), String> {
        NotApplicable::parse(list)?.check(&cases(), at_most)
    }
    macro_rules! tests {
        ($($name:ident $body:block)*) => { vec![$((stringify!($name), || $body)),*] };
    }
    tests! {
        a_list_of_exactly_what_the_world_lacks_is_right {
            assert_eq!(check("# why\n\nb: no such thing\n", 1), Ok(()));
        }
        a_listed_name_that_is_no_case_is_refused {
            assert_eq!(check("b: x\nc: x", 2), Err("c is listed, but is no case".to_owned()));
        }
        a_listed_case_that_the_world_could_run_is_refused {
            assert_eq!(check("a: x\nb: x", 2), Err("a is listed, but the backend has all that it needs".to_owned()));
        }
        a_case_that_the_world_cannot_run_must_be_listed {
            assert_eq!(check("", 0), Err("b is not listed, but the backend lacks [Lacking]".to_owned()));
        }
        the_list_may_not_grow {
            assert_eq!(check("b: x", 0), Err("1 cases are listed, more than 0: the list may only shrink".to_owned()));
        }
        a_list_that_shrank_lowers_its_bound {
            assert_eq!(check("b: x", 2), Err("only 1 cases are listed now: lower the 2 of this backend".to_owned()));
        }
        a_line_without_a_reason_is_refused {
            assert_eq!(NotApplicable::parse("\nb"), Err("line 2 is not `case: reason`".to_owned()));
        }
        a_case_is_listed_once {
            assert_eq!(NotApplicable::parse("b: x\nb: y"), Err("line 2 lists b again".to_owned()));
        }
        two_cases_of_one_name_are_refused {
            let twice = vec![case!(a, [], ""), case!(a, [], "")];
            assert_eq!(NotApplicable::default().check::<Small>(&twice, 0), Err("two cases are named a".to_owned()));
        }
    }
}
