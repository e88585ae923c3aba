import type { ReactNode } from 'react';
import { ToneIcon } from './badge';
import { type Tone, toneWash } from './tone';

interface Props {
  tone: Tone;
  title: ReactNode;
  children?: ReactNode;
  actions?: ReactNode;
  /** It appeared because of what was just done, and is read out. */
  alert?: boolean;
}

/** Something to know before going on, with what can be done about it. */
export function Notice({ tone, title, children, actions, alert }: Props) {
  return (
    <div
      role={alert ? 'alert' : undefined}
      tabIndex={alert ? -1 : undefined}
      className={`flex gap-3 rounded-lg border px-4 py-3 ${toneWash[tone]}`}
    >
      <ToneIcon tone={tone} className="mt-0.5 size-4" />
      <div className="flex min-w-0 flex-1 flex-col gap-1.5">
        <p className="font-semibold break-words">{title}</p>
        {children && <div className="min-w-0 break-words text-ink">{children}</div>}
        {actions && <div className="mt-1 flex flex-wrap gap-2">{actions}</div>}
      </div>
    </div>
  );
}
