//! Little-endian fields in byte slices, with lengths checked.

/// Why octets could not be read as what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short;

/// Reads fields off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(octets: &'a [u8]) -> Reader<'a> {
        Reader { rest: octets }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let (front, rest) = self.rest.split_at_checked(count).ok_or(Short)?;
        self.rest = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (front, rest) = self.rest.split_first_chunk::<N>().ok_or(Short)?;
        self.rest = rest;
        Ok(*front)
    }

    pub fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn u128(&mut self) -> Result<u128, Short> {
        self.array().map(u128::from_le_bytes)
    }

    /// Seven bits an octet, the lowest first; the highest bit says that more follow.
    pub fn varint(&mut self) -> Result<u64, Short> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let octet = self.u8()?;
            let bits = u64::from(octet & 0x7F);
            if shift == 63 && bits > 1 {
                return Err(Short);
            }
            value |= bits << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Short)
    }

    /// A varint that has to fit in 32 bits.
    pub fn varint_u32(&mut self) -> Result<u32, Short> {
        u32::try_from(self.varint()?).map_err(|_| Short)
    }

    /// A slice behind its length as varint.
    pub fn short_slice(&mut self) -> Result<&'a [u8], Short> {
        let len = self.varint()?;
        self.take(usize::try_from(len).map_err(|_| Short)?)
    }

    /// A slice behind its length as u32.
    pub fn slice(&mut self) -> Result<&'a [u8], Short> {
        let len = self.u32()?;
        self.take(to_usize(u64::from(len)))
    }
}

/// Appends little-endian fields to a vector.
pub trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_u128(&mut self, value: u128);
    /// See [`Reader::varint`].
    fn put_varint(&mut self, value: u64);
    /// A slice behind its length as varint.
    fn put_short_slice(&mut self, value: &[u8]);
    /// A slice behind its length as u32.
    fn put_slice(&mut self, value: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u128(&mut self, value: u128) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(0x80 | u8::try_from(value & 0x7F).expect("masked to seven bits"));
            value >>= 7;
        }
        self.push(u8::try_from(value).expect("seven bits are left"));
    }
    fn put_short_slice(&mut self, value: &[u8]) {
        self.put_varint(to_u64(value.len()));
        self.extend_from_slice(value);
    }
    fn put_slice(&mut self, value: &[u8]) {
        self.put_u32(to_u32(value.len()));
        self.extend_from_slice(value);
    }
}

/// A length or offset of the disk as one of memory. The same width, asserted in `lib.rs`.
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, asserted in lib.rs")]
pub const fn to_usize(value: u64) -> usize {
    value as usize
}

/// A length of memory as one of the disk.
pub const fn to_u64(value: usize) -> u64 {
    value as u64
}

/// A length that a bound keeps below 4 GiB.
pub fn to_u32(value: usize) -> u32 {
    u32::try_from(value).expect("bounded far below 4 GiB")
}
