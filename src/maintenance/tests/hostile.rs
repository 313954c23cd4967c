//! Objects that were damaged, or made by somebody who means harm, and whose checksums are right all the same.

use std::cell::Cell;
use std::sync::Once;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use prost::Message;
use serde_json::json;

use super::engine::{Node, name, org};
use super::world::rows_of;
use super::*;
use crate::base::varied::varied;
use crate::manifest::format::proto;
use crate::manifest::tests::framed;
use crate::manifest::tests::scripted::ScriptedStore;
use crate::model::{Gen, Seq};
use crate::store::paths::{self, NsKey};
use crate::wal;
use crate::wal::format::tests::damaged::reseal;

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// How many panics this thread has seen: those in tasks are nobody else's to see.
fn panics() -> u32 {
    static COUNT: Once = Once::new();
    COUNT.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            usual(info);
        }));
    });
    PANICS.get()
}

fn ns() -> NsKey {
    NsKey::new(org(), name("docs"))
}

type Objects = Vec<(Path, Bytes)>;

/// A namespace with a segment in its manifest and another one outside, deleted rows, and entries after them.
async fn lived() -> Objects {
    let backend = ScriptedStore::new();
    let node = Node::new(&backend, 1);
    node.upsert("docs", 0..20).await;
    node.indexer(|o| o.inline = false)
        .flush(&org(), &name("docs"))
        .await
        .expect("flushed");
    node.write(
        "docs",
        json!({"deletes": [3, 4, 5], "upsert_rows": [{"id": 7, "n": 1, "text": "other"}]}),
    )
    .await;
    node.indexer(|_| ())
        .flush(&org(), &name("docs"))
        .await
        .expect("flushed");
    node.upsert("docs", 30..33).await;
    let manifest = node.manifest("docs").await.expect("flushed");
    assert!(manifest.segments.len() == 2 && manifest.segments.iter().any(|s| s.meta.inline.is_some()));
    let listed: Vec<_> = node
        .store
        .list(&paths::upkeep::namespaces(), None)
        .try_collect()
        .await
        .expect("listed");
    let mut objects = Vec::new();
    for object in listed {
        let bytes = node.store.get(&object.location).await.expect("read").expect("there");
        objects.push((object.location, bytes));
    }
    objects
}

/// Has a node do everything with a namespace of which these objects were replaced. Whatever it says no to, it does not
/// panic, and what it says yes to can be read again.
async fn endure(objects: &Objects, replaced: &[(Path, Bytes)]) {
    let backend = ScriptedStore::new();
    let node = Node::new(&backend, 2);
    for (key, bytes) in objects.iter().chain(replaced) {
        node.store.put(key, bytes.clone()).await.expect("put");
    }
    let before = panics();
    let work = async {
        let read = node.engine.newest(&org(), &name("docs")).await;
        if let Ok(snapshot) = &read {
            let _ = rows_of(snapshot).await;
        }
        let rows = json!({"upsert_rows": [{"id": 1, "n": 5, "new": "attribute"}], "deletes": [31]});
        let written = node.try_write(&org(), "docs", rows).await.is_ok();
        let indexer = node.indexer(|o| (o.merge_fan_out, o.inline) = (2, false));
        let flushed = indexer.flush(&org(), &name("docs")).await;
        let merged = indexer.merge(&org(), &name("docs")).await;
        tracing::debug!(?flushed, ?merged);
        written
    };
    let written = tokio::time::timeout(Duration::from_secs(600), work)
        .await
        .expect("it ends");
    let reader = Node::new(&backend, 3);
    let read = reader.engine.newest(&org(), &name("docs")).await;
    assert!(
        read.is_ok() || !written,
        "what was written can be read: {:?}",
        read.err()
    );
    assert_eq!(panics(), before);
}

#[test]
fn no_manifest_that_is_accepted_makes_a_node_fail() {
    run(async {
        let objects = lived().await;
        let (head, generation) = (paths::head(&ns()), Gen(2));
        let (_, newest) = objects.iter().find(|(key, _)| *key == head).expect("there");
        let mut endured = 0;
        for message in varied(&newest[32..newest.len() - 16]) {
            let bytes = framed(&message, 1, 0);
            if crate::manifest::decode(&bytes).is_err() {
                continue;
            }
            let parsed = proto::Manifest::decode(&message[..]).expect("a manifest");
            let own = paths::manifest(&ns(), Gen(parsed.r#gen));
            let replaced = [
                (head.clone(), bytes.clone()),
                (paths::manifest(&ns(), generation), bytes.clone()),
                (own, bytes),
            ];
            endure(&objects, &replaced).await;
            endured += 1;
        }
        assert!(endured > 100, "{endured}");
    });
}

#[test]
fn no_entry_that_is_accepted_makes_a_node_fail() {
    run(async {
        let objects = lived().await;
        let key = paths::wal_entry(&ns(), Seq(3));
        let (_, entry) = objects.iter().find(|(found, _)| *found == key).expect("there");
        let header_len = u32::from_le_bytes(entry[12..16].try_into().expect("four bytes")) as usize;
        let mut endured = 0;
        for header in varied(&entry[64..64 + header_len]) {
            let bytes = reseal(entry, |old, _| *old = header);
            if wal::decode(bytes.clone()).is_ok() {
                endure(&objects, &[(key.clone(), bytes)]).await;
                endured += 1;
            }
        }
        assert!(endured > 100, "{endured}");
    });
}

/// Numbers at the ends of what is believed, where the next ones may not be.
#[test]
fn the_last_positions_that_are_believed_can_be_worked_on() {
    run(async {
        let objects = lived().await;
        let head = paths::head(&ns());
        let (_, newest) = objects.iter().find(|(key, _)| *key == head).expect("there");
        let message = proto::Manifest::decode(&newest[32..newest.len() - 16]).expect("a manifest");
        type Change = fn(&mut proto::Manifest);
        let changes: [Change; 4] = [
            |m| m.r#gen = Gen::MAX.0,
            |m| m.indexed_seq = Seq::INDEXED_MAX.0,
            |m| m.hlc_ms = crate::model::datetime::CLOCK_MS_MAX,
            |m| m.schema.as_mut().expect("a schema").next_attribute = crate::model::AttrId::MAX.0 + 1,
        ];
        for change in changes {
            let mut message = message.clone();
            change(&mut message);
            let own = paths::manifest(&ns(), Gen(message.r#gen));
            let bytes = framed(&message.encode_to_vec(), 1, 0);
            assert!(crate::manifest::decode(&bytes).is_ok());
            endure(&objects, &[(head.clone(), bytes.clone()), (own, bytes)]).await;
        }
    });
}
