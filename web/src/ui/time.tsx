import { useSyncExternalStore } from 'react';
import { day, moment, relative } from './words';

const listeners = new Set<() => void>();
let now = Date.now();
let timer: number | undefined;

function subscribe(listener: () => void) {
  listeners.add(listener);
  timer ??= window.setInterval(() => {
    now = Date.now();
    for (const tell of listeners) tell();
  }, 5_000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** The time, to within five seconds, one clock for all that shows it. */
export function useNow(): number {
  return useSyncExternalStore(subscribe, () => now);
}

/** A moment as people say it, with the exact one beneath the pointer. */
export function When({ at, as = 'relative' }: { at: string; as?: 'relative' | 'day' }) {
  const clock = useNow();
  return (
    <time dateTime={at} title={moment(at)}>
      {as === 'day' ? day(at) : relative(at, clock)}
    </time>
  );
}
