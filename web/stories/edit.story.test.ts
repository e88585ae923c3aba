import { describe, expect, it } from 'vitest';
import { adminKey, call, haveIssuer, issuer, unique } from './server';
import { heading, open, signedIn, signIn } from './stage';

function vault() {
  return haveIssuer({
    name: unique('Vault'),
    type: 'Vault',
    config: { url: 'https://127.0.0.1:1', role: 'web', token: 'hvs.secret' },
  });
}

describe('a secret', () => {
  it('stays secret, is kept unless it is replaced, and is asked for where it would be sent elsewhere', async () => {
    const { id } = await vault();
    const page = await signedIn(`/issuers/${id}`);
    await page.getByText('Set, not shown').waitFor();
    await page.getByRole('link', { name: 'Edit' }).click();
    await page.getByText('Set, and kept').waitFor();
    expect(await page.content()).not.toContain('hvs.secret');

    await page.getByLabel('Role', { exact: true }).fill('web2');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByRole('link', { name: 'Edit' }).click();
    await page.getByLabel('URL', { exact: true }).fill('https://127.0.0.1:2');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText(/^Says where token is sent; give that anew/).waitFor();

    await page.getByRole('button', { name: 'Replace Token' }).click();
    expect(await page.getByLabel('Token', { exact: true }).evaluate((e) => e === document.activeElement)).toBe(true);
    await page.keyboard.type('hvs.other');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByRole('link', { name: 'Edit' }).waitFor();
    expect((await issuer(id)).config).toEqual({ url: 'https://127.0.0.1:2', role: 'web2', token: '(secret)' });
  });
});

describe('two who change an issuer at once', () => {
  it('lose nothing: the second is told, takes over the first one, and keeps its own', async () => {
    const { id, name } = await vault();
    const one = await signedIn(`/issuers/${id}/edit`);
    const two = await open(one.context(), `/issuers/${id}/edit`);
    await signIn(two, adminKey);
    await one.getByLabel('Role', { exact: true }).fill('first');
    await two.getByLabel('Namespace').fill('team');
    await two.getByLabel('Role', { exact: true }).fill('second');
    await one.getByRole('button', { name: 'Save' }).click();
    await one.getByRole('link', { name: 'Edit' }).waitFor();

    await two.getByRole('button', { name: 'Save' }).click();
    await two.getByText('Somebody else has changed this issuer while you were at it').waitFor();
    expect(await two.getByLabel('Namespace').inputValue()).toBe('team');
    expect((await issuer(id)).config.role).toBe('first');

    await two.getByRole('button', { name: 'Load it anew and keep my changes' }).click();
    await two.getByText('Role: somebody else made it “first”; saving makes it yours.').waitFor();
    await two.getByRole('button', { name: 'Save' }).click();
    await two.getByRole('link', { name: 'Edit' }).waitFor();
    await heading(two, name).waitFor();
    expect((await issuer(id)).config).toMatchObject({ role: 'second', namespace: 'team' });
  });
});

it('takes away the settings of a provider that is no longer chosen', async () => {
  const { id } = await haveIssuer({
    name: unique('DNS'),
    type: 'ACME',
    config: {
      directory_url: 'https://ca.example/dir',
      challenge_type: 'dns-01',
      dns_provider: 'cloudflare',
      dns_cloudflare_api_token: 't',
    },
  });
  const page = await signedIn(`/issuers/${id}/edit`);
  await page.getByLabel('Names are proven by').selectOption('http-01');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('link', { name: 'Edit' }).waitFor();
  const { config } = await issuer(id);
  expect(config).not.toHaveProperty('dns_cloudflare_api_token');
  expect(config.challenge_type ?? 'http-01').toBe('http-01');
});

it('is disabled and enabled with one press', async () => {
  const { id } = await vault();
  const page = await signedIn(`/issuers/${id}`);
  await page.getByRole('button', { name: 'Disable' }).click();
  await page.getByRole('button', { name: 'Enable' }).waitFor();
  expect((await issuer(id)).enabled).toBe(false);
  await page.getByRole('button', { name: 'Enable' }).click();
  await page.getByRole('button', { name: 'Disable' }).waitFor();
  expect((await issuer(id)).enabled).toBe(true);
});

it('shows settings that this page does not know, and keeps them', async () => {
  const { id } = await vault();
  const page = await signedIn('/issuers');
  await page.route(`**/api/v1/issuers/${id}`, async (route) => {
    const answer = await call('GET', `/issuers/${id}`);
    const body = await answer.json();
    return route.fulfill({
      json: { ...body, config: { ...body.config, tuning: 'fast' } },
      headers: { ETag: answer.headers.get('ETag') ?? '' },
    });
  });
  await page.goto(`/issuers/${id}`);
  await page.getByText('tuning', { exact: true }).waitFor();
  await page.getByText('fast', { exact: true }).waitFor();
});
