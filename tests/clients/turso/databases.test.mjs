// Groups, databases, locations and their tokens, through Turso's official client; then the tokens on the data plane.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createClient } from '@tursodatabase/api';

const baseURL = process.env.SHOAL_TEST_URL;
const apiKey = process.env.SHOAL_TEST_KEY;
if (!baseURL || !apiKey) throw new Error('set SHOAL_TEST_URL and SHOAL_TEST_KEY to a running server');

// Without the slash at the end the client drops the version.
const turso = createClient({ org: 'default', token: apiKey, baseUrl: `${baseURL}/v1/` });
const byId = createClient({ orgId: 'default', token: apiKey, baseUrl: `${baseURL}/v3/` });

const name = (prefix) => `${prefix}-${randomUUID()}`;

/** A call that must fail as the client fails: with a status and a sentence. */
async function refused(call, status, says) {
  await assert.rejects(call, (error) => {
    assert.equal(error.name, 'TursoClientError', String(error));
    assert.equal(error.status, status);
    assert.match(error.message, says);
    return true;
  });
}

/** A database that is deleted when the test `t` ends. */
async function database(t, options) {
  const made = await turso.databases.create(name('db'), options);
  t.after(() => turso.databases.delete(made.name ?? made.Name).catch(() => {}));
  return made;
}

/** A request on the data plane. */
async function data(key, method, path, body) {
  const answer = await fetch(`${baseURL}${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  return { status: answer.status, body: await answer.json() };
}

const QUERY = { rank_by: ['id', 'asc'], top_k: 10 };

test('locations are listed', async () => {
  const locations = await turso.locations.list();
  assert.deepEqual(locations, [{ code: 'local', description: 'This deployment' }]);
});

test('groups are made, read, listed and deleted', async (t) => {
  const g = name('g');
  const made = await turso.groups.create(g, 'local', { extensions: 'all' });
  t.after(() => turso.groups.delete(g).catch(() => {}));
  assert.equal(made.name, g);
  assert.deepEqual(made.locations, ['local']);
  assert.equal(made.primary, 'local');
  assert.match(made.uuid, /^[0-9a-f-]{36}$/);
  assert.deepEqual(await turso.groups.get(g), made);
  const names = (await turso.groups.list()).map((group) => group.name);
  assert.ok(names.includes(g) && names.includes('default'), names.join());
  assert.equal((await turso.groups.addLocation(g, 'local')).name, g);
  await refused(turso.groups.addLocation(g, 'nowhere'), 400, /unknown location/);
  await refused(turso.groups.removeLocation(g, 'local'), 400, /primary/);
  await refused(turso.groups.create(g, 'local'), 409, /already exists/);
  await refused(turso.groups.get(name('none')), 404, /group not found/);
  assert.equal((await turso.groups.delete(g)).name, g);
  await refused(turso.groups.get(g), 404, /group not found/);
});

test('databases are made, read, listed and deleted', async (t) => {
  const made = await turso.databases.create(name('db'), { group: 'default' });
  const db = made.name;
  t.after(() => turso.databases.delete(db).catch(() => {}));
  assert.match(made.id, /^[0-9a-f-]{36}$/);
  assert.ok(made.hostname.startsWith(`${db}-default.`), made.hostname);
  const found = await turso.databases.get(db);
  assert.equal(found.name, db);
  assert.equal(found.id, made.id);
  assert.equal(found.group, 'default');
  assert.equal(found.type, 'logical');
  assert.deepEqual(found.regions, ['local']);
  assert.equal(found.primaryRegion, 'local');
  for (const flag of ['sleeping', 'archived', 'allow_attach', 'block_reads', 'block_writes', 'is_schema']) {
    assert.equal(found[flag], false, flag);
  }
  const listed = await turso.databases.list({ group: 'default' });
  assert.deepEqual(listed.find((d) => d.name === db), found);
  assert.deepEqual(await turso.databases.list({ group: name('none') }), []);
  assert.deepEqual(await turso.databases.list({ schema: 'x' }), []);
  await refused(turso.databases.create(db), 409, /already exists/);
  await refused(turso.databases.create(name('db'), { group: name('none') }), 400, /group not found/);
  await refused(turso.databases.create('No_Name'), 400, /name/);
  await refused(turso.databases.get(name('none')), 404, /database not found/);
  assert.equal((await turso.databases.delete(db)).database, db);
  await refused(turso.databases.get(db), 404, /database not found/);
});

test('a database is seeded with another one', async (t) => {
  const source = await database(t);
  await data(apiKey, 'POST', `/v2/namespaces/${source.name}`, { upsert_rows: [{ id: 1, t: 'x' }] });
  const fork = await database(t, { seed: { type: 'database', name: source.name } });
  const found = await data(apiKey, 'POST', `/v2/namespaces/${fork.name}/query`, { ...QUERY, include_attributes: true });
  assert.deepEqual(found.body.rows, [{ id: 1, t: 'x' }]);
  const past = { type: 'database', name: source.name, timestamp: new Date('2020-01-01') };
  await refused(turso.databases.create(name('db'), { seed: past }), 400, /past/);
});

test('instances, usage and the version of a database', async (t) => {
  const { name: db, id } = await database(t);
  const instances = await turso.databases.listInstances(db);
  assert.equal(instances.length, 1);
  assert.equal(instances[0].type, 'primary');
  assert.equal(instances[0].region, 'local');
  assert.deepEqual(await turso.databases.getInstance(db, instances[0].name), instances[0]);
  await refused(turso.databases.getInstance(db, 'none'), 404, /instance not found/);
  const usage = await turso.databases.usage(db, { from: new Date('2026-01-01'), to: new Date('2027-01-01') });
  assert.equal(usage.uuid, id);
  for (const figure of ['rows_read', 'rows_written', 'storage_bytes', 'bytes_synced']) {
    assert.equal(typeof usage.usage[figure], 'number', figure);
  }
  await turso.databases.updateVersion(db);
});

test('a read-only token reads, until tokens are rotated', async (t) => {
  const { name: db } = await database(t);
  const path = `/v2/namespaces/${db}`;
  await data(apiKey, 'POST', path, { upsert_rows: [{ id: 1 }] });
  const { jwt } = await turso.databases.createToken(db, { expiration: '2w', authorization: 'read-only' });
  assert.equal(jwt.split('.').length, 3);
  assert.deepEqual((await data(jwt, 'POST', `${path}/query`, QUERY)).body.rows, [{ id: 1 }]);
  assert.equal((await data(jwt, 'POST', path, { upsert_rows: [{ id: 2 }] })).status, 403);
  await turso.databases.rotateTokens(db);
  assert.equal((await data(jwt, 'POST', `${path}/query`, QUERY)).status, 401);
  const { jwt: writer } = await turso.databases.createToken(db);
  assert.equal((await data(writer, 'POST', path, { upsert_rows: [{ id: 2 }] })).status, 200);
  await refused(turso.databases.createToken(db, { expiration: 'tomorrow' }), 400, /expiration/);
});

test('a token of a group opens its databases, until it is rotated', async (t) => {
  const g = name('g');
  await turso.groups.create(g, 'local');
  t.after(() => turso.groups.delete(g).catch(() => {}));
  const inside = await database(t, { group: g });
  const outside = await database(t);
  for (const db of [inside, outside]) await data(apiKey, 'POST', `/v2/namespaces/${db.name}`, { upsert_rows: [{ id: 1 }] });
  const { jwt } = await turso.groups.createToken(g, { authorization: 'full-access' });
  const status = async (db) => (await data(jwt, 'POST', `/v2/namespaces/${db.name}/query`, QUERY)).status;
  assert.equal(await status(inside), 200);
  assert.equal(await status(outside), 401);
  await turso.groups.rotateTokens(g);
  assert.equal(await status(inside), 401);
});

test('tokens of data do not open the control plane', async (t) => {
  const { name: db } = await database(t);
  const { jwt } = await turso.databases.createToken(db);
  const stranger = createClient({ org: 'default', token: jwt, baseUrl: `${baseURL}/v1/` });
  await refused(stranger.databases.get(db), 401, /./);
  await refused(stranger.groups.list(), 401, /./);
});

test('ids stand for names below v3', async (t) => {
  const { name: db, id } = await database(t);
  assert.equal((await byId.databases.get(id)).name, db);
  const { jwt } = await byId.databases.createToken(id, { authorization: 'read-only' });
  assert.equal((await data(jwt, 'GET', `/v2/namespaces/${db}/metadata`)).status, 200);
  await refused(byId.databases.get(randomUUID()), 404, /database not found/);
});
