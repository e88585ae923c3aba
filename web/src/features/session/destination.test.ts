import { expect, it } from 'vitest';
import { destination, tidyKey } from './destination';

it('leads back to a page of the dashboard, and to no other host', () => {
  expect(destination('/issuers/iss-1?fresh=true')).toBe('/issuers/iss-1?fresh=true');
  for (const to of [undefined, '', 'https://evil.example', '//evil.example', '/\\evil.example', '/sign-in?to=%2F']) {
    expect(destination(to)).toBe('/');
  }
});

it('takes a key as it was meant', () => {
  expect(tidyKey('  cck_abc\n')).toBe('cck_abc');
  expect(tidyKey('two words')).toBeUndefined();
  expect(tidyKey('')).toBeUndefined();
});
