// What the suites share: clients for the server that SHOAL_TEST_URL and SHOAL_TEST_KEY name.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import Typesense from 'typesense';

const url = process.env.SHOAL_TEST_URL;
export const apiKey = process.env.SHOAL_TEST_KEY;
if (!url || !apiKey) throw new Error('set SHOAL_TEST_URL and SHOAL_TEST_KEY to a running server');

export const options = (key = apiKey) => {
  const { hostname, port, protocol } = new URL(url);
  const node = { host: hostname, port: Number(port), protocol: protocol.slice(0, -1) };
  return { nodes: [node], apiKey: key, connectionTimeoutSeconds: 10, numRetries: 0 };
};

export const client = new Typesense.Client(options());

/** A collection with two documents; deleted when the test `t` ends. */
export async function books(t) {
  const name = `js-${randomUUID()}`;
  await client.collections().create({
    name,
    fields: [
      { name: 'title', type: 'string' },
      { name: 'author', type: 'string', facet: true },
      { name: 'sold', type: 'int32' },
    ],
    default_sorting_field: 'sold',
  });
  t.after(() => client.collections(name).delete().catch(() => {}));
  await client.collections(name).documents().import(
    [
      { id: '1', title: 'The sea otter', author: 'Ada', sold: 30 },
      { id: '2', title: 'Lighthouses', author: 'Bob', sold: 10 },
    ],
    { action: 'create' },
  );
  return name;
}

export const ids = (answer) => answer.hits.map((hit) => hit.document.id);

export { Typesense, assert };
