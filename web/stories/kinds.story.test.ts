import { describe, expect, it } from 'vitest';
import { kinds, settingsOf } from '../src/features/issuers/kinds/kinds';
import { isSecret } from '../src/features/issuers/kinds/setting';
import { call } from './server';

describe('the table of settings', () => {
  it.each(kinds)('has none of $label that the server does not know', async (kind) => {
    // The server refuses the type's settings one by one; what it says of those that it knows is about their values.
    const config = Object.fromEntries(settingsOf(kind).map((s) => [s.name, 12.5]));
    const answer = await call('POST', '/issuers', { name: 'never made', type: kind.type, config });
    expect(answer.status).toBe(400);
    const { errors } = await answer.json();
    expect(errors.length).toBeGreaterThan(0);
    expect(errors.filter((e: { reason: string }) => /is no setting|unknown/.test(e.reason))).toEqual([]);
  });

  it.each(kinds)('calls secret of $label what the contract calls secret', async (kind) => {
    const contract = await (await call('GET', '/openapi.yaml')).text();
    for (const s of settingsOf(kind)) {
      // In the contract names of a provider are shortened to what follows the provider's.
      const short = s.name.replace(/^dns_(rfc2136|route53|azuredns|gcloud)(?=_)/, '');
      const secret = new RegExp(`\`(?:${s.name}|${short})\` \\(secret[;)]`).test(contract);
      if (secret) expect(isSecret(s), s.name).toBe(true);
    }
  });
});
