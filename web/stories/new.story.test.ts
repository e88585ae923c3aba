import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { issuer, unique, willBeMade } from './server';
import { heading, signedIn } from './stage';

describe('a Local CA', () => {
  it('is set up by the form, tested at once, and its chain can be taken along', async () => {
    const name = unique('Web CA');
    const id = willBeMade(unique('story-web'));
    const page = await signedIn('/issuers');
    await page.getByRole('link', { name: 'New issuer' }).click();
    await page.getByRole('link', { name: /^Local CA/ }).click();
    await page.getByRole('textbox', { name: 'Name', exact: true }).fill(name);
    await page.getByLabel('Id', { exact: true }).fill(id);
    await page.getByLabel('Its certificate is').selectOption('intermediate');
    await page.getByLabel('Signed by').selectOption('iss-local');
    await page.getByLabel('Validity of the CA (days)').fill('400');
    await page.getByLabel('Only these domains').fill('corp.example\n.lab.example');
    await page.getByRole('button', { name: 'Set up issuer' }).click();
    await page.getByText(`${name} is set up`).waitFor();
    await page.getByRole('button', { name: 'Test connection' }).last().click();
    await page.getByText('It works: the CA can be used').waitFor();
    await page.getByText(`Its certificate is CN=${name}.`).waitFor();

    expect((await issuer(id)).config).toMatchObject({
      mode: 'intermediate',
      parent_issuer_id: 'iss-local',
      ca_validity_days: 400,
      permitted_dns_domains: ['corp.example', '.lab.example'],
    });
    const [file] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Download chain' }).click(),
    ]);
    expect((await readFile(await file.path(), 'utf8')).match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    await page.getByText('CN=CertCtl Local CA').waitFor();
  });

  it('below a root elsewhere offers its request, and says what is wrong with a certificate that is handed in', async () => {
    const name = unique('Outside CA');
    const id = willBeMade(unique('story-ext'));
    const page = await signedIn('/issuers/new/GenericCA');
    await page.getByRole('textbox', { name: 'Name', exact: true }).fill(name);
    await page.getByLabel('Id', { exact: true }).fill(id);
    await page.getByLabel('Its certificate is').selectOption('external');
    await page.getByRole('button', { name: 'Set up issuer' }).click();
    await page.getByText('To be signed').waitFor();
    const [file] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Download request' }).click(),
    ]);
    expect(await readFile(await file.path(), 'utf8')).toContain('BEGIN CERTIFICATE REQUEST');
    await page
      .getByLabel('Signed certificate', { exact: false })
      .first()
      .fill('-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----');
    await page.getByRole('button', { name: 'Hand in' }).click();
    await page.locator('#content [aria-invalid="true"], #content [role="alert"]').first().waitFor();
  });

  it('asks for what is missing before the server is asked', async () => {
    const page = await signedIn('/issuers/new/GenericCA');
    await page.getByLabel('Its certificate is').selectOption('sub-ca');
    await page.getByRole('button', { name: 'Set up issuer' }).click();
    await page.getByText('3 fields below need to be put right').waitFor();
    await expect.poll(() => page.evaluate(() => document.activeElement?.getAttribute('aria-invalid'))).toBe('true');
    await page.getByLabel('Where the key is kept').selectOption('pkcs11');
    await page.getByLabel('Label in the token').waitFor();
    expect(await page.getByLabel('Private key of the CA').count()).toBe(0);
  });
});

describe('an ACME issuer', () => {
  it('whose directory does not answer is set up, tested, and mended where that can be', async () => {
    const name = unique('Public CA');
    const id = willBeMade(unique('story-acme'));
    const page = await signedIn('/issuers/new/ACME');
    await page.getByRole('textbox', { name: 'Name', exact: true }).fill(name);
    await page.getByLabel('Id', { exact: true }).fill(id);
    await page.getByLabel('Directory URL').fill('http://127.0.0.1:1/directory');
    await page.getByLabel('Key id (EAB)').fill('kid-1');
    await page.getByRole('button', { name: 'Set up issuer' }).click();

    // Each fault stands beside its input, and is read with it.
    const directory = page.getByLabel('Directory URL');
    await page.getByText(/^Must be of the form https:/).waitFor();
    expect(await directory.getAttribute('aria-invalid')).toBe('true');
    expect(await page.getByRole('textbox', { name: 'MAC key (EAB)' }).getAttribute('aria-invalid')).toBe('true');
    await directory.fill('https://127.0.0.1:1/directory');
    await page.getByLabel('MAC key (EAB)', { exact: true }).fill('c2VjcmV0');
    await page.getByRole('button', { name: 'Set up issuer' }).click();

    await page.getByText(`${name} is set up`).waitFor();
    await page.getByRole('button', { name: 'Test connection' }).last().click();
    await page.getByText('The CA cannot be used as it is set up').waitFor();
    await page
      .getByText(/the ACME directory https:\/\/127\.0\.0\.1:1\/directory cannot be read: .*connection refused/)
      .waitFor();

    await page.getByRole('link', { name: 'Edit' }).click();
    await page.getByText('These stay: an issuer keeps its CA for life.').waitFor();
    await page.getByLabel('Contact').fill('nobody');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Must be a mail address').waitFor();
    await page.getByLabel('Contact').fill('pki@example.org');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByRole('link', { name: 'Edit' }).waitFor();
    expect((await issuer(id)).config).toMatchObject({ email: 'pki@example.org', eab_hmac_key: '(secret)' });
  });

  it('asks before what was typed is left behind', async () => {
    const page = await signedIn('/issuers/new/ACME');
    await page.getByLabel('Contact').fill('pki@example.org');
    await page.getByRole('link', { name: 'Issuers' }).first().click();
    const leave = page.getByRole('dialog', { name: 'Leave without saving?' });
    await leave.getByRole('button', { name: 'Stay' }).click();
    expect(await page.getByLabel('Contact').inputValue()).toBe('pki@example.org');
    await page.getByRole('link', { name: 'Issuers' }).first().click();
    await leave.getByRole('button', { name: 'Leave' }).click();
    await heading(page, 'Issuers').waitFor();
  });
});
