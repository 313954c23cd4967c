// Namespaces: schema, metadata, listing, deletion, warming, errors, and the transport below.

import { test } from 'node:test';
import { randomUUID } from 'node:crypto';
import { Turbopuffer, apiKey, assert, baseURL, client, fresh, ids, tpuf } from './support.mjs';

const FULL_TEXT = {
  k1: 1.2,
  k3: 8,
  b: 0.75,
  language: 'english',
  stemming: true,
  max_token_length: 39,
  remove_stopwords: true,
  ascii_folding: false,
  case_sensitive: false,
  tokenizer: 'word_v4',
};

test('schema answers have exactly the documented keys, before and after an update', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [{ id: 1, vector: [0.1, 0.1], private: true, title: 'one', tags: ['a', 'b'] }],
    distance_metric: 'cosine_distance',
    schema: {
      title: { type: 'string', full_text_search: { stemming: true, remove_stopwords: true } },
      tags: { type: '[]string', full_text_search: { stemming: true, remove_stopwords: true } },
    },
  });
  const expected = {
    id: { type: 'uint', filterable: null, full_text_search: null },
    vector: { type: '[2]f32', filterable: null, full_text_search: null, ann: true },
    private: { type: 'bool', filterable: true, full_text_search: null },
    title: { type: 'string', filterable: false, full_text_search: FULL_TEXT },
    tags: { type: '[]string', filterable: false, full_text_search: FULL_TEXT },
  };
  assert.deepEqual(await ns.schema(), expected);
  expected.tags = { type: '[]string', filterable: true, full_text_search: FULL_TEXT };
  expected.private = { type: 'bool', filterable: false, full_text_search: null };
  const { k3, max_token_length, ...resent } = FULL_TEXT;
  assert.deepEqual(
    await ns.updateSchema({
      schema: {
        tags: { type: '[]string', filterable: true, full_text_search: resent },
        private: { type: 'bool', filterable: false },
      },
    }),
    expected,
  );
  assert.deepEqual(await ns.schema(), expected);
});

test('metadata of a fresh namespace has exactly the documented keys', async (t) => {
  const ns = fresh(t);
  await ns.write({
    upsert_rows: [{ id: 1, vector: [0.1, 0.1], private: true, title: 'one' }],
    distance_metric: 'cosine_distance',
    schema: {
      vector: { type: '[2]f16', ann: true },
      title: { type: 'string', full_text_search: { stemming: true, remove_stopwords: true } },
    },
  });
  const metadata = await ns.metadata();
  for (const name of ['created_at', 'updated_at', 'last_write_at']) {
    assert.ok(Math.abs(Date.now() - new Date(metadata[name]).getTime()) < 60_000, name);
    assert.ok(metadata[name].endsWith('Z'), name);
    delete metadata[name];
  }
  assert.deepEqual(metadata, {
    approx_logical_bytes: 0,
    approx_row_count: 0,
    encryption: { mode: 'default' },
    index: { status: 'up-to-date' },
    schema: {
      id: { type: 'uint' },
      vector: { type: '[2]f16', ann: { distance_metric: 'cosine_distance' } },
      private: { type: 'bool', filterable: true },
      title: { type: 'string', filterable: false, full_text_search: FULL_TEXT },
    },
  });
});

test('listing gives two full pages with different cursors', async (t) => {
  const prefix = `ts-list-${randomUUID()}-`;
  const names = Array.from({ length: 11 }, (_, i) => `${prefix}${String(i).padStart(2, '0')}`);
  for (const name of names) await fresh(t, name).write({ upsert_rows: [{ id: 1 }] });
  const first = await tpuf.namespaces({ prefix, page_size: 5 });
  assert.equal(first.namespaces.length, 5);
  const second = await tpuf.namespaces({ prefix, page_size: 5, cursor: first.next_cursor });
  assert.equal(second.namespaces.length, 5);
  assert.notEqual(first.next_cursor, second.next_cursor);
  const all = [];
  for await (const { id } of tpuf.namespaces({ prefix, page_size: 5 })) all.push(id);
  assert.deepEqual(all, names);
});

test('exists, delete and warm', async (t) => {
  const ns = fresh(t);
  assert.equal(await ns.exists(), false);
  await ns.write({ upsert_rows: [{ id: 1 }] });
  assert.equal(await ns.exists(), true);
  const warm = await ns.hintCacheWarm();
  assert.ok(['ACCEPTED', 'OK'].includes(warm.status));
  assert.equal(typeof warm.message, 'string');
  assert.equal((await ns.deleteAll()).status, 'OK');
  assert.equal(await ns.exists(), false);
  for (const call of [() => ns.schema(), () => ns.metadata(), () => ns.deleteAll(), () => ns.hintCacheWarm()]) {
    await assert.rejects(call(), Turbopuffer.NotFoundError);
  }
  await assert.rejects(ns.query({ rank_by: ['id', 'asc'], limit: 1 }), (error) => {
    assert.ok(error instanceof Turbopuffer.NotFoundError);
    assert.match(error.message, /^404 \{"status":"error","error":/);
    return true;
  });
});

test('a wrong key is an authentication error', async () => {
  const stranger = client({ apiKey: 'wrong' });
  await assert.rejects(stranger.namespace('any').schema(), Turbopuffer.AuthenticationError);
});

test('a malformed customer-managed key is named', async (t) => {
  const ns = fresh(t);
  await assert.rejects(
    ns.write({ upsert_rows: [{ id: 1 }], encryption: { mode: 'customer-managed', key_name: 'mykey' } }),
    /Malformed Cloud KMS crypto key: mykey/,
  );
});

test('compression: large answers are gzip, tiny ones are not', async (t) => {
  const packed = client({ compression: true });
  const ns = fresh(t, undefined, packed);
  const text = 'a'.repeat(1024);
  const vectors = Array.from({ length: 10 }, (_, i) => Array.from({ length: 1024 }, (_, j) => Math.sin(i * 1024 + j)));
  await ns.write({
    upsert_rows: vectors.map((vector, i) => ({ id: i, vector, text })),
    distance_metric: 'cosine_distance',
    schema: { text: { type: 'string', filterable: false } },
  });
  const query = { rank_by: ['vector', 'ANN', vectors[3]], top_k: 10, include_attributes: true };
  const { data, response } = await ns.query(query).withResponse();
  // The client unpacks the answer and takes the header away, so the header is looked at without it.
  const encodingOf = async (body) => {
    const raw = await fetch(`${baseURL}/v2/namespaces/${ns.name}/query`, {
      method: 'POST',
      headers: { authorization: `Bearer ${apiKey}`, 'accept-encoding': 'gzip' },
      body: JSON.stringify(body),
    });
    assert.equal(raw.status, 200);
    return raw.headers.get('content-encoding');
  };
  assert.equal(await encodingOf(query), 'gzip');
  assert.equal(await encodingOf({ rank_by: ['id', 'asc'], limit: 1 }), null);
  assert.equal(response.headers.get('content-type'), 'application/json');
  assert.equal(data.rows[0].id, 3);
  assert.equal(data.rows[0].text, text);
  assert.equal(data.rows.length, 10);

  const unpacked = client({ compression: false }).namespace(ns.name);
  const whole = await unpacked.query(query).withResponse();
  assert.equal(whole.response.headers.get('content-encoding'), null);
  assert.equal(whole.data.rows.length, 10);
});

test('a region in the path is skipped', async (t) => {
  const regional = client({ baseURL: `${baseURL}/{region}`, region: 'gcp-us-central1' });
  const ns = fresh(t, undefined, regional);
  await ns.write({ upsert_rows: [{ id: 1 }] });
  assert.deepEqual(ids(await ns.query({ rank_by: ['id', 'asc'], limit: 1 })), [1]);
  assert.equal(await tpuf.namespace(ns.name).exists(), true);
});

test('an empty schema update answers the schema', async (t) => {
  const ns = fresh(t);
  await ns.write({ upsert_rows: [{ id: 1, n: 1 }] });
  // Without arguments the client sends a POST whose body is empty.
  assert.deepEqual(Object.keys(await ns.updateSchema()).sort(), ['id', 'n']);
});

test('plain requests: bodies that the client cannot send', async (t) => {
  const ns = fresh(t);
  const post = (path, body) =>
    fetch(baseURL + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
      body,
    });
  for (const body of ['{', '[]', '"text"', '{"upsert_rows":[{"id":1}', '\u0000']) {
    const answer = await post(`/v2/namespaces/${ns.name}`, body);
    assert.ok(answer.status >= 400 && answer.status < 500, `${JSON.stringify(body)} gave ${answer.status}`);
    assert.equal((await answer.json()).status, 'error');
  }
  assert.equal((await fetch(`${baseURL}/v2/namespaces/${ns.name}/metadata`)).status, 401);
  assert.equal(await ns.exists(), false);
});
