import { expect, it } from 'vitest';
import { adminKey, haveIssuer, unique } from './server';
import { heading, open, signedIn, signIn, visitor } from './stage';

it('shows the issuer that every installation has, with its subject and its end', async () => {
  const page = await signedIn('/');
  const row = page.getByRole('row').filter({ hasText: 'iss-local' });
  await row.getByText('CN=CertCtl Local CA').last().waitFor();
  await row.getByText('Ready').waitFor();
  await row
    .getByText(/^in \d+ years$/)
    .last()
    .waitFor();
});

it('says what to do where there is none', async () => {
  const page = await open(await visitor(), '/issuers');
  await page.route('**/api/v1/issuers?*', (route) =>
    route.fulfill({ json: { data: [], total: 0, page: 1, per_page: 50 } }),
  );
  await signIn(page, adminKey);
  await page.getByRole('link', { name: 'Set up the first issuer' }).click();
  await heading(page, 'New issuer').waitFor();
});

it('says why the list cannot be shown, and tries again', async () => {
  const page = await open(await visitor(), '/issuers');
  await page.route('**/api/v1/issuers?*', (route) =>
    route.fulfill({ status: 500, json: { message: 'the database is on fire' } }),
  );
  await signIn(page, adminKey);
  await page.getByText('The database is on fire').waitFor();
  await page.unroute('**/api/v1/issuers?*');
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByRole('link', { name: 'Local CA' }).waitFor();
});

it('shows by itself what somebody else has set up', async () => {
  const page = await signedIn('/issuers?size=500');
  await page.getByRole('link', { name: 'Local CA' }).waitFor();
  const { name } = await haveIssuer({
    name: unique('Newcomer'),
    type: 'Vault',
    config: { url: 'https://v.example', role: 'web', token: 't' },
  });
  const row = page.getByRole('row').filter({ hasText: name });
  await row.getByText('Not asked yet').waitFor();
  await row.getByText('v.example').last().waitFor();
});

it('shows how a CA stands that is away', async () => {
  const page = await open(await visitor(), '/issuers');
  const last = 'the ACME directory cannot be read: connection refused';
  await page.route('**/api/v1/issuers?*', (route) =>
    route.fulfill({
      json: {
        data: [
          {
            id: 'iss-away',
            name: 'Away CA',
            type: 'ACME',
            config: { directory_url: 'https://ca.example/dir' },
            enabled: true,
            limits: { rate_limit: 300, rate_window_seconds: 3600 },
            health: {
              circuit: 'open',
              failures: 5,
              last_error: last,
              retry_at: new Date(Date.now() + 250_000),
              under_way: 0,
              waiting: 3,
              budget_used: 12,
            },
            created_at: '2026-11-28T05:00:00Z',
            updated_at: '2026-11-28T05:00:00Z',
          },
        ],
        total: 1,
        page: 1,
        per_page: 50,
      },
    }),
  );
  await signIn(page, adminKey);
  const row = page.getByRole('row').filter({ hasText: 'iss-away' });
  await row.getByText('Away', { exact: true }).waitFor();
  await row.getByText(last).waitFor();
  await row.getByText('in 4 minutes').waitFor();
  await row.getByText('12 of 300 requests used').waitFor();
});

it('leads through pages by cursor, and back', async () => {
  await haveIssuer({ name: unique('Page'), type: 'GenericCA' });
  await haveIssuer({ name: unique('Page'), type: 'GenericCA' });
  const page = await signedIn('/issuers?size=2');
  const first = page.getByRole('link', { name: 'Local CA' });
  await first.waitFor();
  expect(await page.getByRole('row').count()).toBe(3);
  await page.getByRole('link', { name: 'Next' }).click();
  await first.waitFor({ state: 'hidden' });
  await page.getByRole('button', { name: 'Back' }).click();
  await first.waitFor();
});
