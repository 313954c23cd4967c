//! Entries of newer versions, and bytes that no version writes.

use super::*;

#[test]
fn newer_versions_and_features_are_named_as_such() {
    let (bytes, _) = encode(&golden());
    for (at, what) in [(8, "version"), (24, "feature")] {
        let mut newer = bytes.to_vec();
        newer[at] += 1;
        let crc = crc32c::crc32c(&newer[..60]);
        newer[60..64].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(decode(newer.into()), Err(DecodeError::Newer(_))), "{what}");
    }
    let resealed = |change: fn(&mut proto::EntryHeader)| {
        let (header, body, _) = container::open(Kind::Entry, &bytes).expect("just encoded");
        let mut header = proto::EntryHeader::decode(header).expect("just encoded");
        change(&mut header);
        decode(seal(&header.encode_to_vec(), &body)).err()
    };
    let newer: [fn(&mut proto::EntryHeader); 5] = [
        |h| h.kind = 77,
        |h| h.requests[0].operations[0].kind = 77,
        |h| h.groups[0].columns[0].r#type = "quaternion".into(),
        |h| h.requests[0].schema.as_mut().expect("it has one").id_kind = 77,
        |h| {
            h.requests[0].schema.as_mut().expect("it has one").puts[0]
                .full_text
                .as_mut()
                .expect("it has one")
                .language = "klingon".into()
        },
    ];
    for (i, change) in newer.into_iter().enumerate() {
        assert!(matches!(resealed(change), Some(DecodeError::Newer(_))), "change {i}");
    }
    let corrupt: [fn(&mut proto::EntryHeader); 8] = [
        |h| h.kind = 0,
        |h| h.namespace = Bytes::new(),
        |h| h.groups[0].rows = u32::MAX,
        |h| h.groups[0].columns[0].r#type = "int".into(),
        |h| h.groups[0].table.as_mut().expect("it has one").raw_len = 1 << 50,
        |h| h.groups[0].table.as_mut().expect("it has one").offset = u64::MAX,
        |h| h.requests[0].operations[0].rows += 1,
        |h| h.requests[0].operations[0].group = 1000,
    ];
    for (i, change) in corrupt.into_iter().enumerate() {
        assert!(matches!(resealed(change), Some(DecodeError::Corrupt(_))), "change {i}");
    }
}

#[test]
fn bytes_that_were_cut_or_changed_anywhere_are_refused() {
    let (bytes, _) = encode(&golden());
    for len in 0..bytes.len() {
        assert!(decode(bytes.slice(..len)).is_err(), "cut to {len}");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 8);
        assert!(decode(changed.into()).is_err(), "bit flipped at {at}");
    }
    assert!(decode_blob(bytes).is_err(), "an entry is no blob");
}

/// Puts valid checksums around a damaged body and header, so that the damage reaches the decoders
/// behind them.
pub(crate) fn reseal(bytes: &Bytes, change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> Bytes {
    let (header, body, _) = container::open(Kind::Entry, bytes).expect("just encoded");
    let (mut header, mut body) = (header.to_vec(), body.to_vec());
    change(&mut header, &mut body);
    if let Ok(mut parsed) = proto::EntryHeader::decode(&header[..]) {
        for group in &mut parsed.groups {
            let vectors = group.columns.iter_mut().filter_map(|c| c.vectors.as_mut());
            for section in group.table.iter_mut().chain(vectors) {
                let end = section.offset.saturating_add(section.len);
                if let Some(stored) = body.get(section.offset as usize..end as usize) {
                    section.crc32c = crc32c::crc32c(stored);
                }
            }
        }
        header = parsed.encode_to_vec();
    }
    seal(&header, &body)
}

#[test]
fn damage_behind_valid_checksums_never_panics() {
    let (bytes, _) = encode(&golden());
    let (header, body, _) = container::open(Kind::Entry, &bytes).expect("just encoded");
    for at in 0..body.len() {
        for value in [0, 0x7f, 0xff, body[at].wrapping_add(1)] {
            let _ = decode(reseal(&bytes, |_, body| body[at] = value));
        }
    }
    for at in 0..header.len() {
        for value in [0, 0x7f, 0xff, header[at].wrapping_add(1)] {
            let _ = decode(reseal(&bytes, |header, _| header[at] = value));
        }
    }
}

#[test]
fn every_number_of_an_entry_may_be_the_largest_or_none() {
    let (bytes, _) = encode(&golden());
    let (header, _, _) = container::open(Kind::Entry, &bytes).expect("just encoded");
    let mut accepted = 0;
    for varied in varied(&header) {
        let Ok((entry, _)) = decode(reseal(&bytes, |header, _| *header = varied.clone())) else {
            continue;
        };
        accepted += 1;
        assert!(entry.seq > Seq::ZERO && entry.seq <= Seq::MAX && entry.hlc_ms <= CLOCK_MS_MAX);
        assert!(entry.seq.next() > entry.seq && entry.staged_bytes() <= 1 << 40);
        let mut schema = Schema::default();
        if let EntryKind::Data(requests) = &entry.kind {
            requests.iter().for_each(|request| schema.apply(&request.schema));
        }
        assert_eq!(meaning(&round_trip(&entry)), meaning(&entry));
    }
    assert!(accepted > 100, "{accepted}");
}

#[test]
fn an_entry_that_none_can_follow_is_refused() {
    type Change = fn(&mut proto::EntryHeader);
    let cases: [(&str, Change); 8] = [
        ("number", |h| h.seq = 0),
        ("number", |h| h.seq = Seq::MAX.0 + 1),
        ("manifest", |h| h.manifest_gen_hint = u64::MAX),
        ("clock", |h| h.hlc_ms = CLOCK_MS_MAX + 1),
        ("blobs", |h| h.requests[1].staged[0].len = u64::MAX),
        ("more rows", |h| {
            h.requests[0].reply.as_mut().expect("a reply").upserted = Some(u64::MAX)
        }),
        ("texts", |h| {
            let put = &mut h.requests[0].schema.as_mut().expect("a change").puts[0];
            put.full_text.as_mut().expect("searched").k1 = f64::NAN;
        }),
        ("2147483649", |h| {
            h.requests[0].schema.as_mut().expect("a change").puts[0].id = AttrId::MAX.0 + 1;
        }),
    ];
    let (bytes, _) = encode(&golden());
    for (says, change) in cases {
        let resealed = reseal(&bytes, |header, _| {
            let mut parsed = proto::EntryHeader::decode(&header[..]).expect("just encoded");
            change(&mut parsed);
            *header = parsed.encode_to_vec();
        });
        let error = decode(resealed).expect_err(says);
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}
