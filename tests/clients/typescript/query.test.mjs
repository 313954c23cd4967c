// Queries: nearest neighbours, order, filters, text, several at once, and the shape of answers.

import { test } from 'node:test';
import { Turbopuffer, assert, close, fresh, ids } from './support.mjs';

async function points(t) {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [
      { id: 7, vector: [0.7, 0.7], hello: 'world', n: 7 },
      { id: 10, vector: [1, 1], n: 10 },
      { id: 16, vector: [1.5, 1.5], n: 1 },
      { id: 15, vector: [1.5, 1.5], n: 1 },
    ],
    distance_metric: 'euclidean_squared',
  });
  return ns;
}

test('sanity: distances, ties, projection, performance and billing', async (t) => {
  const ns = await points(t);
  let answer = await ns.query({ rank_by: ['vector', 'ANN', [0.8, 0.7]], top_k: 4 });
  assert.deepEqual(ids(answer), [7, 10, 15, 16]);
  close(answer.rows.map((row) => row.$dist), [0.01, 0.13, 1.13, 1.13]);
  for (const row of answer.rows) assert.deepEqual(Object.keys(row).sort(), ['$dist', 'id']);

  const { performance, billing } = answer;
  assert.equal(performance.approx_namespace_size, 4);
  assert.equal(performance.exhaustive_search_count, 4);
  assert.ok(['hot', 'warm', 'cold'].includes(performance.cache_temperature));
  assert.ok(performance.cache_hit_ratio >= 0 && performance.cache_hit_ratio <= 1);
  assert.ok(Number.isInteger(performance.query_execution_ms) && performance.query_execution_ms > 0);
  assert.ok(Number.isInteger(performance.server_total_ms) && performance.server_total_ms > 0);
  assert.equal(billing.billable_logical_bytes_queried, 256_000_000);

  answer = await ns.query({ rank_by: ['vector', 'ANN', [0.8, 0.7]], top_k: 2 });
  assert.equal(answer.billing.billable_logical_bytes_returned, 24);

  answer = await ns.query({ rank_by: ['vector', 'ANN', [0.7, 0.7]], limit: 1, include_attributes: ['id', 'vector', 'hello'] });
  assert.deepEqual(answer.rows, [{ id: 7, $dist: 0, vector: [0.7, 0.7], hello: 'world' }]);
  answer = await ns.query({ rank_by: ['n', 'asc'], limit: 2, exclude_attributes: ['vector'] });
  assert.deepEqual(answer.rows, [{ id: 15, n: 1 }, { id: 16, n: 1 }]);
});

test('kNN needs filters', async (t) => {
  const ns = await points(t);
  const answer = await ns.query({ rank_by: ['vector', 'kNN', [1.5, 1.5]], top_k: 2, filters: ['n', 'Gt', 1] });
  assert.deepEqual(ids(answer), [10, 7]);
  await assert.rejects(ns.query({ rank_by: ['vector', 'kNN', [1, 1]], top_k: 2 }), Turbopuffer.BadRequestError);
});

test('contains, contains any, and their complements', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [
      { id: 1, tags: ['python', 'rust'], numbers: [1, 2] },
      { id: 2, tags: ['rust'], numbers: [4] },
      { id: 3, tags: [], numbers: [] },
      { id: 4 },
    ],
    schema: { tags: '[]string', numbers: '[]int' },
  });
  const cases = [
    [['tags', 'Contains', 'python'], [1]],
    [['tags', 'NotContains', 'python'], [2, 3, 4]],
    [['tags', 'ContainsAny', ['python', 'rust']], [1, 2]],
    [['tags', 'NotContainsAny', ['python', 'go']], [2, 3, 4]],
    [['numbers', 'In', [2, 4]], [1, 2]],
    [['Not', ['tags', 'Contains', 'rust']], [3, 4]],
    [['Not', ['Not', ['tags', 'Contains', 'rust']]], [1, 2]],
    [['And', [['tags', 'Contains', 'rust'], ['numbers', 'Contains', 4]]], [2]],
    [['Or', [['id', 'Eq', 3], ['tags', 'Eq', null]]], [3, 4]],
  ];
  for (const [filters, expected] of cases) {
    const answer = await ns.query({ rank_by: ['id', 'asc'], limit: 10, filters });
    assert.deepEqual(ids(answer), expected, JSON.stringify(filters));
  }
  const refusals = [
    ['ContainsAny', 'python', '[]string'],
    ['NotContainsAny', 'python', '[]string'],
    ['Contains', ['a', 'b'], 'string'],
    ['NotContains', ['a', 'b'], 'string'],
  ];
  for (const [operator, operand, type] of refusals) {
    await assert.rejects(ns.query({ rank_by: ['id', 'asc'], limit: 10, filters: ['tags', operator, operand] }), (error) => {
      assert.ok(error instanceof Turbopuffer.APIError);
      const text = 'filter error in key `tags`: type mismatch, ' + `${operator} expects ${type}, but got `;
      assert.ok(error.message.includes(text), error.message);
      return true;
    });
  }
});

test('full text, and the pre-tokenized kind', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [
      { id: 1, text: 'the fox is quick and brown', tokens: ['jumped', 'over'] },
      { id: 2, text: 'fox jumped over the lazy dog', tokens: ['Jumped'] },
      { id: 3, text: 'the dog is lazy and brown', tokens: [] },
    ],
    schema: {
      text: { type: 'string', full_text_search: { stemming: true, remove_stopwords: true } },
      tokens: { type: '[]string', full_text_search: { tokenizer: 'pre_tokenized_array' } },
    },
  });
  const answer = await ns.query({ rank_by: ['text', 'BM25', 'fox jumping'], top_k: 10 });
  assert.deepEqual(ids(answer), [2, 1]);
  assert.ok(answer.rows[0].$dist > answer.rows[1].$dist);
  assert.deepEqual(ids(await ns.query({ rank_by: ['tokens', 'BM25', ['jumped']], top_k: 10 })), [1]);
  await assert.rejects(ns.query({ rank_by: ['tokens', 'BM25', 'jumped'], top_k: 10 }), (error) => {
    // The body is JSON inside the message: its quotes are escaped there.
    assert.match(error.message, /invalid input .* for rank_by field \\?"tokens\\?", expecting \[\]string/);
    return true;
  });
});

test('several queries on one snapshot', async (t) => {
  const ns = await points(t);
  const answer = await ns.multiQuery({
    queries: [
      { rank_by: ['vector', 'ANN', [0.8, 0.7]], top_k: 1 },
      { rank_by: ['id', 'desc'], limit: 2, include_attributes: ['n'] },
    ],
    consistency: { level: 'eventual' },
  });
  assert.deepEqual(answer.results.map(ids), [[7], [16, 15]]);
  assert.deepEqual(answer.results[1].rows[0], { id: 16, n: 1 });
  assert.ok(answer.performance.server_total_ms > 0);
  assert.ok(answer.billing.billable_logical_bytes_returned > 0);
});

test('consistency is checked', async (t) => {
  const ns = await points(t);
  for (const consistency of [{ level: 'strong' }, { level: 'eventual' }]) {
    assert.equal((await ns.query({ rank_by: ['id', 'asc'], limit: 9, consistency })).rows.length, 4);
  }
  await assert.rejects(
    ns.query({ rank_by: ['id', 'asc'], limit: 9, consistency: { level: 'nonexistentvalue' } }),
    (error) => {
      assert.ok(error instanceof Turbopuffer.UnprocessableEntityError);
      assert.match(error.message, /unknown variant `nonexistentvalue`, expected `strong` or `eventual`/);
      return true;
    },
  );
});
