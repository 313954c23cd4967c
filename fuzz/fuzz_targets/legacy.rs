//! Bodies of v1: writes are translated, and what v2 then makes of them is applied; queries are parsed and run.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use shoal::api::legacy::{parse_query, translate_write};
use shoal::base::CpuPool;
use shoal::model::write;
use shoal::query::{View, execute};
use shoal::snapshot::Snapshot;

static NAMESPACE: LazyLock<Snapshot> = LazyLock::new(shoal_fuzz::namespace);

fuzz_target!(|body: &[u8]| {
    let limits = shoal_fuzz::limits();
    if let Ok(translated) = translate_write(body, 64 * 1024) {
        for base in [&Snapshot::empty(), &*NAMESPACE] {
            if let Ok(write) = write::prepare(&translated, &base.schema, &limits) {
                shoal_fuzz::apply(base, &write);
            }
        }
    }
    if let Ok((request, _)) = parse_query(body, &limits) {
        let queries: Arc<[_]> = request.read.queries.into();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let view = Arc::new(View::all(NAMESPACE.schema.clone()));
        let _ = runtime.block_on(execute(&NAMESPACE, &view, &queries, &CpuPool::inline(), &limits));
    }
});
