import { expect, it } from 'vitest';
import { relative } from './words';

const now = Date.parse('2026-01-01T00:00:00Z');
const at = (iso: string) => relative(iso, now);

it('says how far a moment is in the largest unit of which there are two', () => {
  expect(at('2026-01-01T00:00:03Z')).toBe('now');
  expect(at('2026-01-01T00:01:30Z')).toBe('in 90 seconds');
  expect(at('2025-12-31T23:00:00Z')).toBe('60 minutes ago');
  expect(at('2026-01-20T12:00:00Z')).toBe('in 19 days');
  expect(at('2035-12-29T00:00:00Z')).toBe('in 10 years');
});
