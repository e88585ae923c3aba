import { Eye, EyeOff, Lock } from 'lucide-react';
import { useRef, useState } from 'react';
import { Button } from './button';
import type { Wiring } from './field';
import { FileText, TextInput } from './input';

interface Props {
  wiring: Wiring;
  value: string;
  /** The value that stands for a secret that is set; nobody is shown it. */
  kept: string;
  onText: (value: string) => void;
  /** It may be taken away, and not only replaced. */
  removable: boolean;
  /** More than a line, such as a key in PEM. */
  long: boolean;
  what: string;
}

/** A secret that can be given, replaced and taken away, and is never shown once it is set. */
export function Secret({ wiring, value, kept, onText, removable, long, what }: Props) {
  // Whether it was set when the form was filled: only then it can be kept.
  const wasSet = useRef(value === kept).current || value === kept;
  const [replacing, setReplacing] = useState(false);
  const [shown, setShown] = useState(false);
  const box = useRef<HTMLDivElement>(null);

  if (value === kept && !replacing) {
    return (
      <div className="flex min-h-9 flex-wrap items-center gap-2 rounded-md border border-dashed border-line-strong bg-sunk px-3 py-1">
        <span className="flex min-w-0 flex-1 items-center gap-2 text-soft">
          <Lock aria-hidden className="size-4 shrink-0" />
          Set, and kept
        </span>
        <Button
          small
          weight="quiet"
          id={wiring.id}
          aria-describedby={wiring['aria-describedby']}
          aria-label={`Replace ${what}`}
          onClick={() => {
            setReplacing(true);
            requestAnimationFrame(() => box.current?.querySelector<HTMLElement>('input,textarea')?.focus());
          }}
        >
          Replace
        </Button>
        {removable && (
          <Button small weight="quiet" aria-label={`Remove ${what}`} onClick={() => onText('')}>
            Remove
          </Button>
        )}
      </div>
    );
  }

  const typed = value === kept ? '' : value;
  // While it is replaced, nothing typed is the old one kept.
  const give = (text: string) => onText(text === '' && replacing ? kept : text);
  return (
    <div ref={box} className="flex flex-col items-start gap-1.5">
      {long ? (
        <FileText {...wiring} value={typed} onText={give} what={what} />
      ) : (
        <span className="relative block w-full">
          <TextInput
            {...wiring}
            // Browsers keep to themselves what a form calls a new password.
            autoComplete="new-password"
            type={shown ? 'text' : 'password'}
            value={typed}
            onChange={(e) => give(e.target.value)}
            className="pr-10"
          />
          <button
            type="button"
            aria-label={shown ? `Hide ${what}` : `Show ${what}`}
            aria-pressed={shown}
            onClick={() => setShown(!shown)}
            className="absolute top-1 right-1 grid size-7 place-items-center rounded text-soft hover:bg-sunk hover:text-ink"
          >
            {shown ? <EyeOff aria-hidden className="size-4" /> : <Eye aria-hidden className="size-4" />}
          </button>
        </span>
      )}
      {wasSet && (
        <Button
          small
          weight="quiet"
          onClick={() => {
            setReplacing(false);
            onText(kept);
          }}
        >
          Keep the one that is set
        </Button>
      )}
    </div>
  );
}
