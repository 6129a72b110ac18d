//! Columns of integers, packed: what mailboxes at rest are made of.
//!
//! ```text
//! column := form and width u8 | body          width: the low six bits
//!   flat   (0)  least varint | bits           value = least + bits
//!   rising (1)  first varint | least step, zigzag varint | bits    for all values but the first
//!   runs   (2)  runs varint | column of values | column of lengths - 1, both flat or wide
//!   wide   (3)  values as u64
//! bits   := width bits for each value, the lowest first, filled up to an octet
//! ```
//!
//! How many values a column has is not in it: the reader knows. The shortest form is taken; of a column
//! that counts up, or has one value, nothing is left but its head. Sums wrap, so that any octets mean
//! something or are refused, and none of them makes a reader panic.

use super::codec::{Put, Reader, Short, to_u64, to_usize};

/// Bits that one value has at most in a form that is not wide: with what is left of an octet they fit
/// in 64.
const WIDTH_MAX: u32 = 56;

const FLAT: u8 = 0;
const RISING: u8 = 1;
const RUNS: u8 = 2;
const WIDE: u8 = 3;
const FORM_SHIFT: u32 = 6;

/// Runs are worth a look where they have this many values each on average.
const RUN_LEAST: usize = 4;

/// A number with its sign in the lowest bit, so that small ones are short.
pub const fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

/// What [`zigzag`] was made of.
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Octets of a varint.
fn varint_octets(value: u64) -> usize {
    to_usize(u64::from((64 - (value | 1).leading_zeros()).div_ceil(7)))
}

fn width(spread: u64) -> u32 {
    64 - spread.leading_zeros()
}

fn bits_octets(count: usize, width: u32) -> usize {
    (count * to_usize(u64::from(width))).div_ceil(8)
}

/// What one look at the values tells of how they pack best.
struct Shape {
    least: u64,
    flat_width: u32,
    least_step: i64,
    step_width: u32,
    runs: usize,
}

impl Shape {
    fn of(values: &[u64]) -> Shape {
        let (mut least, mut most) = (u64::MAX, 0);
        let (mut least_step, mut most_step) = (i64::MAX, i64::MIN);
        let mut runs = usize::from(!values.is_empty());
        let mut before = None;
        for &value in values {
            least = least.min(value);
            most = most.max(value);
            if let Some(before) = before {
                let step = value.wrapping_sub(before).cast_signed();
                least_step = least_step.min(step);
                most_step = most_step.max(step);
                runs += usize::from(step != 0);
            }
            before = Some(value);
        }
        if values.len() < 2 {
            (least_step, most_step) = (0, 0);
        }
        Shape {
            least: least.min(most),
            flat_width: width(most.saturating_sub(least)),
            least_step,
            step_width: width(most_step.wrapping_sub(least_step).cast_unsigned()),
            runs,
        }
    }

    /// Octets of the flat form, if it has one.
    fn flat_octets(&self, count: usize) -> usize {
        if self.flat_width > WIDTH_MAX {
            return 1 + 8 * count;
        }
        1 + varint_octets(self.least) + bits_octets(count, self.flat_width)
    }

    fn rising_octets(&self, first: u64, count: usize) -> usize {
        if self.step_width > WIDTH_MAX {
            return usize::MAX;
        }
        let head = 1 + varint_octets(first) + varint_octets(zigzag(self.least_step));
        head + bits_octets(count.saturating_sub(1), self.step_width)
    }
}

fn put_head(form: u8, width: u32, out: &mut Vec<u8>) {
    out.put_u8(form << FORM_SHIFT | u8::try_from(width).expect("64 at most"));
}

fn put_bits(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let (mut held, mut bits) = (0_u128, 0);
    for value in values {
        held |= u128::from(value) << bits;
        bits += width;
        if bits >= 64 {
            let low = held & u128::from(u64::MAX);
            out.put_u64(u64::try_from(low).expect("masked to 64 bits"));
            held >>= 64;
            bits -= 64;
        }
    }
    let octets = to_usize(u64::from(bits.div_ceil(8)));
    out.extend_from_slice(&held.to_le_bytes()[..octets]);
}

fn pack_flat(values: &[u64], shape: &Shape, out: &mut Vec<u8>) {
    if shape.flat_width > WIDTH_MAX {
        put_head(WIDE, 0, out);
        for &value in values {
            out.put_u64(value);
        }
        return;
    }
    put_head(FLAT, shape.flat_width, out);
    out.put_varint(shape.least);
    put_bits(values.iter().map(|value| value - shape.least), shape.flat_width, out);
}

/// Appends `values` to `out` in their shortest form.
pub fn pack(values: &[u64], out: &mut Vec<u8>) {
    let shape = Shape::of(values);
    let flat = shape.flat_octets(values.len());
    let first = values.first().copied().unwrap_or(0);
    let rising = shape.rising_octets(first, values.len());
    if shape.runs > 1 && shape.runs * RUN_LEAST <= values.len() {
        let (mut heads, mut lengths) = (Vec::with_capacity(shape.runs), Vec::new());
        for run in values.chunk_by(|one, next| one == next) {
            heads.push(run[0]);
            lengths.push(to_u64(run.len() - 1));
        }
        let (of_heads, of_lengths) = (Shape::of(&heads), Shape::of(&lengths));
        let octets = 1
            + varint_octets(to_u64(shape.runs))
            + of_heads.flat_octets(heads.len())
            + of_lengths.flat_octets(lengths.len());
        if octets < flat.min(rising) {
            put_head(RUNS, 0, out);
            out.put_varint(to_u64(heads.len()));
            pack_flat(&heads, &of_heads, out);
            pack_flat(&lengths, &of_lengths, out);
            return;
        }
    }
    if flat <= rising {
        return pack_flat(values, &shape, out);
    }
    put_head(RISING, shape.step_width, out);
    out.put_varint(first);
    out.put_varint(zigzag(shape.least_step));
    let steps = values.windows(2).map(|pair| {
        let step = pair[1].wrapping_sub(pair[0]).cast_signed();
        step.wrapping_sub(shape.least_step).cast_unsigned()
    });
    put_bits(steps, shape.step_width, out);
}

/// Eight octets from a place on, zeros behind the end.
#[inline]
pub fn word(octets: &[u8], at: usize) -> u64 {
    if let Some(whole) = octets.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        return u64::from_le_bytes(*whole);
    }
    let mut last = [0; 8];
    let rest = octets.get(at..).unwrap_or_default();
    last[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(last)
}

/// Calls `each` with every value of `width` bits.
fn each_bits(octets: &[u8], width: u32, values: &mut [u64], mut each: impl FnMut(u64) -> u64) {
    let mask = (1_u64 << width) - 1;
    let mut at = 0_u64;
    for value in values {
        *value = each(word(octets, to_usize(at / 8)) >> (at % 8) & mask);
        at += u64::from(width);
    }
}

fn take_bits<'a>(reader: &mut Reader<'a>, count: usize, width: u32) -> Result<&'a [u8], Short> {
    if width > WIDTH_MAX {
        return Err(Short);
    }
    reader.take(bits_octets(count, width))
}

fn unpack_flat(reader: &mut Reader<'_>, values: &mut [u64], head: u8) -> Result<(), Short> {
    let width = u32::from(head & ((1 << FORM_SHIFT) - 1));
    match head >> FORM_SHIFT {
        FLAT => {
            let least = reader.varint()?;
            let octets = take_bits(reader, values.len(), width)?;
            each_bits(octets, width, values, |bits| least.wrapping_add(bits));
        }
        WIDE => {
            for value in values {
                *value = reader.u64()?;
            }
        }
        _ => return Err(Short),
    }
    Ok(())
}

fn unpack_runs(reader: &mut Reader<'_>, values: &mut [u64]) -> Result<(), Short> {
    let runs = to_usize(reader.varint()?);
    // A run has one value at least: what says otherwise takes no memory.
    if runs > values.len() {
        return Err(Short);
    }
    let mut columns = vec![0; 2 * runs];
    let (heads, lengths) = columns.split_at_mut(runs);
    let head = reader.u8()?;
    unpack_flat(reader, heads, head)?;
    let head = reader.u8()?;
    unpack_flat(reader, lengths, head)?;
    let mut rest = values;
    for (head, length) in heads.iter().zip(lengths) {
        let length = to_usize(length.checked_add(1).ok_or(Short)?);
        let (run, behind) = rest.split_at_mut_checked(length).ok_or(Short)?;
        run.fill(*head);
        rest = behind;
    }
    if rest.is_empty() { Ok(()) } else { Err(Short) }
}

/// Reads as many values as `values` has off the front of the reader.
pub fn unpack(reader: &mut Reader<'_>, values: &mut [u64]) -> Result<(), Short> {
    let head = reader.u8()?;
    match head >> FORM_SHIFT {
        RISING => {
            let width = u32::from(head & ((1 << FORM_SHIFT) - 1));
            let mut value = reader.varint()?;
            let step = unzigzag(reader.varint()?).cast_unsigned();
            let Some((first, others)) = values.split_first_mut() else { return Ok(()) };
            let octets = take_bits(reader, others.len(), width)?;
            *first = value;
            each_bits(octets, width, others, |bits| {
                value = value.wrapping_add(step).wrapping_add(bits);
                value
            });
            Ok(())
        }
        RUNS => unpack_runs(reader, values),
        _ => unpack_flat(reader, values, head),
    }
}

fn skip_flat(reader: &mut Reader<'_>, count: usize, head: u8) -> Result<(), Short> {
    match head >> FORM_SHIFT {
        FLAT => {
            reader.varint()?;
            take_bits(reader, count, u32::from(head & ((1 << FORM_SHIFT) - 1)))?;
        }
        WIDE => drop(reader.take(count.checked_mul(8).ok_or(Short)?)?),
        _ => return Err(Short),
    }
    Ok(())
}

/// Passes over a column of so many values, which are not looked at.
pub fn skip(reader: &mut Reader<'_>, count: usize) -> Result<(), Short> {
    let head = reader.u8()?;
    match head >> FORM_SHIFT {
        RISING => {
            reader.varint()?;
            reader.varint()?;
            let width = u32::from(head & ((1 << FORM_SHIFT) - 1));
            take_bits(reader, count.saturating_sub(1), width)?;
        }
        RUNS => {
            let runs = to_usize(reader.varint()?);
            if runs > count {
                return Err(Short);
            }
            for _ in 0..2 {
                let head = reader.u8()?;
                skip_flat(reader, runs, head)?;
            }
        }
        _ => skip_flat(reader, count, head)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arbtest::arbitrary::{Result as Drawn, Unstructured};

    /// Octets of the column; it is held to what went in.
    #[track_caller]
    fn check(values: &[u64]) -> usize {
        let mut out = Vec::new();
        pack(values, &mut out);
        let mut back = vec![7; values.len()];
        let mut reader = Reader::new(&out);
        unpack(&mut reader, &mut back).unwrap();
        assert_eq!(back, values);
        assert!(reader.rest().is_empty());
        let mut reader = Reader::new(&out);
        skip(&mut reader, values.len()).unwrap();
        assert!(reader.rest().is_empty());
        out.len()
    }

    fn values(u: &mut Unstructured<'_>) -> Drawn<Vec<u64>> {
        let count = u.int_in_range(0..=300)?;
        let base: u64 = u.arbitrary()?;
        let bits = u.int_in_range(0..=64)?;
        let mask = 1_u64.checked_shl(bits).unwrap_or(0).wrapping_sub(1);
        let (rises, repeats) = (u.arbitrary::<bool>()?, u.int_in_range(0..=7)?);
        let mut values = Vec::new();
        let mut value = base;
        for _ in 0..count {
            if u.int_in_range(0..=7)? >= repeats {
                let step = u.arbitrary::<u64>()? & mask;
                value = if rises { value.wrapping_add(step) } else { base.wrapping_add(step) };
            }
            values.push(value);
        }
        Ok(values)
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        arbtest::arbtest(|u| {
            check(&values(u)?);
            Ok(())
        });
        check(&[]);
        check(&[u64::MAX]);
        check(&[0, u64::MAX, 0, u64::MAX]);
        check(&[u64::MAX, 0, 1 << 63]);
    }

    #[test]
    fn any_octets_mean_something_or_are_refused() {
        arbtest::arbtest(|u| {
            let mut out = Vec::new();
            pack(&values(u)?, &mut out);
            for _ in 0..u.int_in_range(0..=4)? {
                let at = u.choose_index(out.len())?;
                out[at] = u.arbitrary()?;
            }
            out.truncate(u.int_in_range(0..=out.len())?);
            let mut back = vec![0; u.int_in_range(0..=300)?];
            let _ = unpack(&mut Reader::new(&out), &mut back);
            let noise: Vec<u8> = u.arbitrary()?;
            let _ = unpack(&mut Reader::new(&noise), &mut back);
            let _ = skip(&mut Reader::new(&noise), back.len());
            Ok(())
        });
    }

    #[test]
    fn takes_what_the_values_tell_and_no_more() {
        let counting: Vec<u64> = (1_000..1_256).collect();
        assert_eq!(check(&counting), 4, "head, first, step");
        assert_eq!(check(&[1; 256]), 2);
        let seen: Vec<u64> = (0..256).map(|at| u64::from(at > 200)).collect();
        assert!(check(&seen) < 12, "two runs");
        let dates: Vec<u64> = (0..256).map(|at| 1_700_000_000 + at * 613 % 4_096).collect();
        assert!(check(&dates) <= 256 * 12 / 8 + 6);
    }

    #[test]
    fn small_numbers_of_either_sign_are_short() {
        for value in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
    }
}
