import { Switch as Base } from '@base-ui/react/switch';
import { type ReactNode, useId } from 'react';

interface Props {
  label: string;
  help?: ReactNode;
  on: boolean;
  onChange: (on: boolean) => void;
}

export function Switch({ label, help, on, onChange }: Props) {
  const id = useId();
  return (
    <div className="flex items-start gap-3">
      <Base.Root
        checked={on}
        onCheckedChange={onChange}
        aria-labelledby={id}
        aria-describedby={help ? `${id}-help` : undefined}
        className="mt-0.5 flex h-5 w-9 shrink-0 items-center rounded-full border border-line-strong bg-sunk p-0.5 transition-colors data-checked:border-accent data-checked:bg-accent"
      >
        <Base.Thumb className="size-3.5 rounded-full bg-line-strong transition-transform data-checked:translate-x-4 data-checked:bg-on-accent" />
      </Base.Root>
      <div className="min-w-0">
        <span id={id} className="font-medium">
          {label}
        </span>
        {help && (
          <p id={`${id}-help`} className="text-[13px] leading-snug text-soft">
            {help}
          </p>
        )}
      </div>
    </div>
  );
}
