// Writes and the values that come back.

import { test } from 'node:test';
import { Turbopuffer, assert, fresh, ids } from './support.mjs';

const stored = async (ns, options = {}) =>
  (await ns.query({ rank_by: ['id', 'asc'], limit: 100, include_attributes: true, ...options })).rows;

test('upserted rows come back as they were sent, without nulls', async (t) => {
  const ns = fresh(t);
  const answer = await ns.write({
    upsert_rows: [
      { id: 1, vector: [0.1, 0.2], foo: 'bar', numbers: [1, 2, 3], nothing: null },
      { id: 2, vector: [2, 2], maybe: null, flag: true },
    ],
    distance_metric: 'cosine_distance',
  });
  assert.equal(answer.status, 'OK');
  assert.equal(answer.rows_affected, 2);
  assert.equal(answer.rows_upserted, 2);
  assert.equal(answer.rows_patched, undefined);
  assert.equal(answer.rows_deleted, undefined);
  assert.ok(answer.message.length > 0);
  assert.ok(answer.billing.billable_logical_bytes_written > 0);
  assert.deepEqual(await stored(ns), [
    { id: 1, vector: [0.1, 0.2], foo: 'bar', numbers: [1, 2, 3] },
    { id: 2, vector: [2, 2], flag: true },
  ]);
});

test('columns, patches and deletes', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_columns: { id: [1, 2, 3], vector: [[1, 1], [2, 2], [3, 3]], name: ['one', null, 'three'] },
    distance_metric: 'euclidean_squared',
  });
  let answer = await ns.write({ patch_rows: [{ id: 2, name: 'two' }, { id: 99, name: 'none' }], distance_metric: 'euclidean_squared' });
  assert.equal(answer.rows_patched, 1);
  answer = await ns.write({ patch_columns: { id: [1, 3], name: ['uno', null] } });
  assert.equal(answer.rows_patched, 2);
  answer = await ns.write({ deletes: [3, 4] });
  assert.equal(answer.rows_deleted, 2);
  assert.deepEqual(await stored(ns), [
    { id: 1, vector: [1, 1], name: 'uno' },
    { id: 2, vector: [2, 2], name: 'two' },
  ]);
  await ns.write({ deletes: [1, 2] });
  assert.deepEqual(await stored(ns), []);
});

test('dates are instants', async (t) => {
  const ns = fresh(t);
  const epoch = new Date(0);
  const later = new Date('2024-06-01T12:00:00.250Z');
  await ns.write({
    upsert_rows: [
      { id: 1, at: epoch, many: [epoch, later] },
      { id: 2, at: later },
    ],
    schema: { at: { type: 'datetime' }, many: { type: '[]datetime' } },
  });
  const rows = await stored(ns);
  assert.equal(new Date(rows[0].at).getTime(), 0);
  assert.deepEqual(rows[0].many.map((at) => new Date(at).getTime()), [0, later.getTime()]);
  assert.equal(new Date(rows[1].at).getTime(), later.getTime());
  assert.ok(rows[1].at.endsWith('Z'));
  assert.deepEqual(ids(await ns.query({ rank_by: ['at', 'desc'], limit: 5, filters: ['at', 'Gt', epoch] })), [2]);
});

test('string and uuid ids', async (t) => {
  const text = fresh(t);
  await text.write({ upsert_rows: [{ id: 'b', n: 1 }, { id: 'a', n: 2 }] });
  assert.deepEqual((await stored(text)).map((row) => row.id), ['a', 'b']);
  const uuid = fresh(t);
  const id = '769C134D-07B8-4225-954A-B6CC5FFC320C';
  await uuid.write({ upsert_rows: [{ id, ref: id }], schema: { id: 'uuid', ref: 'uuid' } });
  assert.deepEqual(await stored(uuid), [{ id: id.toLowerCase(), ref: id.toLowerCase() }]);
});

test('f16 and i8 vectors, and base64 of the columns own type', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [{ id: 1, vector: [1, -0.5], small: [127, -128] }],
    schema: {
      vector: { type: '[2]f16', ann: { distance_metric: 'cosine_distance' } },
      small: { type: '[2]i8', ann: { distance_metric: 'euclidean_squared' } },
    },
  });
  assert.deepEqual(await stored(ns), [{ id: 1, vector: [1, -0.5], small: [127, -128] }]);
  const [row] = await stored(ns, { vector_encoding: 'base64' });
  assert.deepEqual([...Buffer.from(row.vector, 'base64')], [0x00, 0x3c, 0x00, 0xb8]);
  assert.deepEqual([...Buffer.from(row.small, 'base64')], [127, 128]);
});

test('base64 vectors may be sent', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [{ id: 1, vector: 'zczMPc3MTD6amZk+' }, { id: 2, vector: [1, 2, 3] }],
    distance_metric: 'cosine_distance',
  });
  assert.deepEqual((await stored(ns)).map((row) => row.vector), [[0.1, 0.2, 0.3], [1, 2, 3]]);
});

test('refused writes change nothing', async (t) => {
  const ns = fresh(t);
  await ns.write({ upsert_rows: [{ id: 1, n: 1 }] });
  await assert.rejects(ns.write({ upsert_rows: [{ id: 2, n: 'two' }] }), Turbopuffer.BadRequestError);
  await assert.rejects(ns.write({ upsert_rows: [{ id: 2 }, { id: 2 }] }), Turbopuffer.BadRequestError);
  await assert.rejects(ns.write({ upsert_rows: [{ id: 'text' }] }), Turbopuffer.BadRequestError);
  await assert.rejects(ns.write({ upsert_rows: { id: 2 } }), (error) => {
    assert.ok(error instanceof Turbopuffer.UnprocessableEntityError);
    assert.match(error.message, /invalid type: map, expected a sequence/);
    return true;
  });
  assert.deepEqual(await stored(ns), [{ id: 1, n: 1 }]);
});
