/** What a colour means, everywhere: well, to be looked at, wrong, and nothing of these. Never said by colour alone. */
export type Tone = 'good' | 'warn' | 'bad' | 'quiet';

export const toneText: Record<Tone, string> = {
  good: 'text-good',
  warn: 'text-warn',
  bad: 'text-bad',
  quiet: 'text-soft',
};

export const toneWash: Record<Tone, string> = {
  good: 'bg-good-wash border-good-line text-good',
  warn: 'bg-warn-wash border-warn-line text-warn',
  bad: 'bg-bad-wash border-bad-line text-bad',
  quiet: 'bg-sunk border-line text-soft',
};
