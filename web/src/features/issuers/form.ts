import { settingsOf } from './kinds/kinds';
import { isSecret, type Kind, type Setting } from './kinds/setting';

/** What a form holds: each setting as the text that is typed. Empty is a setting that is not given. */
export type Values = Record<string, string>;

export type Config = Record<string, unknown>;

/** Stands for a secret that is set. Sent back, or not sent at all, it stays. */
export const kept = '(secret)';

/** Whether a setting is to be asked for, given the others. */
export function isShown(kind: Kind, setting: Setting, values: Values): boolean {
  return Object.entries(setting.when ?? {}).every(([name, wanted]) => wanted.includes(meant(kind, name, values)));
}

/** The value that counts: what is typed, or else what the setting usually is. */
function meant(kind: Kind, name: string, values: Values): string {
  return values[name] || settingsOf(kind).find((s) => s.name === name)?.usual || '';
}

/** Fills a form with an issuer's config. What the form has no place for is not in it, and stays as it is. */
export function valuesOf(kind: Kind, config: Config): Values {
  const values: Values = {};
  for (const s of settingsOf(kind)) values[s.name] = written(config[s.name]);
  return values;
}

function written(v: unknown): string {
  if (v === undefined || v === null) return '';
  if (Array.isArray(v)) return v.map(String).join('\n');
  return typeof v === 'object' ? JSON.stringify(v) : String(v);
}

/** The settings of a config that the table does not know. They are shown, and never sent, so that they stay. */
export function unknownSettings(kind: Kind | undefined, config: Config): [name: string, value: string][] {
  const known = new Set(kind ? settingsOf(kind).map((s) => s.name) : []);
  return Object.entries(config)
    .filter(([name]) => !known.has(name))
    .map(([name, value]) => [name, written(value)]);
}

export type Faults = Record<string, string>;

/**
 * What can be told to be wrong without asking the server, by the names that the server uses. Of an issuer that exists,
 * what cannot be changed is not asked for again.
 */
export function faultsOf(kind: Kind, values: Values, exists = false): Faults {
  const faults: Faults = {};
  for (const s of settingsOf(kind)) {
    if (!isShown(kind, s, values) || (exists && s.once)) continue;
    const value = values[s.name] ?? '';
    if (s.required && value.trim() === '') faults[`config.${s.name}`] = 'is required';
    else if (s.input === 'number' && value !== '') {
      const reason = numberFault(value, s.min, s.max);
      if (reason) faults[`config.${s.name}`] = reason;
    }
  }
  return faults;
}

export function numberFault(value: string, min = 0, max?: number): string | undefined {
  const n = Number(value);
  const whole = /^\s*\d+\s*$/.test(value) && Number.isSafeInteger(n);
  if (whole && n >= min && (max === undefined || n <= max)) return undefined;
  return max === undefined ? `must be a whole number, at least ${min}` : `must be a whole number from ${min} to ${max}`;
}

/** The config of a new issuer. What is empty, or not asked for, is left out. */
export function configOf(kind: Kind, values: Values): Config {
  const config: Config = {};
  for (const s of settingsOf(kind)) {
    const value = isShown(kind, s, values) ? parsed(s, values[s.name] ?? '') : null;
    if (value !== null) config[s.name] = value;
  }
  return config;
}

/**
 * What is to change of a config: only what differs from how the form was filled. A setting that was emptied is null,
 * which takes it back to its default; so is one that is no longer asked for, since the server refuses the settings of a
 * provider that is not chosen. A secret that was not replaced is not sent.
 */
export function changeOf(kind: Kind, before: Values, after: Values): Config {
  const change: Config = {};
  for (const s of settingsOf(kind)) {
    const was = before[s.name] ?? '';
    const withdrawn = isShown(kind, s, before) && !isShown(kind, s, after);
    const is = withdrawn ? '' : (after[s.name] ?? '');
    if (is === was || (isSecret(s) && is === kept)) continue;
    if (!withdrawn && !isShown(kind, s, after)) continue;
    change[s.name] = parsed(s, is);
  }
  return change;
}

function parsed(s: Setting, value: string): unknown {
  // A password may begin or end with a space.
  const text = s.input === 'secret' ? value : value.trim();
  if (text === '') return null;
  switch (s.input) {
    case 'number':
      return Number(text);
    case 'switch':
      return text === 'true';
    case 'lines':
      return lines(text);
    case 'program': {
      const argv = lines(text);
      return argv.length === 1 ? argv[0] : argv;
    }
    case 'pem':
      return `${text}\n`;
    default:
      return text;
  }
}

function lines(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
}

/** A setting that somebody else has changed too, while it was changed here. */
export interface Clash {
  name: string;
  theirs: string;
}

/**
 * Brings what was typed onto a newer state: what was not touched here becomes as it is now, what was stays as typed.
 * What both have changed, to different values, is named.
 */
export function rebase(before: Values, mine: Values, theirs: Values): { values: Values; clashes: Clash[] } {
  const values: Values = { ...theirs };
  const clashes: Clash[] = [];
  for (const name of Object.keys(mine)) {
    const was = before[name] ?? '';
    const is = mine[name] ?? '';
    const now = theirs[name] ?? '';
    if (is === was) continue;
    values[name] = is;
    if (now !== was && now !== is) clashes.push({ name, theirs: now });
  }
  return { values, clashes };
}
