//! Attributes: reading those of one level of a message, and writing a tree of them.
//!
//! Reading is as strict as the kernel's validation of new families (`lib/nlattr.c`): a value too short is `ERANGE`, any
//! other that does not fit is `EINVAL`. An attribute that the interface does not have is `EINVAL` too: it asks for
//! something that would not be done.

use std::collections::BTreeMap;

use netlink_packet_core::{Emitable, NLA_HEADER_SIZE, Nla, NlasIterator};
use rustix::io::Errno;

/// The attributes of one level; of several of a kind the last counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes<'a>(BTreeMap<u16, &'a [u8]>);

impl<'a> Attributes<'a> {
    /// Reads a level whose kinds go up to `kind_max`.
    ///
    /// # Errors
    /// `EINVAL` when the bytes are no attributes, or have one of another kind.
    pub fn parse(bytes: &'a [u8], kind_max: u16) -> Result<Self, Errno> {
        let mut attributes = BTreeMap::new();
        for attribute in NlasIterator::new(bytes) {
            let attribute = attribute.map_err(|_| Errno::INVAL)?;
            let kind = attribute.kind();
            if kind == 0 || kind > kind_max {
                return Err(Errno::INVAL);
            }
            let end = usize::from(attribute.length());
            let value = attribute.into_inner().get(NLA_HEADER_SIZE..end);
            attributes.insert(kind, value.ok_or(Errno::INVAL)?);
        }
        Ok(Self(attributes))
    }

    /// The bytes of a value.
    pub fn bytes(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.get(&kind).copied()
    }

    /// The attributes within one.
    ///
    /// # Errors
    /// Those of [`Self::parse`].
    pub fn nested(&self, kind: u16, kind_max: u16) -> Result<Option<Self>, Errno> {
        self.bytes(kind)
            .map(|bytes| Self::parse(bytes, kind_max))
            .transpose()
    }

    /// A value of exactly so many bytes.
    ///
    /// # Errors
    /// `ERANGE` when it is shorter, `EINVAL` when it is longer.
    pub fn array<const N: usize>(&self, kind: u16) -> Result<Option<[u8; N]>, Errno> {
        let Some(bytes) = self.bytes(kind) else {
            return Ok(None);
        };
        match bytes.try_into() {
            Ok(array) => Ok(Some(array)),
            Err(_) if bytes.len() < N => Err(Errno::RANGE),
            Err(_) => Err(Errno::INVAL),
        }
    }

    /// A number of 8 bits.
    ///
    /// # Errors
    /// Those of [`Self::array`].
    pub fn u8(&self, kind: u16) -> Result<Option<u8>, Errno> {
        Ok(self.array(kind)?.map(|[byte]| byte))
    }

    /// A number of 16 bits in host byte order.
    ///
    /// # Errors
    /// Those of [`Self::array`].
    pub fn u16(&self, kind: u16) -> Result<Option<u16>, Errno> {
        Ok(self.array(kind)?.map(u16::from_ne_bytes))
    }

    /// A number of 16 bits in network byte order.
    ///
    /// # Errors
    /// Those of [`Self::array`].
    pub fn port(&self, kind: u16) -> Result<Option<u16>, Errno> {
        Ok(self.array(kind)?.map(u16::from_be_bytes))
    }

    /// A number of 32 bits in host byte order.
    ///
    /// # Errors
    /// Those of [`Self::array`].
    pub fn u32(&self, kind: u16) -> Result<Option<u32>, Errno> {
        Ok(self.array(kind)?.map(u32::from_ne_bytes))
    }

    /// A text that ends with a NUL, of up to `bytes_max` bytes before it.
    ///
    /// # Errors
    /// `EINVAL` without the NUL or when it is no text, `ERANGE` when it is too long.
    pub fn text(&self, kind: u16, bytes_max: usize) -> Result<Option<&'a str>, Errno> {
        let Some(bytes) = self.bytes(kind) else {
            return Ok(None);
        };
        let end = bytes.iter().position(|byte| *byte == 0);
        let text = bytes.get(..end.ok_or(Errno::INVAL)?).unwrap_or_default();
        if text.len() > bytes_max {
            return Err(Errno::RANGE);
        }
        str::from_utf8(text).map(Some).map_err(|_| Errno::INVAL)
    }
}

/// An attribute to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// What it is of its level.
    pub kind: u16,
    /// What it says.
    pub value: Value,
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// Attributes.
    Nested(Vec<Attribute>),
}

impl Attribute {
    /// A number of 8 bits.
    pub fn u8(kind: u16, number: u8) -> Self {
        Self::bytes(kind, vec![number])
    }

    /// A number of 16 bits in host byte order.
    pub fn u16(kind: u16, number: u16) -> Self {
        Self::bytes(kind, number.to_ne_bytes().to_vec())
    }

    /// A number of 16 bits in network byte order.
    pub fn port(kind: u16, port: u16) -> Self {
        Self::bytes(kind, port.to_be_bytes().to_vec())
    }

    /// A number of 32 bits in host byte order.
    pub fn u32(kind: u16, number: u32) -> Self {
        Self::bytes(kind, number.to_ne_bytes().to_vec())
    }

    /// A number of 64 bits in host byte order.
    pub fn u64(kind: u16, number: u64) -> Self {
        Self::bytes(kind, number.to_ne_bytes().to_vec())
    }

    /// A text, with the NUL at its end.
    pub fn text(kind: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        Self::bytes(kind, bytes)
    }

    /// Bytes as they are.
    pub fn bytes(kind: u16, bytes: Vec<u8>) -> Self {
        let value = Value::Bytes(bytes);
        Self { kind, value }
    }

    /// Attributes within one.
    pub fn nested(kind: u16, attributes: Vec<Self>) -> Self {
        let value = Value::Nested(attributes);
        Self { kind, value }
    }
}

impl Nla for Attribute {
    fn value_len(&self) -> usize {
        match &self.value {
            Value::Bytes(bytes) => bytes.len(),
            Value::Nested(attributes) => attributes.as_slice().buffer_len(),
        }
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        match &self.value {
            Value::Bytes(bytes) => buffer.copy_from_slice(bytes),
            Value::Nested(attributes) => attributes.as_slice().emit(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(attributes: &[Attribute]) -> Vec<u8> {
        let mut bytes = vec![0xa5; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let written = [
            Attribute::u8(1, 7),
            Attribute::u16(2, 0x1234),
            Attribute::port(3, 80),
            Attribute::u32(4, 0x1234_5678),
            Attribute::text(5, "wlc"),
            Attribute::nested(6, vec![Attribute::u32(1, 9)]),
        ];
        let bytes = bytes_of(&written);
        let read = Attributes::parse(&bytes, 6).unwrap();
        assert_eq!(read.u8(1), Ok(Some(7)));
        assert_eq!(read.u16(2), Ok(Some(0x1234)));
        assert_eq!(read.bytes(3), Some(&[0, 80][..]));
        assert_eq!(read.port(3), Ok(Some(80)));
        assert_eq!(read.u32(4), Ok(Some(0x1234_5678)));
        assert_eq!(read.text(5, 15), Ok(Some("wlc")));
        let inner = read.nested(6, 1).unwrap().unwrap();
        assert_eq!(inner.u32(1), Ok(Some(9)));
        assert_eq!(inner.u32(2), Ok(None));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let unterminated = bytes_of(&[Attribute::bytes(1, b"wlc".to_vec())]);
        let read = Attributes::parse(&unterminated, 1).unwrap();
        assert_eq!(read.text(1, 15), Err(Errno::INVAL));
        assert_eq!(read.u16(1), Err(Errno::INVAL));
        assert_eq!(read.u32(1), Err(Errno::RANGE));
        let long = bytes_of(&[Attribute::text(1, "a-scheduler-name")]);
        let read = Attributes::parse(&long, 1).unwrap();
        assert_eq!(read.text(1, 15), Err(Errno::RANGE));

        let unknown = bytes_of(&[Attribute::u32(3, 0)]);
        assert_eq!(Attributes::parse(&unknown, 2), Err(Errno::INVAL));
        for length in 1..unknown.len() {
            let cut = unknown.get(..length).unwrap();
            assert_eq!(Attributes::parse(cut, 3), Err(Errno::INVAL), "{length}");
        }
    }
}
