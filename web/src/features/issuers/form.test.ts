import { describe, expect, it } from 'vitest';
import { changeOf, configOf, faultsOf, isShown, kept, rebase, unknownSettings, valuesOf } from './form';
import { kindOf, kinds, settingsOf } from './kinds/kinds';
import type { Kind } from './kinds/setting';

function kind(type: string): Kind {
  const k = kindOf(type);
  if (!k) throw new Error(type);
  return k;
}

const acme = kind('ACME');
const local = kind('GenericCA');
const vault = kind('Vault');

function shown(k: Kind, values: Record<string, string>): string[] {
  return settingsOf(k)
    .filter((s) => isShown(k, s, values))
    .map((s) => s.name);
}

describe('what a form asks for', () => {
  it('asks for a provider of DNS only if names are proven by DNS-01, and then for the settings of the chosen one', () => {
    expect(shown(acme, {})).not.toContain('dns_provider');
    expect(shown(acme, {})).toContain('http01_via');
    const dns = shown(acme, { challenge_type: 'dns-01', dns_provider: 'route53' });
    expect(dns).toContain('dns_provider');
    expect(dns).toContain('dns_route53_access_key_id');
    expect(dns).not.toContain('dns_cloudflare_api_token');
    expect(dns).not.toContain('http01_via');
  });

  it('forgets the provider when names are proven by HTTP-01 again', () => {
    expect(shown(acme, { challenge_type: 'http-01', dns_provider: 'route53' })).not.toContain(
      'dns_route53_access_key_id',
    );
  });

  it('takes an empty choice for the usual one', () => {
    expect(shown(local, {})).toContain('common_name');
    expect(shown(local, {})).not.toContain('parent_issuer_id');
    expect(shown(local, { mode: 'sub-ca' })).toContain('ca_key_pem');
    expect(shown(local, { mode: 'sub-ca', key_store: 'pkcs11' })).not.toContain('ca_key_pem');
    expect(shown(local, { mode: 'external' })).not.toContain('ca_validity_days');
  });

  it('names no setting twice, and no condition that does not exist', () => {
    for (const k of kinds) {
      const names = settingsOf(k).map((s) => s.name);
      expect(new Set(names).size).toBe(names.length);
      for (const s of settingsOf(k)) for (const name of Object.keys(s.when ?? {})) expect(names).toContain(name);
    }
  });
});

describe('the config of a new issuer', () => {
  it('leaves out what is empty, and what is not asked for', () => {
    expect(configOf(acme, { directory_url: ' https://ca.example/dir ', email: '', dns_zones: 'example.com' })).toEqual({
      directory_url: 'https://ca.example/dir',
    });
  });

  it('sends numbers, lists, switches and programs as the API has them', () => {
    expect(configOf(local, { max_path_len: '0', permitted_dns_domains: 'a.example\n\n .b.example ' })).toEqual({
      max_path_len: 0,
      permitted_dns_domains: ['a.example', '.b.example'],
    });
    expect(configOf(kind('DigiCert'), { api_key: 'k', organization_id: '12', skip_approval: 'false' })).toEqual({
      api_key: 'k',
      organization_id: 12,
      skip_approval: false,
    });
    expect(configOf(kind('OpenSSL'), { sign_script: '/opt/sign', revoke_script: '/opt/revoke\n--now' })).toEqual({
      sign_script: '/opt/sign',
      revoke_script: ['/opt/revoke', '--now'],
    });
  });

  it('keeps the spaces around a password', () => {
    expect(configOf(kind('StepCA'), { provisioner_password: ' p ' })).toEqual({ provisioner_password: ' p ' });
  });
});

describe('a change', () => {
  const config = { url: 'https://v.example', role: 'web', mount: 'pki2', token: kept, validity_days: 30 };
  const before = valuesOf(vault, config);

  it('holds only what differs', () => {
    expect(changeOf(vault, before, before)).toEqual({});
    expect(changeOf(vault, before, { ...before, role: 'other' })).toEqual({ role: 'other' });
  });

  it('takes a setting that was emptied back to its default by null', () => {
    expect(changeOf(vault, before, { ...before, mount: '', validity_days: '' })).toEqual({
      mount: null,
      validity_days: null,
    });
  });

  it('sends a secret only if it was replaced or taken away', () => {
    expect(changeOf(vault, before, { ...before, token: kept })).toEqual({});
    expect(changeOf(vault, before, { ...before, token: 'new' })).toEqual({ token: 'new' });
    expect(changeOf(vault, before, { ...before, token: '', role_id: 'r', secret_id: 's' })).toEqual({
      token: null,
      role_id: 'r',
      secret_id: 's',
    });
  });

  it('takes away the settings of a provider that is no longer chosen, its secret too', () => {
    const cloudflare = valuesOf(acme, {
      directory_url: 'https://ca.example/dir',
      challenge_type: 'dns-01',
      dns_provider: 'cloudflare',
      dns_cloudflare_api_token: kept,
    });
    expect(changeOf(acme, cloudflare, { ...cloudflare, dns_provider: 'acmedns', dns_acmedns_accounts: '{}' })).toEqual({
      dns_provider: 'acmedns',
      dns_cloudflare_api_token: null,
      dns_acmedns_accounts: '{}',
    });
  });

  it('leaves alone what the table does not know, and shows it', () => {
    const odd = { ...config, colour: 'blue', tuning: { a: 1 } };
    expect(changeOf(vault, valuesOf(vault, odd), { ...valuesOf(vault, odd), role: 'x' })).toEqual({ role: 'x' });
    expect(unknownSettings(vault, odd)).toEqual([
      ['colour', 'blue'],
      ['tuning', '{"a":1}'],
    ]);
  });
});

describe('what can be told to be wrong at once', () => {
  it('is what is missing or no number, under the name the server uses', () => {
    expect(faultsOf(vault, { role: 'web', validity_days: '1.5' })).toEqual({
      'config.url': 'is required',
      'config.validity_days': 'must be a whole number from 1 to 36500',
    });
  });

  it('is nothing that is not asked for', () => {
    expect(faultsOf(local, {})).toEqual({});
    expect(faultsOf(local, { mode: 'intermediate' })).toEqual({ 'config.parent_issuer_id': 'is required' });
    expect(faultsOf(local, { mode: 'sub-ca' }, true)).toEqual({});
  });

  it('takes a secret that is kept for given', () => {
    expect(faultsOf(kind('DigiCert'), { api_key: kept })).toEqual({});
  });
});

describe('two who change an issuer at once', () => {
  it('both have their changes, where they do not touch the same', () => {
    const { values, clashes } = rebase({ a: '1', b: '1' }, { a: '2', b: '1' }, { a: '1', b: '9' });
    expect(values).toEqual({ a: '2', b: '9' });
    expect(clashes).toEqual([]);
  });

  it('are told where they do', () => {
    const { values, clashes } = rebase({ a: '1' }, { a: '2' }, { a: '3' });
    expect(values).toEqual({ a: '2' });
    expect(clashes).toEqual([{ name: 'a', theirs: '3' }]);
  });
});
