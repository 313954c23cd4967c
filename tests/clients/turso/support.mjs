// What the suites of the Turso Platform API share: clients for the server that SHOAL_TEST_URL and SHOAL_TEST_KEY name,
// users made with the operator's key, and organizations of their own.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createClient } from '@tursodatabase/api';

export const baseURL = process.env.SHOAL_TEST_URL;
export const apiKey = process.env.SHOAL_TEST_KEY;
if (!baseURL || !apiKey) throw new Error('set SHOAL_TEST_URL and SHOAL_TEST_KEY to a running server');

/** A client of an organization; the slash after the version is needed. */
export const client = (org, token = apiKey, version = 'v1') =>
  createClient({ org, token, baseUrl: `${baseURL}/${version}/` });

/** What the client has no method for. */
export async function call(method, path, body, token = apiKey) {
  const answer = await fetch(baseURL + path, {
    method,
    headers: { authorization: `Bearer ${token}` },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: answer.status, body: await answer.json() };
}

export const unique = (stem) => `${stem}-${randomBytes(4).toString('hex')}`;

/** A new user who has signed in. */
export async function user(stem = 'ana') {
  const username = unique(stem);
  const email = `${username}@example.test`;
  const made = await call('POST', '/v1/users', { username, email, password: 'correct horse' });
  assert.equal(made.status, 200, JSON.stringify(made.body));
  const session = await call('POST', '/v1/auth/login', { username, password: 'correct horse' }, 'none');
  assert.equal(session.status, 200, JSON.stringify(session.body));
  return { username, email, token: session.body.token };
}

/** A new organization and its owner. */
export async function organization(stem = 'acme') {
  const owner = await user();
  const made = await call('POST', '/v1/organizations', { name: unique(stem) }, owner.token);
  assert.equal(made.status, 200, JSON.stringify(made.body));
  return { org: made.body.org.slug, owner };
}

/** Fails as the client says it: its error with this status. */
export const refused = (status, message) => (error) => {
  // The client does not export its error.
  assert.equal(error.name, 'TursoClientError', `${error}`);
  assert.equal(error.status, status, error.message);
  if (message) assert.match(error.message, message);
  return true;
};

export { assert, createClient };
