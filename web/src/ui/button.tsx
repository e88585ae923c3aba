import { LoaderCircle } from 'lucide-react';
import type { ButtonHTMLAttributes, ReactNode } from 'react';

type Weight = 'main' | 'plain' | 'quiet' | 'danger';

const weights: Record<Weight, string> = {
  main: 'bg-accent text-on-accent border-transparent hover:bg-accent-strong',
  plain: 'bg-panel text-ink border-line-strong/60 hover:bg-sunk',
  quiet: 'bg-transparent text-ink border-transparent hover:bg-sunk',
  danger: 'bg-bad-solid text-white border-transparent hover:brightness-90',
};

/** The looks of a button, for links that act as one. */
export function buttonClass(weight: Weight = 'plain', small = false): string {
  const size = small ? 'h-7 px-2.5 text-[13px] gap-1.5' : 'h-9 px-3.5 gap-2';
  return `inline-flex shrink-0 items-center justify-center rounded-md border font-medium whitespace-nowrap transition-colors select-none aria-disabled:opacity-60 disabled:opacity-60 ${size} ${weights[weight]}`;
}

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  weight?: Weight;
  small?: boolean;
  icon?: ReactNode;
  /** Says that it is at work. It keeps its width and its focus, and does nothing when pressed. */
  busy?: boolean;
}

export function Button({
  weight,
  small,
  icon,
  busy,
  children,
  className = '',
  type = 'button',
  onClick,
  ...rest
}: Props) {
  return (
    <button
      {...rest}
      type={type}
      aria-disabled={busy || undefined}
      aria-busy={busy || undefined}
      onClick={(e) => (busy ? e.preventDefault() : onClick?.(e))}
      className={`${buttonClass(weight, small)} ${className}`}
    >
      {busy ? <LoaderCircle aria-hidden className="size-4 animate-spin" /> : icon}
      {children}
    </button>
  );
}
