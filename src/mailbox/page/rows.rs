//! The packed page of a chunk.
//!
//! ```text
//! chunk  := 2 u8 | rows varint | base varint | which u16 | column for each bit of `which` (bytes/columns.rs)
//! column := uid | change counter less base | internal date | save date less internal date, zigzag
//!           | size | thread | blob | keyword set | flags | marks                    the lowest bit first
//! ```
//!
//! A column that is not there has zeros.

use super::CHUNK_VERSION;
use crate::bytes::codec::{Put, Reader, Short, to_u64, to_usize};
use crate::bytes::columns::{pack, skip, unpack, unzigzag, zigzag};
use crate::mailbox::chunk::Chunk;
use crate::mailbox::row::Row;
use crate::model::id::BlobId;
use crate::model::limits::MAILBOX_CHUNK_ROWS;

/// Which column has the blobs.
const BLOB_COLUMN: usize = 6;

type Values = [u64; MAILBOX_CHUNK_ROWS];

const COLUMNS: [fn(&Row) -> u64; 10] = [
    |row| row.uid.into(),
    |row| row.modseq_delta.into(),
    |row| row.internal_date.into(),
    |row| zigzag(i64::from(row.save_date) - i64::from(row.internal_date)),
    |row| row.size.into(),
    |row| row.thread.into(),
    |row| row.blob().0,
    |row| row.keywords.into(),
    |row| row.flags.into(),
    |row| row.marks.into(),
];

pub(in crate::mailbox) fn encode_chunk(chunk: &Chunk) -> Vec<u8> {
    let mut out = Vec::with_capacity(48 + chunk.rows.len() * 16);
    out.put_u8(CHUNK_VERSION);
    out.put_varint(to_u64(chunk.rows.len()));
    out.put_varint(chunk.base);
    let which_at = out.len();
    out.put_u16(0);
    let mut which = 0_u16;
    let rows: Vec<Row> = chunk.rows.iter().collect();
    let mut values: Values = [0; MAILBOX_CHUNK_ROWS];
    let values = &mut values[..rows.len()];
    for (bit, column) in COLUMNS.iter().enumerate() {
        let mut all = 0;
        for (value, row) in values.iter_mut().zip(&rows) {
            *value = column(row);
            all |= *value;
        }
        if all != 0 {
            which |= 1 << bit;
            pack(values, &mut out);
        }
    }
    out[which_at..which_at + 2].copy_from_slice(&which.to_le_bytes());
    out
}

/// Takes one column after the other.
struct Taking<'a> {
    reader: Reader<'a>,
    which: u16,
    rows: Vec<Row>,
    values: Values,
}

impl Taking<'_> {
    fn column(&mut self, set: impl Fn(&mut Row, u64) -> Option<()>) -> Result<(), Short> {
        let is_there = self.which & 1 != 0;
        self.which >>= 1;
        let values = &mut self.values[..self.rows.len()];
        if is_there {
            unpack(&mut self.reader, values)?;
        } else {
            values.fill(0);
        }
        let mut pairs = self.rows.iter_mut().zip(values);
        pairs.try_for_each(|(row, value)| set(row, *value)).ok_or(Short)
    }
}

/// Puts a value into a field that is narrower.
fn put<T: TryFrom<u64>>(place: &mut T, value: u64) -> Option<()> {
    *place = T::try_from(value).ok()?;
    Some(())
}

/// The base and the rows.
pub(super) fn read(octets: &[u8]) -> Result<(u64, Vec<Row>), Short> {
    let mut reader = Reader::new(octets);
    reader.u8()?;
    let count = to_usize(reader.varint()?);
    if count > MAILBOX_CHUNK_ROWS {
        return Err(Short);
    }
    let base = reader.varint()?;
    let which = reader.u16()?;
    let rows = vec![Row::default(); count];
    let mut taking = Taking { reader, which, rows, values: [0; MAILBOX_CHUNK_ROWS] };
    taking.column(|row, value| put(&mut row.uid, value))?;
    taking.column(|row, value| put(&mut row.modseq_delta, value))?;
    taking.column(|row, value| put(&mut row.internal_date, value))?;
    taking.column(|row, value| {
        let date = i64::from(row.internal_date).checked_add(unzigzag(value))?;
        row.save_date = u32::try_from(date).ok()?;
        Some(())
    })?;
    taking.column(|row, value| put(&mut row.size, value))?;
    taking.column(|row, value| put(&mut row.thread, value))?;
    taking.column(|row, value| {
        put(&mut row.blob_low, value & u64::from(u32::MAX))?;
        put(&mut row.blob_high, value >> 32)
    })?;
    taking.column(|row, value| put(&mut row.keywords, value))?;
    taking.column(|row, value| put(&mut row.flags, value))?;
    taking.column(|row, value| put(&mut row.marks, value))?;
    if taking.which != 0 || !taking.reader.rest().is_empty() {
        return Err(Short);
    }
    Ok((base, taking.rows))
}

/// Names the blobs of the rows, and reads nothing else of them.
pub(super) fn read_blobs(octets: &[u8], each: &mut dyn FnMut(BlobId)) -> Result<(), Short> {
    let mut reader = Reader::new(octets);
    reader.u8()?;
    let count = to_usize(reader.varint()?);
    if count > MAILBOX_CHUNK_ROWS {
        return Err(Short);
    }
    reader.varint()?;
    let which = reader.u16()?;
    for _ in (0..BLOB_COLUMN).filter(|bit| which >> bit & 1 != 0) {
        skip(&mut reader, count)?;
    }
    let mut values: Values = [0; MAILBOX_CHUNK_ROWS];
    let values = &mut values[..count];
    if which >> BLOB_COLUMN & 1 != 0 {
        unpack(&mut reader, values)?;
    }
    for &mut blob in values {
        each(BlobId(blob));
    }
    Ok(())
}
