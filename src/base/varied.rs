//! Messages that differ from a valid one in one number, for tests: what a damaged or hostile object may say.

use prost::encoding::{decode_varint, encode_varint};

/// What numbers are set to.
const NUMBERS: [u64; 5] = [0, 1, 1 << 62, u64::MAX - 1, u64::MAX];
/// Fields are added up to this number, to have those that are absent because they are 0.
const FIELDS: u64 = 20;
/// How a field is written: the lowest bits of its tag.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

struct Field<'a> {
    tag: u64,
    /// All of it, with its tag.
    bytes: &'a [u8],
    /// Without tag and length.
    content: &'a [u8],
}

/// All messages that differ from this protobuf message in one number, at any depth.
pub fn varied(message: &[u8]) -> Vec<Vec<u8>> {
    let Some(fields) = fields(message) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    let mut rest = message;
    for field in &fields {
        let before = &message[..message.len() - rest.len()];
        rest = &rest[field.bytes.len()..];
        let mut add = |changed: Vec<u8>| all.push([before, &changed, rest].concat());
        for number in NUMBERS {
            let mut changed = varint(field.tag);
            match field.tag & 7 {
                VARINT => changed.extend(varint(number)),
                FIXED_64 => changed.extend(number.to_le_bytes()),
                FIXED_32 => changed.extend((number as u32).to_le_bytes()),
                _ => continue,
            }
            add(changed);
        }
        if field.tag & 7 == BYTES {
            for inner in varied(field.content) {
                add([varint(field.tag), varint(inner.len() as u64), inner].concat());
            }
        }
    }
    for field in 1..=FIELDS {
        for number in NUMBERS {
            // Of several the last one counts.
            all.push([message, &varint(field << 3 | VARINT), &varint(number)].concat());
        }
    }
    all
}

/// The fields of a message; `None` for bytes that are none.
fn fields(mut rest: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let start = rest;
        let tag = decode_varint(&mut rest).ok()?;
        let len = match tag & 7 {
            VARINT => {
                let mut after = rest;
                decode_varint(&mut after).ok()?;
                rest.len() - after.len()
            }
            FIXED_64 => 8,
            BYTES => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
            FIXED_32 => 4,
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(len)?;
        rest = after;
        fields.push(Field {
            tag,
            bytes: &start[..start.len() - rest.len()],
            content,
        });
    }
    Some(fields)
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(number, &mut bytes);
    bytes
}
