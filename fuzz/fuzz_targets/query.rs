//! Queries with everything in them: rank expressions, filters, aggregates, computed attributes; run and printed.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use shoal::api::query::parse;
use shoal::base::CpuPool;
use shoal::query::{View, execute};
use shoal::snapshot::Snapshot;

static NAMESPACE: LazyLock<Snapshot> = LazyLock::new(shoal_fuzz::namespace);

fuzz_target!(|body: &[u8]| {
    let limits = shoal_fuzz::limits();
    let Ok(request) = parse(body, &limits) else { return };
    let queries: Arc<[_]> = request.read.queries.into();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let view = Arc::new(View::all(NAMESPACE.schema.clone()));
    let answer = runtime.block_on(execute(&NAMESPACE, &view, &queries, &CpuPool::inline(), &limits));
    if let Ok(results) = answer {
        assert_eq!(results.len(), queries.len());
        for (query, result) in queries.iter().zip(&results) {
            assert!(result.rows().len() <= query.limit);
        }
    }
});
