//! Bytes of the object store: log entries that are damaged or forged decode to an error, or to an entry that can be applied.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shoal::wal;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((entry, _)) = wal::decode(bytes.to_vec().into()) {
        let _ = wal::encode(&entry);
    }
});
