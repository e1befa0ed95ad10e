//! Going through a log as it lies there, without changing anything.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use crate::anchor::{self, Anchor};
use crate::change;
use crate::error::{Damage, Flaw, LogError};
use crate::reader::Segment;
use crate::record::Record;
use crate::scan::{MARK, Scan, latest_mark, next_record, written};
use crate::segment::{HEAD, Id};
use crate::storage::{Blob, Storage};

/// What was found.
#[derive(Debug)]
pub(crate) struct Examined {
    /// The segments, in order.
    pub(crate) segments: Vec<Segment>,
    /// Segments that were being made when the power went.
    pub(crate) unmade: Vec<Id>,
    /// Where the next record would be.
    pub(crate) end: u64,
    /// The last epoch that was used.
    pub(crate) epoch: u64,
    /// Where the log is gone through from when it is opened.
    pub(crate) from: u64,
    /// How many records were shown.
    pub(crate) records: u64,
    /// Where the last segment is torn, if it is.
    pub(crate) torn: Option<Damage>,
}

/// Shows every record, and everything that is damaged; after that it goes on with the next record that is
/// whole, unless `damaged` fails. Unless it is to look at the `whole` log, it begins where the anchor says.
pub(crate) fn examine(
    storage: &dyn Storage,
    whole: bool,
    show: &mut dyn FnMut(Record<'_>),
    damaged: &mut dyn FnMut(Damage) -> Result<(), LogError>,
) -> Result<Examined, LogError> {
    let mut ids = ids(storage)?;
    let is_damaged = Cell::new(false);
    let mut damaged = |damage: Damage| {
        if damage.flaw == Flaw::Newer {
            return Err(LogError::Strange(change::strange()));
        }
        is_damaged.set(true);
        damaged(damage)
    };
    let anchor = match anchor_of(storage, &ids)? {
        Ok(anchor) => anchor,
        Err(damage) => {
            damaged(damage)?;
            // It says nothing about the rest.
            is_damaged.set(false);
            Anchor { start: u64::MAX, ..Anchor::default() }
        }
    };
    let unmade = take_unmade(storage, &mut ids, anchor)?;
    let mut found = Examined {
        segments: Vec::with_capacity(ids.len()),
        unmade,
        end: ids.first().map_or(0, |id| id.base),
        from: anchor.from,
        epoch: ids.iter().map(|id| id.epoch).max().unwrap_or(0).max(anchor.epoch),
        records: 0,
        torn: None,
    };
    let names = storage.names().map_err(LogError::storage(OPENING))?;
    let start = names.iter().filter_map(|name| anchor::start_of(name)).fold(anchor.start, u64::max);
    if ids.first().is_some_and(|first| first.base > start) {
        damaged(Damage::missing(start))?;
    }
    let is_last_gone = ids.last().map_or(0, |last| last.epoch) < anchor.epoch;
    for (nth, id) in ids.iter().enumerate() {
        let id = *id;
        let damage = |offset, position, flaw| Damage { segment: id.name(), offset, position, flaw };
        if id.base != found.end {
            damaged(Damage::missing(found.end))?;
        }
        found.end = id.base;
        let blob = storage.open(&id.name()).map_err(LogError::storage(OPENING))?;
        if let Err(flaw) = id.check(&*blob).map_err(LogError::storage(READING))? {
            damaged(damage(0, id.base, flaw))?;
        }
        let until = ids.get(nth + 1).map(|next| next.base);
        let from = if whole { id.base } else { anchor.from.max(id.base) };
        if let Some(until) = until.filter(|until| *until <= from) {
            found.end = until;
            found.segments.push(Segment { id, blob: Arc::from(blob) });
            continue;
        }
        let mut scan = Scan::new(id, &*blob, from);
        let (mut goes_on, mut mark) = (None, None);
        while until.is_none_or(|until| scan.position() < until) {
            match scan.next().map_err(LogError::storage(READING))? {
                Ok(record) if record.kind == MARK => {}
                Ok(record) => {
                    found.records += 1;
                    show(record);
                }
                // It may end here: what is behind is missing.
                Err(Flaw::Nothing) if until.is_none() && is_last_gone => break,
                Err(flaw) => {
                    let (offset, position) = (scan.offset(), scan.position());
                    let known = mark.map_or_else(|| latest_mark(id, &*blob, offset), Ok);
                    let known = *mark.insert(known.map_err(LogError::storage(READING))?);
                    let damage = damage(offset, position, flaw);
                    if until.is_none() && known.max(anchor.stored) <= position {
                        found.torn = Some(damage);
                        break;
                    }
                    damaged(damage)?;
                    let next = next_record(id, &*blob, offset + 1);
                    let next = next.map_err(LogError::storage(READING))?;
                    let Some(next) = next.filter(|next| until.is_none_or(|until| *next < until))
                    else {
                        goes_on = until;
                        break;
                    };
                    scan = Scan::new(id, &*blob, next);
                }
            }
        }
        found.end = goes_on.unwrap_or(scan.position());
        found.segments.push(Segment { id, blob: Arc::from(blob) });
    }
    if is_last_gone || found.end < anchor.stored && !is_damaged.get() {
        damaged(Damage::missing(if ids.is_empty() { anchor.start } else { found.end }))?;
    }
    Ok(found)
}

/// What was being written in a file from byte `from` on, where its records end: all that is there but for
/// the zeros at its end, and but for what was there before the file was used again.
pub(crate) fn rest_of(blob: &dyn Blob, from: u64) -> io::Result<Vec<u8>> {
    let rest = usize::try_from(blob.len()?.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; rest];
    let read = blob.read_at(from, &mut bytes)?;
    bytes.truncate(read);
    if let Some(id) = Id::reused(blob)? {
        bytes.truncate(written(&bytes, id, from));
    }
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used);
    Ok(bytes)
}

/// The segments that there are, in order.
fn ids(storage: &dyn Storage) -> Result<Vec<Id>, LogError> {
    let names = storage.names().map_err(LogError::storage(OPENING))?;
    let mut ids: Vec<Id> = names.iter().filter_map(|name| Id::of(name)).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// How far the log was, or what is wrong with the file that says so. Where the power went while the
/// first segment was being made there is none, and nothing in that.
fn anchor_of(storage: &dyn Storage, ids: &[Id]) -> Result<Result<Anchor, Damage>, LogError> {
    match Anchor::read(storage) {
        Ok(Some(anchor)) => Ok(Ok(anchor)),
        Ok(None) if !has_records(storage, ids)? => Ok(Ok(Anchor::default())),
        Ok(None) => {
            let segment = anchor::NAME.to_owned();
            Ok(Err(Damage { segment, offset: 0, position: 0, flaw: Flaw::Missing }))
        }
        Err(LogError::Damaged(damage)) => Ok(Err(damage)),
        Err(error) => Err(error),
    }
}

/// Whether more was written than the heads of first segments.
fn has_records(storage: &dyn Storage, ids: &[Id]) -> Result<bool, LogError> {
    for id in ids {
        let blob = storage.open(&id.name()).map_err(LogError::storage(OPENING))?;
        let first = next_record(*id, &*blob, HEAD as u64).map_err(LogError::storage(READING))?;
        if id.base > 0 || first.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes the last segments off if they were being made when the power went: no anchor knows them, they
/// have no head, or that of a segment that was forgotten, and nothing in them.
fn take_unmade(
    storage: &dyn Storage,
    ids: &mut Vec<Id>,
    anchor: Anchor,
) -> Result<Vec<Id>, LogError> {
    let mut unmade = Vec::new();
    while let Some(id) = ids.last().copied().filter(|id| id.epoch > anchor.epoch) {
        let blob = storage.open(&id.name()).map_err(LogError::storage(OPENING))?;
        let head = id.check(&*blob).map_err(LogError::storage(READING))?;
        let first =
            Scan::new(id, &*blob, id.base).next().map_err(LogError::storage(READING))?.is_ok();
        if head.is_ok() || first {
            break;
        }
        let mark = latest_mark(id, &*blob, HEAD as u64);
        if mark.map_err(LogError::storage(READING))? > 0 {
            break;
        }
        unmade.push(id);
        ids.pop();
    }
    Ok(unmade)
}

const OPENING: &str = "opening the log";
const READING: &str = "reading the log";
