import type { Schema } from '@/api/client';
import { type Faults, numberFault, type Values } from './form';

export type Limits = Schema['IssuerLimits'];

interface Limit {
  name: keyof Limits;
  label: string;
  help: string;
  usual: string;
  /** What the server takes for the default: an emptied limit is sent as this, since limits know no null. */
  unset: number;
  min: number;
  max: number;
}

export const limits: Limit[] = [
  {
    name: 'max_concurrent',
    label: 'Requests at once',
    help: 'How many may be under way together.',
    usual: '20',
    unset: 0,
    min: 0,
    max: 1000,
  },
  {
    name: 'rate_limit',
    label: 'Requests in each window',
    help: 'Left empty, there is no bound.',
    usual: 'no bound',
    unset: 0,
    min: 0,
    max: 1_000_000,
  },
  {
    name: 'rate_window_seconds',
    label: 'Window (s)',
    help: 'What is beyond waits for the next one, and is not lost.',
    usual: '3600',
    unset: 3600,
    min: 1,
    max: 2_678_400,
  },
];

export function limitValues(given: Limits | undefined): Values {
  return Object.fromEntries(
    limits.map((l) => [l.name, !given?.[l.name] || given[l.name] === l.unset ? '' : String(given[l.name])]),
  );
}

export function limitFaults(values: Values): Faults {
  const faults: Faults = {};
  for (const l of limits) {
    const value = values[l.name] ?? '';
    const reason = value === '' ? undefined : numberFault(value, l.min, l.max);
    if (reason) faults[`limits.${l.name}`] = reason;
  }
  return faults;
}

/** The limits that differ from how the form was filled, undefined if none does. */
export function limitChange(before: Values, after: Values): Limits | undefined {
  const change: Limits = {};
  for (const l of limits) {
    const is = after[l.name] ?? '';
    if (is !== (before[l.name] ?? '')) change[l.name] = is === '' ? l.unset : Number(is);
  }
  return Object.keys(change).length > 0 ? change : undefined;
}
