// What the TypeScript suites share: a client for the server that SHOAL_TEST_URL and SHOAL_TEST_KEY name, and namespaces
// with fresh names that are deleted after each test.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { Turbopuffer } from '@turbopuffer/turbopuffer';

export const baseURL = process.env.SHOAL_TEST_URL;
export const apiKey = process.env.SHOAL_TEST_KEY;
if (!baseURL || !apiKey) throw new Error('set SHOAL_TEST_URL and SHOAL_TEST_KEY to a running server');

// A region from the environment makes the client refuse a plain base URL.
delete process.env.TURBOPUFFER_REGION;

export const client = (options = {}) => new Turbopuffer({ baseURL, apiKey, maxRetries: 1, ...options });

export const tpuf = client();

/** A namespace that does not exist yet; deleted when the test `t` ends. */
export function fresh(t, name = `ts-${randomUUID()}`, through = tpuf) {
  const ns = through.namespace(name);
  ns.name = name;
  t.after(async () => {
    try {
      await ns.deleteAll();
    } catch (error) {
      if (!(error instanceof Turbopuffer.APIError)) throw error;
    }
  });
  return ns;
}

export const ids = (answer) => answer.rows.map((row) => row.id);

/** Equal within a relative 1e-5, for sums of f32. */
export function close(actual, expected) {
  assert.equal(actual.length, expected.length);
  actual.forEach((value, i) => {
    const limit = 1e-5 * Math.max(1, Math.abs(expected[i]));
    assert.ok(Math.abs(value - expected[i]) <= limit, `${value} is not ${expected[i]}`);
  });
}

export { Turbopuffer, assert };
