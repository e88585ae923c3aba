import { describe, expect, it } from 'vitest';
import { budgetOf, endTone, type Issuer, standingOf, usesOf, whatItIs } from './standing';

function issuer(of: Partial<Issuer> = {}): Issuer {
  return { id: 'i', name: 'I', type: 'ACME', config: {}, enabled: true, created_at: '', updated_at: '', ...of };
}

const health = { circuit: 'closed', failures: 0, under_way: 0, waiting: 0 } as const;

describe('how an issuer stands', () => {
  it('is ready if nothing is wrong, and says what waits', () => {
    expect(standingOf(issuer({ health }))).toEqual({ tone: 'good', word: 'Ready' });
    expect(standingOf(issuer({ health: { ...health, waiting: 1 } })).detail).toBe('1 job waits for a place.');
  });

  it('is not called ready before a CA elsewhere was asked', () => {
    expect(standingOf(issuer()).word).toBe('Not asked yet');
    expect(standingOf(issuer({ type: 'GenericCA' })).word).toBe('Ready');
  });

  it('is away while its circuit is open, with the error and the time of the next try', () => {
    const s = standingOf(
      issuer({ health: { ...health, circuit: 'open', failures: 5, last_error: 'refused', retry_at: 't' } }),
    );
    expect(s).toEqual({ tone: 'bad', word: 'Away', detail: 'refused', retryAt: 't' });
  });

  it('is failing before that', () => {
    const s = standingOf(issuer({ health: { ...health, failures: 2, last_error: 'refused' } }));
    expect(s).toEqual({ tone: 'warn', word: 'Failing', detail: '2 requests in a row failed: refused' });
  });

  it('is disabled, whatever its CA does', () => {
    expect(standingOf(issuer({ enabled: false, health: { ...health, circuit: 'open' } })).word).toBe('Disabled');
  });

  it('waits to be signed if its request is signed elsewhere and was not yet', () => {
    expect(standingOf(issuer({ type: 'GenericCA', config: { mode: 'external' } })).word).toBe('To be signed');
    expect(standingOf(issuer({ type: 'GenericCA', config: { mode: 'external' }, ca_chain_pem: 'x' })).word).toBe(
      'Ready',
    );
  });
});

it('tells how much of a limit is used, if there is one', () => {
  expect(budgetOf(issuer({ health }))).toBeUndefined();
  expect(budgetOf(issuer({ limits: { rate_limit: 10 }, health: { ...health, budget_used: 4 } }))).toEqual({
    used: 4,
    of: 10,
    share: 0.4,
  });
});

it('tells issuers of a type apart by where the CA is, or whose certificate it has', () => {
  expect(whatItIs(issuer({ config: { directory_url: 'https://ca.example/dir' } }), 'CN=x')).toBe('ca.example/dir');
  expect(whatItIs(issuer({ type: 'GenericCA' }), 'CN=Root')).toBe('CN=Root');
  expect(whatItIs(issuer({ config: { sign_script: ['/opt/sign', '-v'] } }), undefined)).toBe('/opt/sign');
});

it('warns of the end of a CA when the server does, and is loud in the last month', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  expect(endTone('2036-01-01T00:00:00Z', undefined, now)).toBe('quiet');
  expect(endTone('2026-06-01T00:00:00Z', 'roll it over', now)).toBe('warn');
  expect(endTone('2026-01-20T00:00:00Z', 'roll it over', now)).toBe('bad');
});

it('lists what still uses an issuer, and nothing for another refusal', () => {
  expect(usesOf('issuer iss-a is in use by at least 100 certificates (mc-1, mc-2, …) and 1 issuer (iss-b)')).toEqual([
    { what: 'at least 100 certificates', ids: ['mc-1', 'mc-2', '…'] },
    { what: '1 issuer', ids: ['iss-b'] },
  ]);
  expect(usesOf('issuer iss-local stays: it is the issuer of requests that name none')).toEqual([]);
});
