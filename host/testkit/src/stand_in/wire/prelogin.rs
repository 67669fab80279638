//! PRELOGIN: what the client offers and what the server answers (MS-TDS 2.2.6.5).

use super::bytes::Bytes;

pub const ENCRYPT_OFF: u8 = 0;
pub const ENCRYPT_ON: u8 = 1;
pub const ENCRYPT_NOT_SUP: u8 = 2;
pub const ENCRYPT_REQ: u8 = 3;

const ENCRYPTION: u8 = 1;
const INSTANCE: u8 = 2;

/// What matters of a client's PRELOGIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prelogin {
    pub encryption: u8,
    pub instance: Vec<u8>,
}

pub fn parse(body: &[u8]) -> Option<Prelogin> {
    let mut found = Prelogin {
        encryption: ENCRYPT_NOT_SUP,
        instance: Vec::new(),
    };
    let mut options = Bytes(body);
    loop {
        let option = options.u8()?;
        if option == 0xff {
            return Some(found);
        }
        let (offset, length) = (
            usize::from(options.u16_big()?),
            usize::from(options.u16_big()?),
        );
        let value = body.get(offset..offset + length)?;
        match option {
            ENCRYPTION => found.encryption = *value.first()?,
            INSTANCE => found.instance = value.to_vec(),
            _ => {}
        }
    }
}

/// What the server says of encryption, and whether a TLS handshake follows.
pub fn agree(client: u8, server: u8) -> (u8, bool) {
    match (server, client) {
        (ENCRYPT_NOT_SUP, _) => (ENCRYPT_NOT_SUP, false),
        (ENCRYPT_REQ, ENCRYPT_OFF) => (ENCRYPT_REQ, true),
        (ENCRYPT_REQ, ENCRYPT_NOT_SUP) => (ENCRYPT_REQ, false),
        (ENCRYPT_REQ, _) | (_, ENCRYPT_ON | ENCRYPT_REQ) => (ENCRYPT_ON, true),
        (_, ENCRYPT_NOT_SUP) => (ENCRYPT_NOT_SUP, false),
        (_, _) => (ENCRYPT_OFF, true),
    }
}

/// The answer: version 16.0, encryption, the right instance, no MARS.
pub fn answer(encryption: u8) -> Vec<u8> {
    let values: [(u8, &[u8]); 5] = [
        (0, &[16, 0, 0x10, 0x8b, 0, 0]),
        (ENCRYPTION, &[encryption]),
        (INSTANCE, &[0]),
        (3, &[]),
        (4, &[0]),
    ];
    let mut body = Vec::new();
    let mut offset = values.len() * 5 + 1;
    for (option, value) in values {
        body.push(option);
        body.extend((offset as u16).to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        offset += value.len();
    }
    body.push(0xff);
    for (_, value) in values {
        body.extend(value);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_can_be_read() {
        assert_eq!(parse(&answer(ENCRYPT_REQ)).unwrap().encryption, ENCRYPT_REQ);
        assert_eq!(parse(&[1, 0, 200, 0, 1, 0xff]), None);
    }

    #[test]
    fn encryption_is_agreed_as_documented() {
        for (client, server, said, tls) in [
            (ENCRYPT_OFF, ENCRYPT_OFF, ENCRYPT_OFF, true),
            (ENCRYPT_ON, ENCRYPT_OFF, ENCRYPT_ON, true),
            (ENCRYPT_NOT_SUP, ENCRYPT_OFF, ENCRYPT_NOT_SUP, false),
            (ENCRYPT_OFF, ENCRYPT_REQ, ENCRYPT_REQ, true),
            (ENCRYPT_ON, ENCRYPT_REQ, ENCRYPT_ON, true),
            (ENCRYPT_NOT_SUP, ENCRYPT_REQ, ENCRYPT_REQ, false),
            (ENCRYPT_ON, ENCRYPT_NOT_SUP, ENCRYPT_NOT_SUP, false),
        ] {
            assert_eq!(agree(client, server), (said, tls), "{client} {server}");
        }
    }
}
