const dayFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' });
const momentFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'long' });
const relativeFormat = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });

export function day(at: string): string {
  return dayFormat.format(new Date(at));
}

export function moment(at: string): string {
  return momentFormat.format(new Date(at));
}

const steps: [Intl.RelativeTimeFormatUnit, number][] = [
  ['year', 31_557_600],
  ['month', 2_629_800],
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
];

/** How far a moment is from now, in the largest unit of which there are two: "in 18 months", not "next year". */
export function relative(at: string, now: number): string {
  const seconds = (Date.parse(at) - now) / 1000;
  for (const [unit, length] of steps) {
    if (Math.abs(seconds) < 2 * length) continue;
    // Ten years less three days are ten years; nineteen days and a half are not twenty, which matters to who has to act.
    const round = length > 86_400 ? Math.round : Math.trunc;
    return relativeFormat.format(round(seconds / length), unit);
  }
  if (Math.abs(seconds) < 10) return 'now';
  return relativeFormat.format(Math.trunc(seconds), 'second');
}
