//! Reading what a client sent: every read may find too little, and none panics.

use crate::stand_in::datum::from_utf16;

/// What is left to read of a message.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u16_big(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Text whose length in characters is one byte.
    pub fn short_text(&mut self) -> Option<String> {
        let length = usize::from(self.u8()?);
        self.take(length * 2).map(from_utf16)
    }
}

/// Text with its length in characters in one byte (`B_VARCHAR`).
pub fn put_short_text(text: &str, into: &mut Vec<u8>) {
    let units: Vec<u16> = text.encode_utf16().take(255).collect();
    into.push(units.len() as u8);
    into.extend(units.iter().flat_map(|it| it.to_le_bytes()));
}

/// Text with its length in characters in two bytes (`US_VARCHAR`).
pub fn put_text(text: &str, into: &mut Vec<u8>) {
    let units: Vec<u16> = text.encode_utf16().take(usize::from(u16::MAX)).collect();
    into.extend((units.len() as u16).to_le_bytes());
    into.extend(units.iter().flat_map(|it| it.to_le_bytes()));
}
