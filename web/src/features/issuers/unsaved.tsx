import { useBlocker } from '@tanstack/react-router';
import type { RefObject } from 'react';
import { Button } from '@/ui/button';
import { Dialog } from '@/ui/dialog';

/** Asks before what was typed is left behind. `done` lifts it, for the way on after saving. */
export function Unsaved({ dirty, done }: { dirty: boolean; done: RefObject<boolean> }) {
  const blocker = useBlocker({
    shouldBlockFn: () => dirty && !done.current,
    enableBeforeUnload: () => dirty && !done.current,
    withResolver: true,
  });
  return (
    <Dialog
      open={blocker.status === 'blocked'}
      onClose={() => blocker.reset?.()}
      title="Leave without saving?"
      help="What you have typed here is lost."
    >
      <div className="flex flex-wrap justify-end gap-2">
        <Button onClick={() => blocker.reset?.()}>Stay</Button>
        <Button weight="danger" onClick={() => blocker.proceed?.()}>
          Leave
        </Button>
      </div>
    </Dialog>
  );
}
