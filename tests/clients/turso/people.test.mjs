// Platform tokens, organizations, members and invitations.

import { createPublicKey, verify } from 'node:crypto';
import { test } from 'node:test';
import { apiKey, assert, baseURL, call, client, organization, refused, unique, user } from './support.mjs';

test('platform tokens are made, listed, used and revoked', async () => {
  const { org, owner } = await organization();
  const turso = client(org, owner.token);
  const made = await turso.apiTokens.create('ci');
  assert.deepEqual(Object.keys(made).sort(), ['id', 'name', 'token']);
  assert.equal(made.name, 'ci');
  assert.match(made.id, /^[A-Za-z0-9_-]{22}$/);
  await assert.rejects(turso.apiTokens.create('ci'), refused(409, /already exists/));
  await assert.rejects(turso.apiTokens.create('validate'), refused(400));
  const listed = await turso.apiTokens.list();
  assert.deepEqual(listed.map((token) => [token.name, token.id]), [['ci', made.id]]);

  const robot = client(org, made.token);
  assert.equal((await robot.organizations.list()).length, 1);
  // The client takes -1, "no end", for an end in the past.
  assert.deepEqual(await robot.apiTokens.validate('ignored'), { valid: false, expiry: -1 });
  const session = await turso.apiTokens.validate('ignored');
  assert.equal(session.valid, true);
  assert.ok(session.expiry > Date.now() / 1000 + 6 * 24 * 3600);

  assert.deepEqual(await turso.apiTokens.revoke('ci'), { token: 'ci' });
  await assert.rejects(robot.organizations.list(), refused(401));
  await assert.rejects(turso.apiTokens.revoke('ci'), refused(404));
  assert.deepEqual(await turso.apiTokens.list(), []);
});

test('an organization is listed, changed and deleted', async () => {
  const { org, owner } = await organization();
  const turso = client(org, owner.token);
  const [shown] = await turso.organizations.list();
  assert.deepEqual(
    [shown.name, shown.slug, shown.type, shown.overages, shown.blocked_reads, shown.blocked_writes],
    [org, org, 'team', false, false, false],
  );
  assert.equal((await turso.organizations.update({ overages: true })).overages, true);
  assert.equal((await turso.organizations.list())[0].overages, true);
  assert.deepEqual(await turso.organizations.invoices(), []);
  assert.deepEqual(await turso.organizations.delete(), {});
  assert.deepEqual(await turso.organizations.list(), []);
  await assert.rejects(turso.organizations.members(), refused(404));
});

test('members come, change and go', async () => {
  const { org, owner } = await organization();
  const bob = await user('bob');
  const turso = client(org, owner.token);
  assert.deepEqual(await turso.organizations.addMember(bob.username, 'admin'), { member: bob.username, role: 'admin' });
  await assert.rejects(turso.organizations.addMember(bob.username, 'admin'), refused(409));
  await assert.rejects(turso.organizations.addMember(unique('nobody')), refused(404));
  const members = await turso.organizations.members();
  assert.deepEqual(
    members.map((member) => [member.username, member.role, member.email]).sort(),
    [[owner.username, 'owner', owner.email], [bob.username, 'admin', bob.email]].sort(),
  );
  const demoted = await call('PATCH', `/v1/organizations/${org}/members/${bob.username}`, { role: 'viewer' }, owner.token);
  assert.equal(demoted.body.member.role, 'viewer');
  await assert.rejects(client(org, bob.token).organizations.update({ overages: true }), refused(403));
  await assert.rejects(turso.organizations.removeMember(owner.username), refused(400, /last owner/));
  assert.deepEqual(await turso.organizations.removeMember(bob.username), { member: bob.username });
  await assert.rejects(client(org, bob.token).organizations.members(), refused(404));
});

test('invitations are sent, taken back and accepted', async () => {
  const { org, owner } = await organization();
  const eve = await user('eve');
  const turso = client(org, owner.token);
  assert.deepEqual(await turso.organizations.inviteUser(eve.email, 'member'), {
    email: eve.email,
    role: 'member',
    organization: org,
  });
  const invites = await turso.organizations.listInvites();
  assert.deepEqual(invites.map((invite) => [invite.email, invite.role]), [[eve.email, 'member']]);
  await turso.organizations.deleteInvite(eve.email);
  assert.deepEqual(await turso.organizations.listInvites(), []);
  await assert.rejects(turso.organizations.deleteInvite(eve.email), refused(404));
  await turso.organizations.inviteUser(eve.email, 'viewer');
  const me = await call('GET', '/v1/user', undefined, eve.token);
  assert.equal(me.body.user.has_pending_invites, true);
  const accepted = await call('POST', `/v1/organizations/${org}/invites/accept`, undefined, eve.token);
  assert.deepEqual(accepted.body, { member: eve.username, role: 'viewer' });
  assert.equal((await client(org, eve.token).organizations.members()).length, 2);
});

test('whoever is no member cannot tell which organizations exist', async () => {
  const { org } = await organization();
  const eve = await user('eve');
  const answers = [];
  for (const name of [org, unique('absent')]) {
    await assert.rejects(client(name, eve.token).organizations.members(), (error) => {
      answers.push(`${error.status} ${error.message}`);
      return true;
    });
  }
  assert.deepEqual(answers, ['404 organization not found', '404 organization not found']);
  await assert.rejects(client(org, 'nonsense').organizations.list(), refused(401));
  assert.ok((await client('default', apiKey).organizations.list()).some((found) => found.slug === org));
});

test('anybody can verify a session with the published keys', async () => {
  const { token } = await user();
  const [header, claims, signature] = token.split('.');
  const { kid, alg } = JSON.parse(Buffer.from(header, 'base64url'));
  assert.equal(alg, 'EdDSA');
  const { keys } = await (await fetch(`${baseURL}/.well-known/jwks.json`)).json();
  const key = createPublicKey({ key: keys.find((key) => key.kid === kid), format: 'jwk' });
  const signed = Buffer.from(`${header}.${claims}`);
  assert.equal(verify(null, signed, key, Buffer.from(signature, 'base64url')), true);
  const { aud, exp, iat, sub } = JSON.parse(Buffer.from(claims, 'base64url'));
  assert.equal(aud, 'platform');
  assert.equal(exp - iat, 604800);
  assert.match(sub, /^user:/);
});
