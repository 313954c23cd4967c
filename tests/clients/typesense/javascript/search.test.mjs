import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { Typesense, assert, books, client, ids, options } from './support.mjs';

test('collections', async (t) => {
  const name = await books(t);
  const known = await client.collections(name).retrieve();
  assert.equal(known.num_documents, 2);
  assert.ok((await client.collections().retrieve()).some((c) => c.name === name));
  await client.collections(name).update({ fields: [{ name: 'year', type: 'int32', optional: true }] });
  assert.equal(await client.collections(name).exists(), true);
  assert.equal(await client.collections('absent').exists(), false);
  await assert.rejects(client.collections().create({ name, fields: [{ name: 'a', type: 'string' }] }), {
    name: 'ObjectAlreadyExists',
  });
});

test('documents', async (t) => {
  const name = await books(t);
  const documents = client.collections(name).documents();
  const made = await documents.create({ id: '3', title: 'New', author: 'Eve', sold: 1 });
  assert.equal(made.title, 'New');
  await assert.rejects(documents.create({ id: '3', title: 'New', author: 'Eve', sold: 1 }), { name: 'ObjectAlreadyExists' });
  assert.equal((await client.collections(name).documents('3').update({ sold: 2 })).sold, 2);
  assert.equal((await client.collections(name).documents('3').retrieve()).sold, 2);
  assert.equal((await documents.upsert({ id: '3', title: 'Newer', author: 'Eve', sold: 3 })).title, 'Newer');
  assert.deepEqual(await documents.update({ author: 'Cyd' }, { filter_by: 'sold:<20' }), { num_updated: 2 });
  assert.equal((await client.collections(name).documents('3').delete()).id, '3');
  await assert.rejects(client.collections(name).documents('3').retrieve(), { name: 'ObjectNotFound' });
  assert.deepEqual(await documents.delete({ filter_by: 'author:=Cyd' }), { num_deleted: 1 });
  const exported = await documents.export({ include_fields: 'id,title' });
  assert.deepEqual(JSON.parse(exported), { id: '1', title: 'The sea otter' });
  await assert.rejects(documents.import([{ id: '9' }]), { name: 'ImportError' });
});

test('searches', async (t) => {
  const name = await books(t);
  const answer = await client
    .collections(name)
    .documents()
    .search({ q: 'otter', query_by: ['title', 'author'], facet_by: 'author', exclude_fields: ['sold'] });
  assert.equal(answer.found, 1);
  assert.deepEqual(answer.hits[0].document, { id: '1', title: 'The sea otter', author: 'Ada' });
  assert.equal(answer.hits[0].highlight.title.snippet, 'The sea <mark>otter</mark>');
  assert.deepEqual(answer.facet_counts[0].counts, [{ count: 1, highlighted: 'Ada', value: 'Ada' }]);
  const many = await client.multiSearch.perform(
    { searches: [{ collection: name, q: '*' }, { collection: name, q: 'nothing', query_by: 'title' }] },
    { per_page: 1 },
  );
  assert.deepEqual(many.results.map(ids), [['1'], []]);
});

test('the search client of web pages', async (t) => {
  const name = await books(t);
  const search = new Typesense.SearchClient(options());
  const one = await search.collections(name).documents().search({ q: 'light', query_by: 'title' });
  assert.deepEqual(ids(one), ['2']);
  const many = await search.multiSearch.perform({ searches: [{ collection: name, q: '*', filter_by: 'sold:>20' }] });
  assert.deepEqual(ids(many.results[0]), ['1']);
  const stranger = new Typesense.SearchClient(options('not-a-key'));
  await assert.rejects(stranger.collections(name).documents().search({ q: '*' }), { name: 'RequestUnauthorized' });
});

test('synonyms, presets and stop words', async (t) => {
  const name = await books(t);
  const set = `set-${randomUUID()}`;
  const items = [{ id: 'a', synonyms: ['lutra', 'otter'] }];
  assert.deepEqual(await client.synonymSets(set).upsert({ items }), { name: set, items });
  const documents = client.collections(name).documents();
  const found = await documents.search({ q: 'lutra', query_by: 'title', synonym_sets: set, num_typos: 0 });
  assert.deepEqual(ids(found), ['1']);
  assert.deepEqual(await client.synonymSets(set).delete(), { name: set });
  const preset = { value: { sort_by: 'sold:asc', query_by: 'title' } };
  assert.deepEqual(await client.presets().upsert(set, preset), { name: set, ...preset });
  assert.deepEqual(ids(await documents.search({ q: '*', preset: set })), ['2', '1']);
  assert.ok((await client.presets().retrieve()).presets.some((p) => p.name === set));
  await client.presets(set).delete();
  await client.stopwords().upsert(set, { stopwords: ['about'], locale: 'en' });
  const without = await documents.search({ q: 'about otter', query_by: 'title', stopwords: set, drop_tokens_threshold: 0 });
  assert.deepEqual(ids(without), ['1']);
  assert.deepEqual(await client.stopwords(set).delete(), { id: set });
});
