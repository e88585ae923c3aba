import { describe, expect, it } from 'vitest';
import {
  Problem,
  patience,
  placeFaults,
  problemOf,
  seconds,
  Unreachable,
  worthRepeating,
  worthRetrying,
} from './problem';

const none = new Headers();

describe('a problem', () => {
  it('is read with its message and the fields that are wrong', () => {
    const p = problemOf(
      400,
      { message: 'config.url: is required', errors: [{ field: 'config.url', reason: 'is required' }, { odd: 1 }] },
      none,
    );
    expect(p.message).toBe('config.url: is required');
    expect(p.fields).toEqual([{ field: 'config.url', reason: 'is required' }]);
  });

  it('is a sentence too if a proxy answers', () => {
    expect(problemOf(502, '<html>', none).message).toBe('The server answered with status 502.');
  });

  it('is said beside the inputs that are there, and for the rest at the top', () => {
    const p = new Problem(400, '', [
      { field: 'name', reason: 'a' },
      { field: 'name', reason: 'b' },
      { field: 'config.odd', reason: 'c' },
    ]);
    expect(placeFaults(p, (f) => f === 'name')).toEqual({
      beside: { name: 'a; b' },
      rest: [{ field: 'config.odd', reason: 'c' }],
    });
  });
});

describe('asking again', () => {
  it('is done when the server is busy or away, and not for ever', () => {
    expect(worthRetrying(0, new Problem(503, ''))).toBe(true);
    expect(worthRetrying(0, new Problem(429, ''))).toBe(true);
    expect(worthRetrying(0, new Unreachable())).toBe(true);
    expect(worthRetrying(0, new Problem(404, ''))).toBe(false);
    expect(worthRetrying(3, new Problem(503, ''))).toBe(false);
  });

  it('is done with a change only if the server has done nothing for sure', () => {
    expect(worthRepeating(0, new Problem(429, ''))).toBe(true);
    expect(worthRepeating(0, new Problem(503, ''))).toBe(false);
    expect(worthRepeating(0, new Unreachable())).toBe(false);
  });

  it('waits as long as the server wants, or else ever longer', () => {
    expect(patience(0, new Problem(429, '', [], 7))).toBe(7000);
    expect(patience(2, new Problem(503, ''))).toBe(4000);
    expect(patience(9, new Problem(503, ''))).toBe(30_000);
  });

  it('reads the time as seconds or as a date', () => {
    expect(seconds('12')).toBe(12);
    expect(seconds('Thu, 01 Jan 2026 00:00:10 GMT', Date.parse('2026-01-01T00:00:00Z'))).toBe(10);
    expect(seconds('soon')).toBeUndefined();
    expect(seconds(null)).toBeUndefined();
  });
});
