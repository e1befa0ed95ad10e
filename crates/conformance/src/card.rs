//! The capability card of a backend, for people and for programs, with what a run showed of it.

use std::fmt::Write;

use posthaste_core::{Capabilities, Capability, Support};

use crate::Report;
use crate::json::Json;

/// The card as lines: the backend, then each capability, how the backend comes by it, and with a
/// report how the cases ended that need it.
///
/// ```
/// use posthaste_conformance::card;
/// use posthaste_core::{Capabilities, Capability};
///
/// let card = Capabilities::new("here").native(&[Capability::Topics]);
/// assert!(card::text(&card, None).starts_with("here\n  topics            native\n"));
/// ```
#[must_use]
pub fn text(card: &Capabilities, report: Option<&Report>) -> String {
    let results = report.map(Report::by_capability).unwrap_or_default();
    let mut text = card.backend().to_owned();
    for (capability, support) in card.iter() {
        let (capability_name, support_name) = (capability.to_string(), name(support));
        // Writing to a string does not fail.
        let _ = write!(text, "\n  {capability_name:<17} {support_name}");
        if let Some(totals) = results.get(&capability).filter(|_| card.has(capability)) {
            let padding = " ".repeat("emulated".len() - support_name.len());
            let _ = write!(text, "{padding}  {totals}");
        }
    }
    text
}

/// Several cards side by side, as a table of Markdown: a row for each capability, a column for each
/// backend.
///
/// ```
/// use posthaste_conformance::card;
/// use posthaste_core::{Capabilities, Capability};
///
/// let one = Capabilities::new("one").native(&[Capability::Topics]);
/// let other = Capabilities::new("other").emulated(&[Capability::Topics]);
/// let table = card::table(&[one, other]);
/// assert!(table.starts_with("| capability | one | other |\n|---|---|---|\n| topics | native | emulated |\n"));
/// ```
#[must_use]
pub fn table(cards: &[Capabilities]) -> String {
    let mut table = String::from("| capability |");
    let mut put = |text: &str| table.push_str(text);
    cards.iter().for_each(|card| put(&format!(" {} |", card.backend())));
    put("\n|---|");
    cards.iter().for_each(|_| put("---|"));
    for capability in Capability::ALL {
        put(&format!("\n| {capability} |"));
        for card in cards {
            match card.support(capability) {
                Support::Lacking => put(" - |"),
                support => put(&format!(" {} |", name(support))),
            }
        }
    }
    table
}

/// The card as one JSON object: `backend`, `capabilities` (`native`, `emulated` or `lacking` by
/// name) and with a report `results` (`passed`, `failed` and `not_applicable` by name).
///
/// ```
/// use posthaste_conformance::card;
/// use posthaste_core::{Capabilities, Capability};
///
/// let card = Capabilities::new("here").native(&[Capability::Topics]);
/// let json = card::json(&card, None);
/// assert!(json.starts_with(r#"{"backend":"here","capabilities":{"topics":"native","#));
/// ```
#[must_use]
pub fn json(card: &Capabilities, report: Option<&Report>) -> String {
    Json::object(|json| write(card, report, json))
}

pub(crate) fn write(card: &Capabilities, report: Option<&Report>, json: &mut Json) {
    json.text("backend", card.backend());
    json.nested("capabilities", |json| {
        for (capability, support) in card.iter() {
            json.text(&capability.to_string(), name(support));
        }
    });
    let Some(report) = report else { return };
    json.nested("results", |json| {
        for (capability, totals) in report.by_capability() {
            json.nested(&capability.to_string(), |json| totals.write(json));
        }
    });
}

fn name(support: Support) -> &'static str {
    match support {
        Support::Native => "native",
        Support::Emulated => "emulated",
        Support::Lacking => "lacking",
    }
}
