//! Tagged fields: how HELLO, and by convention the options and arguments that the protocol
//! carries without looking at them, spell a record that may grow.
//!
//! A field is `u8` tag, `u32` length, value; little-endian. Fields follow each other without
//! padding and without an end mark. A reader skips the tags that it does not know, which is how
//! records grow; a tag may be repeated to spell a list.
//!
//! ```
//! use posthaste_wire::fields::{Fields, Writer};
//!
//! let mut bytes = Vec::new();
//! Writer::new(&mut bytes).str(1, "orders.>").u32(2, 64);
//! let mut credit = 0;
//! for field in Fields::new(&bytes) {
//!     let field = field?;
//!     match field.tag() {
//!         1 => assert_eq!(field.str()?, "orders.>"),
//!         2 => credit = field.u32()?,
//!         _ => {} // from a newer peer
//!     }
//! }
//! assert_eq!(credit, 64);
//! # Ok::<(), posthaste_wire::fields::FieldError>(())
//! ```

use std::fmt;
use std::time::Duration;

/// Bytes of a field beside its value: the tag and the length.
pub const FIELD_OVERHEAD: usize = 5;

/// Appends fields to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    into: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `into` and leaves what is there.
    pub fn new(into: &'a mut Vec<u8>) -> Self {
        Self { into }
    }

    /// Appends one byte.
    pub fn u8(&mut self, tag: u8, value: u8) -> &mut Self {
        self.bytes(tag, &[value])
    }

    /// Appends a yes or no, as one byte.
    pub fn bool(&mut self, tag: u8, value: bool) -> &mut Self {
        self.bytes(tag, &[u8::from(value)])
    }

    /// Appends two bytes.
    pub fn u16(&mut self, tag: u8, value: u16) -> &mut Self {
        self.bytes(tag, &value.to_le_bytes())
    }

    /// Appends four bytes.
    pub fn u32(&mut self, tag: u8, value: u32) -> &mut Self {
        self.bytes(tag, &value.to_le_bytes())
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, tag: u8, value: u64) -> &mut Self {
        self.bytes(tag, &value.to_le_bytes())
    }

    /// Appends a duration, as whole microseconds in eight bytes; what does not fit is cut.
    pub fn duration(&mut self, tag: u8, value: Duration) -> &mut Self {
        self.u64(tag, crate::transfer::micros(value))
    }

    /// Appends a text.
    pub fn str(&mut self, tag: u8, value: &str) -> &mut Self {
        self.bytes(tag, value.as_bytes())
    }

    /// Appends bytes as they are. A value of 4 GiB or more does not fit its length and is left out.
    pub fn bytes(&mut self, tag: u8, value: &[u8]) -> &mut Self {
        if let Ok(len) = u32::try_from(value.len()) {
            self.into.reserve(value.len().saturating_add(FIELD_OVERHEAD));
            self.into.push(tag);
            self.into.extend_from_slice(&len.to_le_bytes());
            self.into.extend_from_slice(value);
        }
        self
    }

    /// Appends a record within the record: `write` gets a writer for the value.
    pub fn record(&mut self, tag: u8, write: impl FnOnce(&mut Writer<'_>)) -> &mut Self {
        self.into.push(tag);
        let length_at = self.into.len();
        self.into.extend_from_slice(&[0; 4]);
        let value_at = self.into.len();
        write(&mut Writer { into: self.into });
        let len = self.into.len().saturating_sub(value_at);
        let stated = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        if let Some(place) = self.into.get_mut(length_at..value_at) {
            place.copy_from_slice(&stated);
        }
        self
    }
}

/// Reads fields one after the other; after an error it ends.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    left: &'a [u8],
}

impl<'a> Fields<'a> {
    /// A reader over exactly one record.
    #[must_use]
    pub fn new(record: &'a [u8]) -> Self {
        Self { left: record }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, FieldError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let field = split_field(self.left);
        self.left = field.map_or(&[], |(_, rest)| rest);
        Some(field.map(|(field, _)| field).ok_or(FieldError::TRUNCATED))
    }
}

fn split_field(from: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (&tag, rest) = from.split_first()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (value, rest) = rest.split_at_checked(len)?;
    Some((Field { tag, value }, rest))
}

/// One field of a record, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    tag: u8,
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Which field it is.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.tag
    }

    /// The value as it is.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.value
    }

    /// The value as one byte.
    ///
    /// # Errors
    /// If it is not exactly one byte long.
    pub fn u8(&self) -> Result<u8, FieldError> {
        self.array().map(|[byte]| byte)
    }

    /// The value as yes or no.
    ///
    /// # Errors
    /// If it is not one byte that is 0 or 1.
    pub fn bool(&self) -> Result<bool, FieldError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FieldError { tag: self.tag, what: "is neither 0 nor 1" }),
        }
    }

    /// The value as a number of two bytes.
    ///
    /// # Errors
    /// If it is not exactly two bytes long.
    pub fn u16(&self) -> Result<u16, FieldError> {
        self.array().map(u16::from_le_bytes)
    }

    /// The value as a number of four bytes.
    ///
    /// # Errors
    /// If it is not exactly four bytes long.
    pub fn u32(&self) -> Result<u32, FieldError> {
        self.array().map(u32::from_le_bytes)
    }

    /// The value as a number of eight bytes.
    ///
    /// # Errors
    /// If it is not exactly eight bytes long.
    pub fn u64(&self) -> Result<u64, FieldError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The value as a duration in microseconds.
    ///
    /// # Errors
    /// If it is not exactly eight bytes long.
    pub fn duration(&self) -> Result<Duration, FieldError> {
        self.u64().map(Duration::from_micros)
    }

    /// The value as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn str(&self) -> Result<&'a str, FieldError> {
        std::str::from_utf8(self.value)
            .map_err(|_| FieldError { tag: self.tag, what: "is not UTF-8" })
    }

    /// The value as a record of its own.
    #[must_use]
    pub fn record(&self) -> Fields<'a> {
        Fields::new(self.value)
    }

    /// The value as exactly `N` bytes.
    ///
    /// # Errors
    /// If its length is another.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], FieldError> {
        <[u8; N]>::try_from(self.value)
            .map_err(|_| FieldError { tag: self.tag, what: "does not have its type's length" })
    }
}

/// A record that cannot be read, and the tag of the field that is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldError {
    tag: u8,
    what: &'static str,
}

impl FieldError {
    const TRUNCATED: Self = Self { tag: 0, what: "is cut short" };

    /// The tag of the field at fault; 0 if the record ends in the middle of a field.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.tag
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tag {
            0 => write!(f, "a record {}", self.what),
            tag => write!(f, "the field with tag {tag} {}", self.what),
        }
    }
}

impl std::error::Error for FieldError {}
