//! Reads a header's bytes in order, never past their end and never on the word of a length alone.

use std::fmt::{self, Display};

use crate::error::{Fault, Malformed};

/// What is being read, for the message when it cannot be.
#[derive(Clone, Copy)]
pub(crate) enum Reading<'a> {
    Header,
    Key { index: u64, count: u64 },
    Value { key: &'a str },
    TensorName { index: u64, count: u64 },
    Tensor { name: &'a str },
    Tensors,
    Metadata,
}

impl Display for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header"),
            Self::Key { index, count } => write!(f, "the name of metadata key {} of {count}", index + 1),
            Self::Value { key } => write!(f, "the value of metadata key {key:?}"),
            Self::TensorName { index, count } => write!(f, "the name of tensor {} of {count}", index + 1),
            Self::Tensor { name } => write!(f, "the description of tensor {name:?}"),
            Self::Tensors => f.write_str("the list of tensors"),
            Self::Metadata => f.write_str("the metadata"),
        }
    }
}

/// A position in a file's bytes.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next byte stands, from the start of the file.
    pub(crate) fn offset(&self) -> u64 {
        self.at as u64
    }

    /// A fault at the next byte.
    pub(crate) fn fault(&self, problem: Malformed) -> Fault {
        Fault { offset: self.offset(), problem }
    }

    pub(crate) fn take(&mut self, len: u64, reading: Reading<'_>) -> Result<&'a [u8], Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((taken, _)) = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)) else {
            return Err(self.truncated(len, rest.len() as u64, reading));
        };
        self.at += taken.len();
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, reading: Reading<'_>) -> Result<[u8; N], Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((taken, _)) = rest.split_first_chunk::<N>() else {
            return Err(self.truncated(N as u64, rest.len() as u64, reading));
        };
        self.at += N;
        Ok(*taken)
    }

    pub(crate) fn u32(&mut self, reading: Reading<'_>) -> Result<u32, Fault> {
        self.array(reading).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, reading: Reading<'_>) -> Result<u64, Fault> {
        self.array(reading).map(u64::from_le_bytes)
    }

    /// A count of entries that take at least `min_bytes` each: refused when the bytes left cannot hold them, so that
    /// what follows may trust it with memory in proportion to the file.
    pub(crate) fn count(&mut self, min_bytes: u64, reading: Reading<'_>) -> Result<u64, Fault> {
        let at = self.offset();
        let claimed = self.u64(reading)?;
        self.check_claim(at, claimed, min_bytes, reading)?;
        Ok(claimed)
    }

    /// Refuses `claimed` entries of at least `min_bytes` each that the bytes from here cannot hold; `at` is where the
    /// claim stands.
    pub(crate) fn check_claim(
        &self,
        at: u64,
        claimed: u64,
        min_bytes: u64,
        reading: Reading<'_>,
    ) -> Result<(), Fault> {
        let at_most = self.bytes.len().saturating_sub(self.at) as u64 / min_bytes.max(1);
        if claimed <= at_most {
            return Ok(());
        }
        Err(Fault {
            offset: at,
            problem: Malformed::Claim { reading: reading.to_string(), claimed, at_most },
        })
    }

    /// A string: its length in bytes (64 bits), then UTF-8 text.
    pub(crate) fn string(&mut self, reading: Reading<'_>) -> Result<&'a str, Fault> {
        let len = self.u64(reading)?;
        let start = self.offset();
        std::str::from_utf8(self.take(len, reading)?).map_err(|error| Fault {
            offset: start + error.valid_up_to() as u64,
            problem: Malformed::NotUtf8 { reading: reading.to_string() },
        })
    }

    fn truncated(&self, needed: u64, left: u64, reading: Reading<'_>) -> Fault {
        self.fault(Malformed::Truncated { reading: reading.to_string(), needed, left })
    }
}
