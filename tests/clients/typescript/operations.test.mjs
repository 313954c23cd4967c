// Conditions, writes by filter, copies and branches, metadata changes, plans, recall and schema changes.

import { test } from 'node:test';
import { Turbopuffer, apiKey, assert, baseURL, fresh, ids } from './support.mjs';

const stored = async (ns) => (await ns.query({ rank_by: ['id', 'asc'], limit: 100, include_attributes: true })).rows;

const refused = (error) =>
  error instanceof Turbopuffer.BadRequestError || error instanceof Turbopuffer.UnprocessableEntityError;

test('conditions compare stored with incoming values', async (t) => {
  const ns = fresh(t);
  await ns.write({ upsert_rows: [{ id: 1, rev: 1 }, { id: 2, rev: 5 }, { id: 3 }], schema: { rev: 'int' } });
  const newer = ['Or', [['rev', 'Lt', { $ref_new: 'rev' }], ['rev', 'Eq', null]]];
  let answer = await ns.write({
    upsert_rows: [{ id: 1, rev: 3 }, { id: 2, rev: 4 }, { id: 3, rev: 1 }, { id: 4, rev: 0 }],
    upsert_condition: newer,
    return_affected_ids: true,
  });
  assert.equal(answer.rows_upserted, 3);
  assert.deepEqual(answer.upserted_ids, [1, 3, 4]);
  answer = await ns.write({
    patch_rows: [{ id: 1, rev: 9 }, { id: 2, rev: 2 }, { id: 77, rev: 9 }],
    patch_condition: ['rev', 'Lt', { $ref_new: 'rev' }],
    return_affected_ids: true,
  });
  assert.deepEqual([answer.rows_affected, answer.patched_ids], [1, [1]]);
  answer = await ns.write({ deletes: [1, 2, 77], delete_condition: ['rev', 'Gt', 5], return_affected_ids: true });
  assert.deepEqual([answer.rows_deleted, answer.deleted_ids], [1, [1]]);
  answer = await ns.write({ upsert_rows: [{ id: 2, rev: 0 }, { id: 8, rev: 8 }], upsert_condition: ['id', 'Eq', null] });
  assert.equal(answer.rows_upserted, 1);
  assert.equal(answer.upserted_ids, undefined);
  assert.deepEqual(await stored(ns), [{ id: 2, rev: 5 }, { id: 3, rev: 1 }, { id: 4, rev: 0 }, { id: 8, rev: 8 }]);
});

test('writes by filter', async (t) => {
  const ns = fresh(t);
  await ns.write({ upsert_columns: { id: [1, 2, 3, 4], n: [1, 2, 3, 4] } });
  let answer = await ns.write({ patch_by_filter: { filters: ['n', 'Lte', 2], patch: { label: 'small' } } });
  assert.deepEqual([answer.rows_affected, answer.rows_patched], [2, 2]);
  answer = await ns.write({ delete_by_filter: ['n', 'In', [2, 4]], delete_by_filter_allow_partial: true });
  assert.deepEqual([answer.rows_affected, answer.rows_deleted, answer.rows_remaining ?? false], [2, 2, false]);
  assert.equal(typeof answer.billing.query.billable_logical_bytes_queried, 'number');
  answer = await ns.write({ delete_by_filter: ['n', 'Gt', 99] });
  assert.equal(answer.rows_affected, 0);
  assert.deepEqual(await stored(ns), [{ id: 1, label: 'small', n: 1 }, { id: 3, n: 3 }]);
});

test('copies and branches', async (t) => {
  const [source, copy, named, branch] = [fresh(t), fresh(t), fresh(t), fresh(t)];
  const rows = [{ id: 1, vector: [0.5, 0.25], n: 1 }, { id: 2, vector: [1, 2], n: 2 }];
  await source.write({ upsert_rows: rows, distance_metric: 'euclidean_squared' });
  const answer = await copy.copyFrom({ source_namespace: source.name });
  assert.deepEqual([answer.status, answer.rows_affected], ['OK', 2]);
  await named.write({ copy_from_namespace: source.name });
  assert.equal((await branch.branchFrom({ source_namespace: source.name })).status, 'OK');
  for (const ns of [copy, named, branch]) {
    assert.deepEqual(await stored(ns), rows);
    assert.deepEqual(await ns.schema(), await source.schema());
    assert.deepEqual(ids(await ns.query({ rank_by: ['vector', 'ANN', [1, 2]], top_k: 1 })), [2]);
  }
  await branch.write({ patch_rows: [{ id: 1, n: 10 }] });
  await source.deleteAll();
  assert.deepEqual((await stored(branch)).map((row) => row.n), [10, 2]);
  await assert.rejects(fresh(t).copyFrom({ source_namespace: source.name }), Turbopuffer.NotFoundError);
  await assert.rejects(copy.copyFrom({ source_namespace: branch.name }), Turbopuffer.BadRequestError);
  await assert.rejects(copy.branchFrom({ source_namespace: branch.name }), Turbopuffer.BadRequestError);
});

test('metadata is changed, and a read-only namespace refuses writes', async (t) => {
  const ns = fresh(t);
  await ns.write({ upsert_rows: [{ id: 1 }] });
  await ns.updateMetadata({ pinning: { replicas: 2 } });
  assert.equal((await ns.metadata()).pinning.replicas, 2);
  await ns.updateMetadata({ pinning: true });
  assert.equal((await ns.metadata()).pinning.replicas, 1);
  await ns.updateMetadata({ pinning: null });
  assert.equal((await ns.metadata()).pinning, undefined);
  await ns.updateMetadata({ read_only: true });
  assert.equal((await ns.metadata()).read_only, true);
  await assert.rejects(ns.write({ upsert_rows: [{ id: 2 }] }), /read-only/);
  await assert.rejects(ns.updateSchema({ schema: { later: 'int' } }), /read-only/);
  await ns.updateMetadata({ read_only: false });
  await ns.write({ upsert_rows: [{ id: 2 }] });
  assert.deepEqual(await stored(ns), [{ id: 1 }, { id: 2 }]);
  // The path of older clients answers an older shape.
  const older = await fetch(`${baseURL}/v1/namespaces/${ns.name}/metadata`, { headers: { authorization: `Bearer ${apiKey}` } });
  assert.deepEqual((await older.json()).encryption, { sse: true });
});

test('plans and recall', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [1, 2, 3].map((id) => ({ id, vector: [id, id] })),
    distance_metric: 'euclidean_squared',
  });
  const { plan_text } = await ns.explainQuery({ rank_by: ['vector', 'ANN', [1, 1]], top_k: 2 });
  assert.ok(plan_text.trim().length > 0);
  const recall = await ns.recall({ num: 1, top_k: 2 });
  assert.deepEqual([recall.avg_recall, recall.avg_exhaustive_count, recall.avg_ann_count], [1, 2, 2]);
  assert.equal(recall.ground_truth, undefined);
  const truth = await ns.recall({ num: 1, top_k: 2, include_ground_truth: true, filters: ['id', 'Gte', 2] });
  assert.deepEqual(truth.ground_truth[0].nearest_neighbors.map((row) => row.id).sort(), [2, 3]);
  assert.ok(truth.ground_truth[0].query_vector.length === 2);
  await assert.rejects(fresh(t).recall({}), Turbopuffer.NotFoundError);
  await assert.rejects(fresh(t).explainQuery({ rank_by: ['id', 'asc'], top_k: 1 }), Turbopuffer.NotFoundError);
});

test('attributes are dropped and switched', async (t) => {
  const ns = fresh(t);
  await ns.write({ upsert_rows: [{ id: 1, a: 'x', b: 1 }] });
  assert.deepEqual(Object.keys(await ns.updateSchema({ schema: { b: { drop: true } } })).sort(), ['a', 'id']);
  assert.deepEqual(await stored(ns), [{ id: 1, a: 'x' }]);
  const after = await ns.updateSchema({ schema: { a: { type: 'string', regex: true } } });
  assert.equal(after.a.regex, true);
  assert.equal(after.a.type, 'string');
  await assert.rejects(ns.updateSchema({ schema: { a: 'int' } }), refused);
});

test('sharding is kept', async (t) => {
  const ns = fresh(t);
  await ns.write({ upsert_rows: [{ id: 1 }, { id: 2 }], sharding: { num_shards: 2 } });
  assert.deepEqual((await ns.metadata()).sharding, { num_shards: 2 });
  assert.deepEqual(await stored(ns), [{ id: 1 }, { id: 2 }]);
  await assert.rejects(ns.write({ upsert_rows: [{ id: 3 }], sharding: { num_shards: 3 } }), refused);
});

test('a write without anything', async (t) => {
  const ns = fresh(t);
  await ns.write({ upsert_rows: [{ id: 1 }] });
  // Without arguments the client sends an empty object, which changes nothing, whether it is accepted or not.
  await ns.write().catch((error) => assert.ok(refused(error), String(error)));
  assert.deepEqual(await stored(ns), [{ id: 1 }]);
});
