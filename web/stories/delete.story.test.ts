import { expect, it } from 'vitest';
import { call, haveIssuer, unique } from './server';
import { heading, signedIn } from './stage';

it('deletes an issuer only once its name was typed', async () => {
  const { id, name } = await haveIssuer({ name: unique('Gone'), type: 'GenericCA' });
  const page = await signedIn(`/issuers/${id}`);
  await page.getByRole('button', { name: 'Delete' }).click();
  const dialog = page.getByRole('dialog', { name: `Delete ${name}?` });
  await dialog.getByRole('button', { name: 'Delete issuer' }).click();
  await dialog.getByText(`Does not match: type ${name}`).waitFor();
  await dialog.getByLabel(`Type ${name} to confirm`).fill(name);
  await dialog.getByRole('button', { name: 'Delete issuer' }).click();
  await heading(page, 'Issuers').waitFor();
  await page.getByText(`${name} is deleted`).waitFor();
  expect((await call('GET', `/issuers/${id}`)).status).toBe(404);
});

it('shows what still uses an issuer, and leaves it', async () => {
  const parent = await haveIssuer({ name: unique('Root'), type: 'GenericCA' });
  const child = await haveIssuer({ name: unique('Below'), type: 'GenericCA', config: { parent_issuer_id: parent.id } });
  const page = await signedIn(`/issuers/${parent.id}`);
  await page.getByRole('button', { name: 'Delete' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel(/to confirm/).fill(parent.name);
  await dialog.getByRole('button', { name: 'Delete issuer' }).click();
  await dialog.getByText('It is still in use').waitFor();
  await dialog.getByText(child.id).waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  expect(await page.getByRole('button', { name: 'Delete' }).evaluate((e) => e === document.activeElement)).toBe(true);
});

it('shows why the issuer of requests that name none stays', async () => {
  const page = await signedIn('/issuers/iss-local');
  await page.getByRole('button', { name: 'Delete' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel(/to confirm/).fill('Local CA');
  await dialog.getByRole('button', { name: 'Delete issuer' }).click();
  await dialog.getByText(/iss-local stays/).waitFor();
});
