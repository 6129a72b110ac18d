//! The packed page of a mailbox's memo.
//!
//! ```text
//! memo := 3 u8 | names varint, each a text | sets varint, each a mask varint
//!         | floor varint | runs varint, columns of their change counters, first UIDs, lengths - 1
//!         | truth u8: whether more follows, of a mailbox that moved in:
//!           UIDVALIDITY there varint | next UID there varint
//!           | forms varint, each: first UID varint, UIDs - 1 varint, text
//! text := length varint | UTF-8
//! ```

use super::{MEMO_VERSION, Memo, text};
use crate::bytes::codec::{Put, Reader, Short, to_u64, to_usize};
use crate::bytes::columns::{pack, unpack};
use crate::mailbox::keywords::Keywords;
use crate::mailbox::moved::{Moved, Origin, UidlRun};
use crate::mailbox::vanished::{Run, Vanished};
use crate::model::id::{ModSeq, Uid};
use crate::model::limits::VANISHED_RUNS_READ_MAX;

pub(in crate::mailbox) fn encode_memo(
    keywords: &Keywords,
    vanished: &Vanished,
    moved: Option<&Moved>,
) -> Vec<u8> {
    let mut out = vec![MEMO_VERSION];
    out.put_varint(to_u64(keywords.names().len()));
    keywords.names().iter().for_each(|name| out.put_short_slice(name.as_bytes()));
    out.put_varint(to_u64(keywords.sets().len()));
    keywords.sets().iter().for_each(|&set| out.put_varint(set));
    out.put_varint(vanished.floor.0);
    let runs = &vanished.runs;
    out.put_varint(to_u64(runs.len()));
    let mut values: Vec<u64> = Vec::with_capacity(runs.len());
    let columns: [fn(&Run) -> u64; 3] = [
        |run| run.modseq.0,
        |run| run.first.0.into(),
        |run| run.last.0.wrapping_sub(run.first.0).into(),
    ];
    for column in columns.iter().filter(|_| !runs.is_empty()) {
        values.clear();
        values.extend(runs.iter().map(column));
        pack(&values, &mut out);
    }
    out.put_u8(u8::from(moved.is_some()));
    if let Some(Moved { origin, uidls }) = moved {
        out.put_varint(origin.uidvalidity.into());
        out.put_varint(origin.next.into());
        out.put_varint(to_u64(uidls.len()));
        for run in uidls {
            out.put_varint(run.first.0.into());
            out.put_varint(run.last.0.wrapping_sub(run.first.0).into());
            out.put_short_slice(run.form.as_bytes());
        }
    }
    out
}

fn read_vanished(reader: &mut Reader<'_>) -> Result<Vanished, Short> {
    let floor = ModSeq(reader.varint()?);
    let count = to_usize(reader.varint()?);
    if count > VANISHED_RUNS_READ_MAX {
        return Err(Short);
    }
    if count == 0 {
        return Ok(Vanished { floor, runs: Vec::new() });
    }
    let mut columns = vec![0; 3 * count];
    for column in columns.chunks_exact_mut(count) {
        unpack(reader, column)?;
    }
    let uid = |value: u64| u32::try_from(value).map_err(|_| Short);
    let run = |at: usize| -> Result<Run, Short> {
        let first = uid(columns[count + at])?;
        let last = first.checked_add(uid(columns[2 * count + at])?).ok_or(Short)?;
        Ok(Run { modseq: ModSeq(columns[at]), first: Uid(first), last: Uid(last) })
    };
    Ok(Vanished { floor, runs: (0..count).map(run).collect::<Result<_, _>>()? })
}

fn read_moved(reader: &mut Reader<'_>) -> Result<Option<Moved>, Short> {
    let origin = Origin { uidvalidity: reader.varint_u32()?, next: reader.varint_u32()? };
    let mut uidls = Vec::new();
    for _ in 0..reader.varint()? {
        let first = reader.varint_u32()?;
        let last = first.checked_add(reader.varint_u32()?).ok_or(Short)?;
        uidls.push(UidlRun { first: Uid(first), last: Uid(last), form: text(reader)?.into() });
    }
    Ok(Moved::from_saved(origin, uidls))
}

/// `None` if no mailbox can have this.
pub(super) fn read(octets: &[u8]) -> Result<Option<Memo>, Short> {
    let mut reader = Reader::new(octets);
    reader.u8()?;
    let (mut names, mut sets) = (Vec::new(), Vec::new());
    for _ in 0..reader.varint()? {
        names.push(text(&mut reader)?.into());
    }
    for _ in 0..reader.varint()? {
        sets.push(reader.varint()?);
    }
    let vanished = read_vanished(&mut reader)?;
    let moved = match reader.u8()? {
        0 => Some(Moved::default()),
        1 => read_moved(&mut reader)?,
        _ => None,
    };
    if !reader.rest().is_empty() || !vanished.runs.is_sorted_by(|a, b| a.modseq <= b.modseq) {
        return Ok(None);
    }
    let keywords = Keywords::from_saved(names, sets);
    Ok(keywords.zip(moved).map(|(keywords, moved)| Memo { keywords, vanished, moved }))
}
