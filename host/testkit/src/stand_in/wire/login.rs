//! LOGIN7 (MS-TDS 2.2.6.4), read only.

use super::bytes::Bytes;
use crate::stand_in::datum::from_utf16;

#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    pub packet_size: u32,
    pub host_name: String,
    pub user: String,
    pub password: String,
    pub app_name: String,
    pub server_name: String,
    pub database: String,
    pub read_only_intent: bool,
    /// Windows credentials in place of a password.
    pub integrated: bool,
    /// Features that the client asks for.
    pub features: Vec<u8>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the password.
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

pub fn parse(body: &[u8]) -> Option<Login> {
    let mut bytes = Bytes(body);
    let length = bytes.u32()? as usize;
    let body = body.get(..length.min(body.len()))?;
    let mut login = Login::default();
    bytes.u32()?;
    login.packet_size = bytes.u32()?;
    bytes.take(12)?;
    let [_, flags2, type_flags, flags3] = bytes.take(4)? else {
        return None;
    };
    login.integrated = flags2 & 0x80 != 0;
    login.read_only_intent = type_flags & 0x20 != 0;
    let extension = flags3 & 0x10 != 0;
    bytes.take(8)?;
    let raw = |bytes: &mut Bytes<'_>| {
        let (offset, length) = (usize::from(bytes.u16()?), usize::from(bytes.u16()?));
        body.get(offset..offset + length * 2)
    };
    login.host_name = from_utf16(raw(&mut bytes)?);
    login.user = from_utf16(raw(&mut bytes)?);
    // Each byte has its halves swapped and is XORed with 0xA5.
    let password: Vec<u8> = raw(&mut bytes)?
        .iter()
        .map(|byte| (byte ^ 0xa5).rotate_left(4))
        .collect();
    login.password = from_utf16(&password);
    login.app_name = from_utf16(raw(&mut bytes)?);
    login.server_name = from_utf16(raw(&mut bytes)?);
    let (at, length) = (usize::from(bytes.u16()?), usize::from(bytes.u16()?));
    if extension {
        let pointer = Bytes(body.get(at..at + length)?).u32()? as usize;
        login.features = features(body.get(pointer..)?)?;
    }
    bytes.take(4)?; // the client library's name
    bytes.take(4)?; // the language
    login.database = from_utf16(raw(&mut bytes)?);
    Some(login)
}

fn features(block: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Bytes(block);
    let mut features = Vec::new();
    loop {
        let feature = bytes.u8()?;
        if feature == 0xff {
            return Some(features);
        }
        let length = bytes.u32()? as usize;
        bytes.take(length)?;
        features.push(feature);
    }
}
