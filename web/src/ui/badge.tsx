import { CircleAlert, CircleCheck, CircleMinus, TriangleAlert } from 'lucide-react';
import type { ReactNode } from 'react';
import { type Tone, toneText, toneWash } from './tone';

const marks = { good: CircleCheck, warn: TriangleAlert, bad: CircleAlert, quiet: CircleMinus };

export function ToneIcon({ tone, className = 'size-4' }: { tone: Tone; className?: string }) {
  const Mark = marks[tone];
  return <Mark aria-hidden className={`shrink-0 ${toneText[tone]} ${className}`} />;
}

export function Badge({ tone, children }: { tone: Tone; children: ReactNode }) {
  return (
    <span
      className={`inline-flex items-center gap-1.5 rounded-full border py-0.5 pr-2.5 pl-1.5 text-[13px] font-medium whitespace-nowrap ${toneWash[tone]}`}
    >
      <ToneIcon tone={tone} className="size-3.5" />
      {children}
    </span>
  );
}
