import { describe, expect, it } from 'vitest';
import { adminKey, haveIssuer, haveKey, principal, unique } from './server';
import { heading, open, signedIn, signIn, visitor } from './stage';

describe('signing in', () => {
  it('refuses a wrong key, takes a right one, and leads to the page that was asked for', async () => {
    const page = await open(await visitor(), '/issuers/iss-local');
    await heading(page, 'Sign in to certctl').waitFor();
    await page.getByLabel('API key').fill('cck_wrong');
    await page.keyboard.press('Enter');
    await page.getByText(/Is not accepted/).waitFor();
    expect(await page.getByLabel('API key').getAttribute('aria-invalid')).toBe('true');
    await signIn(page, adminKey);
    await page.getByRole('heading', { level: 2, name: 'CA certificates' }).waitFor();
    expect(new URL(page.url()).pathname).toBe('/issuers/iss-local');
  });

  it('keeps the key in this tab only, and forgets it on signing out', async () => {
    const page = await signedIn('/issuers');
    expect(page.url()).not.toContain(adminKey);
    expect(await page.evaluate(() => JSON.stringify(localStorage) + document.cookie)).not.toContain(adminKey);
    const other = await open(page.context(), '/issuers');
    await heading(other, 'Sign in to certctl').waitFor();
    await page.getByRole('button', { name: await principal() }).click();
    await page.getByRole('menuitem', { name: 'Sign out' }).click();
    await heading(page, 'Sign in to certctl').waitFor();
    expect(await page.evaluate(() => sessionStorage.getItem('certctl.credential'))).toBeNull();
    await page.goBack();
    await heading(page, 'Sign in to certctl').waitFor();
  });

  it('forgets the key also where something unsaved is left behind first', async () => {
    const page = await signedIn('/issuers/new/ACME');
    await page.getByLabel('Contact').fill('pki@example.org');
    await page.getByRole('button', { name: await principal() }).click();
    await page.getByRole('menuitem', { name: 'Sign out' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Leave' }).click();
    await heading(page, 'Sign in to certctl').waitFor();
    await expect.poll(() => page.evaluate(() => sessionStorage.getItem('certctl.credential'))).toBeNull();
  });

  it('asks again over the page when the key is revoked, and what was typed is still there', async () => {
    const { key, revoke } = await haveKey(['admin']);
    const page = await signedIn('/issuers/new/ACME', { key });
    await page.getByLabel('Directory URL').fill('https://ca.example/dir');
    await page.getByRole('textbox', { name: 'Name' }).fill('Half done');
    await revoke();
    await page.getByRole('button', { name: 'Set up issuer' }).click();
    const again = page.getByRole('dialog', { name: 'Sign in again' });
    await again.getByLabel('API key').fill(adminKey);
    await again.getByRole('button', { name: 'Sign in' }).click();
    await again.waitFor({ state: 'hidden' });
    expect(await page.getByLabel('Directory URL').inputValue()).toBe('https://ca.example/dir');
  });
});

it('says which permission is missing', async () => {
  const { id, name } = await haveIssuer({ name: unique('Seen'), type: 'GenericCA' });
  const { key } = await haveKey(['viewer']);
  const page = await signedIn(`/issuers/${id}`, { key });
  await heading(page, name).waitFor();
  await page.getByRole('button', { name: 'Disable' }).click();
  await page.getByText(/issuers:update/).waitFor();
});

it('says that the server cannot be reached, and keeps what there is on the screen', async () => {
  const page = await signedIn('/issuers');
  await page.getByRole('link', { name: 'Local CA' }).waitFor();
  await page.route('**/api/v1/**', (route) => route.abort());
  await page.getByText('The server cannot be reached.').waitFor();
  expect(await page.getByRole('link', { name: 'Local CA' }).isVisible()).toBe(true);
  await page.unroute('**/api/v1/**');
  await page.getByText('The server cannot be reached.').waitFor({ state: 'hidden' });
});

it('asks a busy server again, as late as it wants', async () => {
  let asked = 0;
  const page = await open(await visitor(), '/issuers');
  await page.route('**/api/v1/issuers?*', (route) => {
    asked += 1;
    return asked === 1
      ? route.fulfill({ status: 429, headers: { 'Retry-After': '1' }, json: { message: 'slow down' } })
      : route.continue();
  });
  await signIn(page, adminKey);
  await page.getByRole('link', { name: 'Local CA' }).waitFor();
  expect(asked).toBeGreaterThan(1);
});
