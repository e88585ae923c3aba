import type { Page } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { adminKey, haveIssuer, unique } from './server';
import { faults, heading, open, signIn, visitor } from './stage';

const schemes = ['light', 'dark'] as const;
const widths = [360, 1600];

/** Whether the page is wider than the window, so that it has to be moved sideways. */
function overflows(page: Page) {
  return page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
}

for (const colorScheme of schemes) {
  for (const width of widths) {
    describe(`at ${width} pixels, ${colorScheme}`, () => {
      it('every page can be read and used by everybody, and none is wider than the window', async () => {
        const { id, name } = await haveIssuer({
          name: unique('An issuer with a rather long name, as people give them'),
          type: 'ACME',
          config: {
            directory_url: 'https://127.0.0.1:1/directory',
            challenge_type: 'dns-01',
            dns_provider: 'cloudflare',
            dns_cloudflare_api_token: 't',
          },
          limits: { rate_limit: 300 },
        });
        const page = await open(
          await visitor({ colorScheme, viewport: { width, height: 900 } }),
          '/sign-in?to=/issuers',
        );
        await page.getByLabel('API key').waitFor();
        await look(page);
        await signIn(page, adminKey);
        await page.getByRole('row').filter({ hasText: name }).waitFor();
        await look(page);

        for (const [path, there] of [
          ['/issuers/new', heading(page, 'New issuer')],
          ['/issuers/iss-local', page.getByRole('button', { name: /^Download PEM of CN=/ }).first()],
          [`/issuers/${id}/edit`, page.getByText('Set, and kept')],
          ['/issuers/nowhere', heading(page, 'There is no such issuer')],
          ['/nowhere', heading(page, 'There is no such page')],
        ] as const) {
          await page.goto(path);
          await there.waitFor();
          await look(page);
        }

        await page.goto(`/issuers/${id}`);
        await page.getByRole('button', { name: 'Test connection' }).click();
        await page.getByText('The CA cannot be used as it is set up').waitFor();
        await look(page);
        await page.getByRole('button', { name: 'Delete' }).click();
        await page.getByRole('dialog').getByRole('button', { name: 'Delete issuer' }).click();
        await page.getByText(/Does not match/).waitFor();
        await look(page);

        for (const type of ['GenericCA', 'ACME', 'StepCA', 'Vault', 'DigiCert', 'OpenSSL']) {
          await page.goto(`/issuers/new/${type}`);
          await page.getByRole('button', { name: 'Set up issuer' }).click();
          await page.getByRole('alert').waitFor();
          await look(page);
        }
      });
    });
  }
}

async function look(page: Page) {
  expect(await faults(page), page.url()).toEqual([]);
  expect(await overflows(page), `${page.url()} is wider than the window`).toBe(false);
}
