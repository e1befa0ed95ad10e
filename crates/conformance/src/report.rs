//! How every case of a run ended: in all, by law and by capability, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use posthaste_core::{Capabilities, Capability};

use crate::case::{Case, Need, Verdict};
use crate::json::Json;
use crate::{Law, card};

/// How every case ended.
///
/// ```
/// use posthaste_conformance::{BrokerSubject, Executor, Fixture, Law, run_broker};
/// use posthaste_core::{BoxFuture, Error};
/// use posthaste_memory::Memory;
///
/// struct InProcess;
///
/// impl Executor for InProcess {}
///
/// impl BrokerSubject for InProcess {
///     fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
///         Box::pin(async { Ok(Fixture::new(Memory::new())) })
///     }
/// }
///
/// let report = run_broker(&InProcess);
/// assert!(report.is_conformant(), "{report}");
/// assert!(report.by_law()[&Law::S1].passed > 0);
/// ```
#[derive(Debug)]
pub struct Report {
    card: Option<Capabilities>,
    verdicts: Vec<(Row, Verdict)>,
}

/// A case without what it runs.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The law that it shows.
    pub law: Law,
    /// Its name.
    pub name: &'static str,
    /// What it needs to be shown.
    pub needs: &'static [Need],
}

/// How many cases ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Cases in which the law held.
    pub passed: usize,
    /// Cases in which it was broken.
    pub failed: usize,
    /// Cases that the subject lacks something for.
    pub not_applicable: usize,
}

impl Row {
    pub(crate) fn of<C>(case: &Case<C>) -> Self {
        Self { law: case.law, name: case.name, needs: case.needs }
    }
}

impl Totals {
    fn add(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::NotApplicable(_) => self.not_applicable += 1,
        }
    }

    fn of<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Self {
        let mut totals = Self::default();
        verdicts.into_iter().for_each(|verdict| totals.add(verdict));
        totals
    }

    pub(crate) fn write(self, json: &mut Json) {
        json.number("passed", self.passed);
        json.number("failed", self.failed);
        json.number("not_applicable", self.not_applicable);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, not_applicable } = self;
        write!(f, "{passed} passed, {failed} failed, {not_applicable} not applicable")
    }
}

impl Report {
    pub(crate) fn new(card: Option<Capabilities>, verdicts: Vec<(Row, Verdict)>) -> Self {
        Self { card, verdicts }
    }

    /// The broker's capability card.
    #[must_use]
    pub fn card(&self) -> Option<&Capabilities> {
        self.card.as_ref()
    }

    /// Every case with its verdict, in the order of the laws.
    pub fn verdicts(&self) -> impl Iterator<Item = (Row, &Verdict)> {
        self.verdicts.iter().map(|(row, verdict)| (*row, verdict))
    }

    /// Whether every applicable case passed.
    #[must_use]
    pub fn is_conformant(&self) -> bool {
        self.totals().failed == 0
    }

    /// The laws of which a case failed.
    #[must_use]
    pub fn broken_laws(&self) -> BTreeSet<Law> {
        self.verdicts()
            .filter_map(|(row, verdict)| match verdict {
                Verdict::Failed(failure) => Some(failure.law().unwrap_or(row.law)),
                Verdict::Passed | Verdict::NotApplicable(_) => None,
            })
            .collect()
    }

    /// How many cases ended how.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals::of(self.verdicts().map(|(_, verdict)| verdict))
    }

    /// The same by the law that each case shows.
    #[must_use]
    pub fn by_law(&self) -> BTreeMap<Law, Totals> {
        let mut totals = BTreeMap::<Law, Totals>::new();
        for (row, verdict) in self.verdicts() {
            totals.entry(row.law).or_default().add(verdict);
        }
        totals
    }

    /// The same by what each case needs; one that needs several counts for each of them.
    #[must_use]
    pub fn by_capability(&self) -> BTreeMap<Capability, Totals> {
        let mut totals = BTreeMap::<Capability, Totals>::new();
        for (row, verdict) in self.verdicts() {
            for need in row.needs {
                if let Need::Has(capability) = need {
                    totals.entry(*capability).or_default().add(verdict);
                }
            }
        }
        totals
    }

    /// The report as one JSON object: `backend`, `capabilities` and `results` as on the
    /// [card](card::json), `passed`, `failed`, `not_applicable`, `laws` by number with the same
    /// three, and `cases`, each with `law`, `name`, `verdict` (`passed`, `failed` or
    /// `not_applicable`) and `why`, which is null if it passed.
    #[must_use]
    pub fn to_json(&self) -> String {
        Json::object(|json| {
            if let Some(card) = &self.card {
                card::write(card, Some(self), json);
            }
            self.totals().write(json);
            json.nested("laws", |json| {
                for (law, totals) in self.by_law() {
                    json.nested(&law.to_string(), |json| totals.write(json));
                }
            });
            json.list("cases", &self.verdicts, |(row, verdict), json| {
                json.text("law", &row.law.to_string());
                json.text("name", row.name);
                let (name, why) = match verdict {
                    Verdict::Passed => ("passed", None),
                    Verdict::Failed(failure) => ("failed", Some(failure.to_string())),
                    Verdict::NotApplicable(need) => ("not_applicable", Some(need.to_string())),
                };
                json.text("verdict", name);
                match why {
                    Some(why) => json.text("why", &why),
                    None => json.null("why"),
                }
            });
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(card) = &self.card {
            writeln!(f, "{}", card::text(card, Some(self)))?;
        }
        for (row, verdict) in self.verdicts() {
            writeln!(f, "{} {}: {verdict}", row.law, row.name)?;
        }
        self.totals().fmt(f)
    }
}
