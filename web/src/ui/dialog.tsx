import { Dialog as Base } from '@base-ui/react/dialog';
import type { ReactNode } from 'react';

interface Props {
  open: boolean;
  /** Left out, it cannot be closed by Escape or beside it. */
  onClose?: () => void;
  title: string;
  help?: ReactNode;
  children: ReactNode;
}

/** A question that has to be answered before going on. The focus stays in it, and goes back to where it came from. */
export function Dialog({ open, onClose, title, help, children }: Props) {
  return (
    <Base.Root open={open} onOpenChange={(next) => !next && onClose?.()} disablePointerDismissal={!onClose}>
      <Base.Portal>
        <Base.Backdrop className="fixed inset-0 z-40 bg-veil transition-opacity duration-150 data-ending-style:opacity-0 data-starting-style:opacity-0" />
        <Base.Popup className="fixed top-1/2 left-1/2 z-50 flex max-h-[calc(100dvh-2rem)] w-[min(32rem,calc(100vw-2rem))] -translate-x-1/2 -translate-y-1/2 flex-col gap-4 overflow-y-auto rounded-xl border border-line bg-panel p-5 text-sm text-ink shadow-xl transition-opacity duration-150 data-ending-style:opacity-0 data-starting-style:opacity-0">
          <div>
            <Base.Title className="text-base font-semibold">{title}</Base.Title>
            {help && <Base.Description className="mt-1 text-soft">{help}</Base.Description>}
          </div>
          {children}
        </Base.Popup>
      </Base.Portal>
    </Base.Root>
  );
}
