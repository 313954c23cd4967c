use super::*;
use crate::model::{NamespaceName, SettingsChange};

const GOLDEN_SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/log/v1-settings.bin");

/// The entry of the golden file with settings; never to be changed, only followed by others.
fn golden_settings() -> Entry {
    let of = |settings| RequestEffects {
        request: 9,
        settings,
        ..RequestEffects::default()
    };
    entry(vec![
        of(SettingsChange {
            read_only: Some(true),
            pinned_replicas: Some(Some(3)),
            ..SettingsChange::default()
        }),
        of(SettingsChange {
            read_only: Some(false),
            pinned_replicas: Some(None),
            num_shards: Some(256),
            parent: Some(NamespaceName::parse("Parent.of-it").expect("a valid name")),
        }),
        request(10, vec![Operation::Delete(ids(IdKind::UInt, &[1]))]),
    ])
}

/// Written as the other golden file.
#[test]
fn the_golden_entry_with_settings_still_reads_the_same() {
    let there = std::path::Path::new(GOLDEN_SETTINGS).exists();
    if !there && std::env::var_os("SHOAL_WRITE_GOLDEN").is_some() {
        std::fs::write(GOLDEN_SETTINGS, encode(&golden_settings()).0).expect("the directory exists");
    }
    let bytes = std::fs::read(GOLDEN_SETTINGS).expect("the golden file is in the repository");
    let (decoded, _) = decode(bytes.into()).expect("a version that is still supported");
    assert_eq!(meaning(&decoded), meaning(&golden_settings()));
    round_trip(&golden_settings());
}

#[test]
fn settings_that_no_version_writes_are_damage() {
    let (bytes, _) = encode(&golden_settings());
    let resealed = |change: fn(&mut proto::SettingsChange)| {
        let (header, body, _) = container::open(Kind::Entry, &bytes).expect("just encoded");
        let mut header = proto::EntryHeader::decode(header).expect("just encoded");
        change(header.requests[1].settings.as_mut().expect("it has some"));
        decode(seal(&header.encode_to_vec(), &body))
    };
    assert!(resealed(|_| {}).is_ok());
    let wrong: [fn(&mut proto::SettingsChange); 4] = [
        |s| s.num_shards = Some(0),
        |s| s.num_shards = Some(257),
        |s| s.pinned_replicas = Some(257),
        |s| s.branch_parent = Some("no name".into()),
    ];
    for change in wrong {
        assert!(matches!(resealed(change), Err(DecodeError::Corrupt(_))));
    }
}
