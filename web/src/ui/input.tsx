import { ChevronDown, FileUp } from 'lucide-react';
import { type ComponentProps, useRef } from 'react';
import { Button } from './button';

export const inputClass =
  'w-full min-w-0 rounded-md border border-line-strong bg-panel text-ink placeholder:text-soft placeholder:opacity-100 ' +
  'focus-visible:outline-2 focus-visible:outline-offset-0 focus-visible:outline-accent aria-invalid:border-bad disabled:bg-sunk';

export function TextInput({ className = '', ...rest }: ComponentProps<'input'>) {
  return <input autoComplete="off" spellCheck={false} {...rest} className={`${inputClass} h-9 px-3 ${className}`} />;
}

export function TextArea({ className = '', ...rest }: ComponentProps<'textarea'>) {
  return (
    <textarea
      autoComplete="off"
      spellCheck={false}
      rows={3}
      {...rest}
      className={`${inputClass} px-3 py-2 font-mono text-[13px] leading-snug ${className}`}
    />
  );
}

export function Select({ className = '', children, ...rest }: ComponentProps<'select'>) {
  return (
    <span className={`relative block min-w-0 ${className}`}>
      <select {...rest} className={`${inputClass} h-9 appearance-none truncate pr-9 pl-3`}>
        {children}
      </select>
      <ChevronDown aria-hidden className="pointer-events-none absolute top-2.5 right-3 size-4 text-soft" />
    </span>
  );
}

type FileTextProps = Omit<ComponentProps<'textarea'>, 'onChange' | 'value'> & {
  value: string;
  onText: (text: string) => void;
  /** What the file is, for the button. */
  what: string;
};

/** A text that is pasted, or read from a file of this computer. */
export function FileText({ value, onText, what, ...rest }: FileTextProps) {
  const chooser = useRef<HTMLInputElement>(null);
  return (
    <div className="flex flex-col items-start gap-1.5">
      <TextArea {...rest} value={value} onChange={(e) => onText(e.target.value)} rows={4} />
      <input
        ref={chooser}
        type="file"
        hidden
        tabIndex={-1}
        onChange={async (e) => {
          const file = e.target.files?.[0];
          if (file) onText(await file.text());
          e.target.value = '';
        }}
      />
      <Button
        small
        weight="quiet"
        icon={<FileUp aria-hidden className="size-4" />}
        aria-label={`Read from a file: ${what}`}
        onClick={() => chooser.current?.click()}
      >
        Read from a file
      </Button>
    </div>
  );
}
