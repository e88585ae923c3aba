import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { adminKey, issuer, unique, willBeMade } from './server';
import { open, visitor } from './stage';

/** Goes on with Tab until something of this name has the focus, as somebody without a mouse does. */
async function tabTo(page: Page, name: RegExp) {
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press('Tab');
    const here = await page.evaluate(() => {
      const e = document.activeElement as HTMLElement | null;
      const label = (e as HTMLInputElement | null)?.labels?.[0]?.textContent;
      return (e?.getAttribute('aria-label') ?? label ?? e?.textContent ?? '').trim();
    });
    if (name.test(here)) return;
  }
  throw new Error(`${name} cannot be reached by the keyboard`);
}

it('all can be done without a mouse: sign in, set up a Local CA, test it, delete it', async () => {
  const name = unique('Keys');
  const id = willBeMade(unique('story-keys'));
  const page = await open(await visitor(), '/');
  await page.getByLabel('API key').waitFor();
  await page.keyboard.type(adminKey);
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: 'Local CA' }).waitFor();
  await tabTo(page, /^New issuer/);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 1, name: 'New issuer' }).waitFor();
  await tabTo(page, /^Local CA/);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 1, name: 'New Local CA issuer' }).waitFor();
  await tabTo(page, /^Name/);
  await page.keyboard.type(name);
  await tabTo(page, /^Id$/);
  await page.keyboard.type(id);
  await page.keyboard.press('Enter');
  await page.getByText(`${name} is set up`).waitFor();
  await tabTo(page, /^Test connection/);
  await page.keyboard.press('Enter');
  await page.getByText('It works: the CA can be used').waitFor();
  expect((await issuer(id)).enabled).toBe(true);
  await tabTo(page, /^Delete/);
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await expect.poll(() => page.evaluate(() => document.activeElement?.tagName)).toBe('INPUT');
  await page.keyboard.type(name);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 1, name: 'Issuers' }).waitFor();
});
