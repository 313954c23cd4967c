use super::*;

fn branch() -> RequestEffects {
    RequestEffects {
        branch: Some(Bytes::from_static(b"an encoded manifest")),
        ..request(3, vec![Operation::Delete(ids(IdKind::UInt, &[1]))])
    }
}

/// What an encoded entry says its kind is, and the bytes of one that says another.
fn with_kind(entry: &Entry, kind: i32) -> Bytes {
    let (bytes, _) = encode(entry);
    let (header, body, _) = container::open(container::Kind::Entry, &bytes).expect("just sealed");
    let mut header = proto::EntryHeader::decode(header).expect("just encoded");
    header.kind = kind;
    let mut pieces = pieces::Pieces::default();
    pieces.push(body);
    container::seal(container::Kind::Entry, &header.encode_to_vec(), pieces)
        .0
        .into()
}

#[test]
fn a_branch_is_an_entry_of_its_own_kind_and_alone() {
    let alone = entry(vec![branch()]);
    let (bytes, digest) = encode(&alone);
    let (decoded, found) = decode(bytes).expect("just encoded");
    assert_eq!(found, digest);
    assert_eq!(decoded.branch(), alone.branch());
    // Its kind is what makes versions that do not know it refuse it.
    let (data, branched) = (proto::EntryKind::Data as i32, proto::EntryKind::Branch as i32);
    assert!(decode(with_kind(&alone, branched)).is_ok());
    assert!(matches!(decode(with_kind(&alone, data)), Err(DecodeError::Corrupt(_))));
    assert!(matches!(
        decode(with_kind(&alone, branched + 1)),
        Err(DecodeError::Newer(_))
    ));
    let without = entry(vec![request(1, Vec::new())]);
    assert!(decode(with_kind(&without, data)).is_ok());
    assert!(matches!(
        decode(with_kind(&without, branched)),
        Err(DecodeError::Corrupt(_))
    ));
    let (two, _) = encode(&entry(vec![branch(), request(4, Vec::new())]));
    assert!(matches!(decode(two), Err(DecodeError::Corrupt(_))));
}
