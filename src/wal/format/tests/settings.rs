use super::*;
use crate::model::{NamespaceName, SettingsChange};

const GOLDEN_SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/log/v1-settings.bin");
const GOLDEN_ACCESS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/log/v1-access.bin");

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
            ..SettingsChange::default()
        }),
        request(10, vec![Operation::Delete(ids(IdKind::UInt, &[1]))]),
    ])
}

/// The entry of the golden file with settings that decide who may do what; never to be changed either.
fn golden_access() -> Entry {
    let of = |settings| RequestEffects {
        request: 9,
        settings,
        ..RequestEffects::default()
    };
    let network = |text: &str| text.parse().expect("a network");
    entry(vec![
        of(SettingsChange {
            group: Some(Some(uuid::Uuid::from_u128(0x0123_4567_89ab_cdef))),
            token_gen: Some(u64::MAX),
            block_reads: Some(true),
            block_writes: Some(true),
            delete_protection: Some(true),
            allow_attach: Some(true),
            size_limit: Some(Some(10_000_000_000)),
            allowed_ips: Some(vec![network("10.1.2.3/8"), network("2001:db8::/32")]),
            ..SettingsChange::default()
        }),
        of(SettingsChange {
            group: Some(None),
            token_gen: Some(0),
            block_reads: Some(false),
            block_writes: Some(false),
            delete_protection: Some(false),
            allow_attach: Some(false),
            size_limit: Some(None),
            allowed_ips: Some(Vec::new()),
            ..SettingsChange::default()
        }),
    ])
}

/// Written as the other golden file.
#[test]
fn the_golden_entries_with_settings_still_read_the_same() {
    for (path, entry) in [(GOLDEN_SETTINGS, golden_settings()), (GOLDEN_ACCESS, golden_access())] {
        let there = std::path::Path::new(path).exists();
        if !there && std::env::var_os("SHOAL_WRITE_GOLDEN").is_some() {
            std::fs::write(path, encode(&entry).0).expect("the directory exists");
        }
        let bytes = std::fs::read(path).expect("the golden file is in the repository");
        let (decoded, _) = decode(bytes.into()).expect("a version that is still supported");
        assert_eq!(meaning(&decoded), meaning(&entry));
        round_trip(&entry);
    }
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
    let wrong: [fn(&mut proto::SettingsChange); 7] = [
        |s| s.num_shards = Some(0),
        |s| s.num_shards = Some(257),
        |s| s.pinned_replicas = Some(257),
        |s| s.branch_parent = Some("no name".into()),
        |s| s.group = Some(vec![1; 15].into()),
        |s| {
            s.allowed_ips = Some(proto::Networks {
                networks: vec!["10.0.0.0/33".into()],
            })
        },
        |s| {
            s.allowed_ips = Some(proto::Networks {
                networks: vec!["10.0.0.0/8".into(); 65],
            })
        },
    ];
    for change in wrong {
        assert!(matches!(resealed(change), Err(DecodeError::Corrupt(_))));
    }
}
