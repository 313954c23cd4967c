// Ranking expressions, filters on text, aggregations, computed attributes, fusion, and the unusual vectors.

import { test } from 'node:test';
import { Turbopuffer, assert, close, fresh, ids } from './support.mjs';

const refused = (error) =>
  error instanceof Turbopuffer.BadRequestError || error instanceof Turbopuffer.UnprocessableEntityError;

test('every ranking expression gives the exact score', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [
      { id: 1, u: 5, tag: 'x', at: '2024-01-01T12:00:00Z' },
      { id: 2, u: 3, tag: 'y', at: '2024-01-01T06:00:00Z' },
      { id: 3, u: 9, tag: 'x', at: '2024-01-02T12:00:00Z' },
    ],
    schema: { u: 'uint', at: 'datetime' },
  });
  const u = ['Attribute', 'u'];
  const noon = ['Dist', ['Attribute', 'at'], new Date('2024-01-01T12:00:00Z')];
  const cases = [
    [u, [[3, 9], [1, 5], [2, 3]]],
    [['Saturate', u, { midpoint: 3 }], [[3, 0.75], [1, 0.625], [2, 0.5]]],
    [['Saturate', u, { midpoint: 3, exponent: 2 }], [[3, 0.9], [1, 25 / 34], [2, 0.5]]],
    [['Decay', ['Dist', u, 5], { midpoint: 2 }], [[1, 1], [2, 0.5], [3, 1 / 3]]],
    [['Decay', noon, { midpoint: '6h' }], [[1, 1], [2, 0.5], [3, 0.2]]],
    [['u', 'Gte', 5], [[1, 1], [3, 1]]],
    [['Sum', [['u', 'Gte', 5], ['Product', 2, ['tag', 'Eq', 'y']]]], [[2, 2], [1, 1], [3, 1]]],
    [['Max', [['Product', ['tag', 'Eq', 'x'], 2], ['u', 'Eq', 3]]], [[1, 2], [3, 2], [2, 1]]],
  ];
  for (const [rank_by, expected] of cases) {
    const answer = await ns.query({ rank_by, limit: 10 });
    const what = JSON.stringify(rank_by);
    assert.deepEqual(ids(answer), expected.map(([id]) => id), what);
    close(answer.rows.map((row) => row.$dist), expected.map(([, score]) => score));
  }
  assert.deepEqual(ids(await ns.query({ rank_by: [['tag', 'desc'], ['u', 'desc']], limit: 10 })), [2, 3, 1]);
  const per = { attributes: ['tag'], limit: 1 };
  assert.deepEqual(ids(await ns.query({ rank_by: ['id', 'desc'], limit: { total: 10, per } })), [3, 2]);
  assert.deepEqual(ids(await ns.query({ rank_by: ['id', 'asc'], limit: 1, offset: 1 })), [2]);
  for (const rank_by of [['Product', -1, ['u', 'Gt', 1]], ['Sum', [['u', 'asc']]], ['Nope', u]]) {
    await assert.rejects(ns.query({ rank_by, limit: 1 }), refused);
  }
});

test('the order of the walrus sentences, and both orders of a product', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [
      { id: 1, text: 'Walruses are large marine mammals with long tusks and whiskers' },
      { id: 2, text: 'They primarily inhabit the cold Arctic regions' },
      { id: 3, text: 'Walruses use their tusks to help haul themselves onto ice' },
      { id: 4, text: 'Their diet mainly consists of mollusks and other sea creatures' },
      { id: 5, text: 'Walruses can live up to forty years in the wild' },
    ],
    schema: { text: { type: 'string', full_text_search: { stemming: true, remove_stopwords: true } } },
  });
  const found = async (rank_by) => {
    const answer = await ns.query({ rank_by, top_k: 10 });
    return answer.rows.map(({ id, $dist }) => [id, $dist]);
  };
  const tusk = ['text', 'BM25', 'large tusk'];
  const diet = ['text', 'BM25', 'mollusk diet'];
  const plain = await found(['Sum', [tusk, diet]]);
  assert.deepEqual(plain.map(([id]) => id), [4, 1, 3]);
  const left = await found(['Sum', [['Product', 2, tusk], diet]]);
  const right = await found(['Sum', [['Product', tusk, 2], diet]]);
  assert.deepEqual(left, right);
  assert.deepEqual((await found(['Max', [tusk, diet]])).map(([id]) => id), [4, 1, 3]);
  const filtered = await ns.query({ rank_by: tusk, top_k: 10, filters: ['text', 'ContainsAllTokens', 'haul ice'] });
  assert.deepEqual(ids(filtered), [3]);
});

test('filters on text and on the elements of arrays', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [
      { id: 1, body: 'large marine mammals', path: '/src/a.ts', city: 'lubeck', ns: [1, 10] },
      { id: 2, body: 'marine large ships', path: '/src/b/c.TSX', city: 'Hamburg', ns: [5] },
      { id: 3, path: 'readme', ns: [] },
    ],
    schema: {
      body: { type: 'string', full_text_search: { stemming: true } },
      path: { type: 'string', glob: true, regex: true },
      city: { type: 'string', fuzzy: true },
      ns: '[]int',
    },
  });
  const fuzzy = { max_edit_distance: [{ min_query_chars: 6, distance: 1 }], case_sensitive: false };
  const cases = [
    [['body', 'ContainsAllTokens', 'marine mammal'], [1]],
    [['body', 'ContainsAllTokens', 'marine sh', { last_as_prefix: true }], [2]],
    [['body', 'ContainsAnyToken', 'ship mammal'], [1, 2]],
    [['body', 'ContainsTokenSequence', 'marine mammals'], [1]],
    [['path', 'Glob', '/src/**'], [1, 2]],
    [['path', 'IGlob', '*.tsx'], [2]],
    [['path', 'NotGlob', '/src/*'], [3]],
    [['path', 'NotIGlob', '*.ts*'], [3]],
    [['path', 'Regex', '^/src/.\\.ts$'], [1]],
    [['city', 'Fuzzy', 'Lubek!', fuzzy], []],
    [['city', 'Fuzzy', 'Lubexk', fuzzy], [1]],
    [['city', 'Fuzzy', 'hambrg', fuzzy], [2]],
    [['ns', 'AnyGt', 5], [1]],
    [['ns', 'AnyGte', 5], [1, 2]],
    [['ns', 'AnyLt', 5], [1]],
    [['ns', 'AnyLte', 5], [1, 2]],
  ];
  for (const [filters, expected] of cases) {
    const answer = await ns.query({ rank_by: ['id', 'asc'], limit: 10, filters });
    assert.deepEqual(ids(answer), expected, JSON.stringify(filters));
  }
  for (const filters of [['body', 'Regex', 'a'], ['path', 'Regex', '('], ['path', 'ContainsAllTokens', 'a']]) {
    await assert.rejects(ns.query({ rank_by: ['id', 'asc'], limit: 1, filters }), refused);
  }
});

test('aggregations, whole and by group', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [
      { id: 1, shop: 'a', price: 10, tags: ['new', 'sale'] },
      { id: 2, shop: 'a', price: 20, tags: ['new'] },
      { id: 3, shop: 'b', price: -5 },
    ],
  });
  const whole = await ns.query({ aggregate_by: { count: ['Count', 'id'], total: ['Sum', 'price'] } });
  assert.deepEqual(whole.aggregations, { count: 3, total: 25 });
  assert.equal(whole.rows, undefined);
  const filtered = await ns.query({ aggregate_by: { count: ['Count'] }, filters: ['price', 'Gt', 0] });
  assert.deepEqual(filtered.aggregations, { count: 2 });
  const shops = await ns.query({ aggregate_by: { n: ['Count'], total: ['Sum', 'price'] }, group_by: ['shop'], top_k: 5 });
  assert.deepEqual(shops.aggregation_groups, [
    { shop: 'a', n: 2, total: 30 },
    { shop: 'b', n: 1, total: -5 },
  ]);
  const tags = await ns.query({
    aggregate_by: { n: ['Count'] },
    group_by: [{ tag: ['ForEachUnique', 'tags'] }],
    filters: ['tags', 'NotEq', null],
    limit: 5,
  });
  assert.deepEqual(tags.aggregation_groups, [{ tag: 'new', n: 2 }, { tag: 'sale', n: 1 }]);
  const both = await ns.multiQuery({ queries: [{ aggregate_by: { n: ['Count'] } }, { rank_by: ['id', 'asc'], limit: 1 }] });
  assert.deepEqual(both.results[0].aggregations, { n: 3 });
  assert.deepEqual(ids(both.results[1]), [1]);
  await assert.rejects(ns.query({ aggregate_by: { n: ['Count'] }, rank_by: ['id', 'asc'], limit: 1 }), refused);
});

test('computed attributes and highlights', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [
      { id: 1, vector: [1, 0], body: 'The otter sleeps. A puffer swims.' },
      { id: 2, vector: [3, 4], body: 'Nothing.' },
    ],
    distance_metric: 'euclidean_squared',
    schema: { body: { type: 'string', full_text_search: true } },
  });
  const answer = await ns.query({
    rank_by: ['id', 'asc'],
    limit: 2,
    compute_attributes: { d: ['vector', 'VectorDist', [0, 0]], first: ['id', 'Eq', 1] },
  });
  assert.deepEqual(answer.rows, [{ id: 1, d: 1, first: true }, { id: 2, d: 25, first: false }]);
  const text = await ns.query({
    rank_by: ['body', 'BM25', 'puffer'],
    limit: 2,
    compute_attributes: {
      whole: ['Highlight', 'body', { fragment_by: 'none', include_offsets: 'utf-16' }],
      best: ['Highlight', 'body'],
      otter: ['Highlight', 'body', { fragment_limit: 1, rank_fragments_by: ['$fragment', 'BM25', 'otter'] }],
    },
  });
  assert.deepEqual(ids(text), [1]);
  const [{ whole, best, otter }] = text.rows;
  assert.deepEqual(whole, [
    { text: 'The otter sleeps. A puffer swims.', fragment_range: [0, 33], match_ranges: [[20, 26]] },
  ]);
  assert.equal(best[0].text.trim(), 'A puffer swims.');
  assert.deepEqual(otter.map((part) => part.text.trim()), ['The otter sleeps.']);
});

test('fusion by reciprocal rank', async (t) => {
  const ns = fresh(t);
  await ns.write({ upsert_rows: [7, 10, 15, 16, 20].map((id) => ({ id, n: id % 4 })) });
  const queries = [
    { rank_by: ['id', 'asc'], limit: 3, include_attributes: ['n'] },
    { rank_by: ['id', 'desc'], limit: 3 },
  ];
  const fused = await ns.multiQuery({ queries, rerank_by: ['RRF'], limit: 10 });
  assert.equal(fused.results.length, 1);
  assert.deepEqual(ids(fused.results[0]), [15, 7, 20, 10, 16]);
  close(fused.results[0].rows.map((row) => row.$dist), [2 / 63, 1 / 61, 1 / 61, 1 / 62, 1 / 62]);
  assert.deepEqual(Object.keys(fused.results[0].rows[0]).sort(), ['$dist', 'id', 'n']);
  const weighted = await ns.multiQuery({ queries, rerank_by: ['RRF', { rank_constant: 1, weights: [1, 0.5] }], limit: 2 });
  assert.deepEqual(ids(weighted.results[0]), [7, 15]);
  close(weighted.results[0].rows.map((row) => row.$dist), [0.5, 0.375]);
  await assert.rejects(ns.multiQuery({ queries, limit: 3 }), refused);
});

test('sparse vectors and late interaction', async (t) => {
  const sparse = fresh(t);
  await sparse.write({
    upsert_rows: [{ id: 1, terms: { 12: 1, otter: 2 } }, { id: 2, terms: { otter: 0.5 } }],
    schema: { terms: { type: '{}f16', sparse_knn: { distance_metric: 'dot_product' } } },
  });
  const answer = await sparse.query({
    rank_by: ['terms', 'SparseKNN', { 12: 1, otter: 0.5 }],
    limit: 2,
    include_attributes: ['terms'],
  });
  assert.deepEqual(answer.rows, [
    { id: 1, $dist: 2, terms: { 12: 1, otter: 2 } },
    { id: 2, $dist: 0.25, terms: { otter: 0.5 } },
  ]);
  const late = fresh(t);
  await late.write({
    upsert_rows: [{ id: 1, pages: [[-1, 0]] }, { id: 2, pages: [[1, 0], [0, 1]] }],
    schema: { pages: { type: '[][2]f32', ann: { distance_metric: 'cosine_distance', late_interaction: true } } },
  });
  const nearest = await late.query({ rank_by: ['pages', 'ANN', [[1, 0], [0, 1]]], limit: 2, include_attributes: ['pages'] });
  assert.deepEqual(ids(nearest), [2, 1]);
  assert.deepEqual(nearest.rows[0].pages, [[1, 0], [0, 1]]);
});
