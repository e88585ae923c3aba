import { expect, it } from 'vitest';
import { limitChange, limitFaults, limitValues } from './limits';

it('shows a limit that is the default as empty', () => {
  expect(limitValues({ max_concurrent: 0, rate_limit: 300, rate_window_seconds: 3600 })).toEqual({
    max_concurrent: '',
    rate_limit: '300',
    rate_window_seconds: '',
  });
});

it('sends what differs, and what was emptied as the default', () => {
  const before = limitValues({ max_concurrent: 5, rate_limit: 300, rate_window_seconds: 60 });
  expect(limitChange(before, before)).toBeUndefined();
  expect(limitChange(before, { ...before, rate_limit: '', rate_window_seconds: '', max_concurrent: '7' })).toEqual({
    max_concurrent: 7,
    rate_limit: 0,
    rate_window_seconds: 3600,
  });
});

it('says which number is none', () => {
  expect(limitFaults({ rate_window_seconds: '0', max_concurrent: '' })).toEqual({
    'limits.rate_window_seconds': 'must be a whole number from 1 to 2678400',
  });
});
