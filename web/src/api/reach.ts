import { useSyncExternalStore } from 'react';

/** Whether the server can be reached, as far as the last call and the browser know. */
export type Reach = 'online' | 'offline' | 'unreachable';

const listeners = new Set<() => void>();
let answered = true;

export function noteReach(ok: boolean) {
  if (answered === ok) return;
  answered = ok;
  for (const tell of listeners) tell();
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  addEventListener('online', listener);
  addEventListener('offline', listener);
  return () => {
    listeners.delete(listener);
    removeEventListener('online', listener);
    removeEventListener('offline', listener);
  };
}

function get(): Reach {
  if (!navigator.onLine) return 'offline';
  return answered ? 'online' : 'unreachable';
}

export function useReach(): Reach {
  return useSyncExternalStore(subscribe, get);
}
