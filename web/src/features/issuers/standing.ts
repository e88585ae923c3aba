import type { Schema } from '@/api/client';
import type { Tone } from '@/ui/tone';

export type Issuer = Schema['Issuer'];

/** How an issuer stands, in a word and at most two sentences. */
export interface Standing {
  tone: Tone;
  word: string;
  detail?: string;
  /** When the CA is tried again. */
  retryAt?: string;
}

export function standingOf(issuer: Issuer): Standing {
  const health = issuer.health;
  if (waitsForCertificate(issuer)) {
    return {
      tone: 'warn',
      word: 'To be signed',
      detail: 'Have its request signed, and hand in the certificate.',
    };
  }
  if (!issuer.enabled) return { tone: 'quiet', word: 'Disabled', detail: 'It issues nothing.' };
  if (health?.circuit === 'open') {
    return { tone: 'bad', word: 'Away', detail: health.last_error, retryAt: health.retry_at };
  }
  if (health?.circuit === 'half_open') {
    return { tone: 'warn', word: 'Being tried', detail: health.last_error };
  }
  if (health && health.failures > 0) {
    return {
      tone: 'warn',
      word: 'Failing',
      detail: `${count(health.failures, 'request')} in a row failed: ${health.last_error ?? 'no answer'}`,
    };
  }
  if (!health && elsewhere(issuer)) return { tone: 'quiet', word: 'Not asked yet' };
  if (health && health.waiting > 0)
    return {
      tone: 'good',
      word: 'Ready',
      detail: `${count(health.waiting, 'job')} wait${health.waiting === 1 ? 's' : ''} for a place.`,
    };
  return { tone: 'good', word: 'Ready' };
}

/** Whether the CA has to be asked, so that nothing is known of it before. */
function elsewhere(issuer: Issuer): boolean {
  return issuer.type !== 'GenericCA';
}

/** A Local CA whose request is signed elsewhere issues nothing before that. */
export function waitsForCertificate(issuer: Issuer): boolean {
  return issuer.type === 'GenericCA' && issuer.config.mode === 'external' && !issuer.ca_chain_pem;
}

/** How much of a rate limit is used, undefined without one. */
export function budgetOf(issuer: Issuer): { used: number; of: number; share: number } | undefined {
  const of = issuer.limits?.rate_limit;
  if (!of) return undefined;
  const used = issuer.health?.budget_used ?? 0;
  return { used, of, share: Math.min(1, used / of) };
}

/** What tells the CA apart from others of its type: where it is, or whose certificate it has. */
export function whatItIs(issuer: Issuer, subject: string | undefined): string {
  const text = (name: string) => {
    const v = issuer.config[name];
    return typeof v === 'string' && v !== '' ? v : undefined;
  };
  const place = text('directory_url') ?? text('url') ?? text('base_url');
  if (place) return place.replace(/^https:\/\//, '');
  if (subject) return subject;
  const program = issuer.config.sign_script;
  if (Array.isArray(program)) return String(program[0]);
  return text('sign_script') ?? text('common_name') ?? text('product') ?? '';
}

export function endTone(notAfter: string, warning: string | undefined, now: number): Tone {
  const days = (Date.parse(notAfter) - now) / 86_400_000;
  if (days <= 30) return 'bad';
  return warning ? 'warn' : 'quiet';
}

/** What still refers to an issuer, from the message that refuses to remove it; none if it says something else. */
export function usesOf(message: string): { what: string; ids: string[] }[] {
  const [, list] = /^issuer \S+ is in use by (.+)$/s.exec(message) ?? [];
  if (!list) return [];
  return [...list.matchAll(/(?:^| and )([^()]+?) \(([^()]*)\)/g)].map(([, what = '', ids = '']) => ({
    what,
    ids: ids.split(', '),
  }));
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
