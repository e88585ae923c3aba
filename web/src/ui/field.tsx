import { CircleAlert } from 'lucide-react';
import { type ReactNode, useId } from 'react';

/** What an input has to carry so that its label, its help and what is wrong with it are read out with it. */
export interface Wiring {
  id: string;
  'aria-describedby': string | undefined;
  'aria-invalid': true | undefined;
  'aria-required': true | undefined;
}

interface Props {
  label: string;
  help?: ReactNode;
  /** What is wrong, as the server says it. */
  fault?: string;
  required?: boolean;
  /** Takes the whole width of a form of two columns. */
  wide?: boolean;
  children: (wiring: Wiring) => ReactNode;
}

/** An input with its label, help and fault. */
export function Field({ label, help, fault, required, wide, children }: Props) {
  const id = useId();
  const described = [fault && `${id}-fault`, help && `${id}-help`].filter(Boolean).join(' ');
  return (
    <div className={`flex min-w-0 flex-col gap-1.5 ${wide ? 'md:col-span-2' : ''}`}>
      <div className="font-medium">
        <label htmlFor={id}>{label}</label>
        {required && (
          <span aria-hidden className="ml-1 text-bad">
            *
          </span>
        )}
      </div>
      {children({
        id,
        'aria-describedby': described || undefined,
        'aria-invalid': fault ? true : undefined,
        'aria-required': required || undefined,
      })}
      {fault && (
        <p id={`${id}-fault`} className="flex items-start gap-1.5 text-[13px] text-bad">
          <CircleAlert aria-hidden className="mt-0.5 size-3.5 shrink-0" />
          <span className="min-w-0 break-words">{sentence(fault)}</span>
        </p>
      )}
      {help && (
        <p id={`${id}-help`} className="text-[13px] leading-snug text-soft">
          {help}
        </p>
      )}
    </div>
  );
}

/** A reason begins small, since the server writes it behind the field's name. */
export function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Brings the first input that is at fault into view and focuses it. */
export function focusFault(form: HTMLElement | null) {
  requestAnimationFrame(() => {
    const target =
      form?.querySelector<HTMLElement>('[aria-invalid="true"]') ?? form?.querySelector<HTMLElement>('[role="alert"]');
    target?.focus();
    target?.scrollIntoView({ block: 'center' });
  });
}
