//! Bodies of writes and of schema updates: parsed and typed on an empty and on a full namespace, applied, logged and read back.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use shoal::model::write;
use shoal::snapshot::Snapshot;
use shoal::wal;

static NAMESPACE: LazyLock<Snapshot> = LazyLock::new(shoal_fuzz::namespace);

fuzz_target!(|body: &[u8]| {
    let limits = shoal_fuzz::limits();
    let empty = Snapshot::empty();
    for base in [&empty, &*NAMESPACE] {
        let _ = write::prepare_schema(body, &base.schema, &limits);
        let Ok(write) = write::prepare(body, &base.schema, &limits) else {
            continue;
        };
        assert!(write.fits(&base.schema), "it was prepared for this schema");
        let after = shoal_fuzz::apply(base, &write);
        let (bytes, digest) = wal::encode(&shoal_fuzz::entry(base, &write));
        let bytes: Vec<u8> = bytes.iter().flatten().copied().collect();
        let (entry, read_back) = wal::decode(bytes.into()).expect("what was written can be read");
        assert_eq!(digest, read_back);
        let again = base.apply(&entry, wal::Digest(1), 1).expect("the same entry");
        assert_eq!((after.rows(), &after.schema), (again.rows(), &again.schema));
    }
});
