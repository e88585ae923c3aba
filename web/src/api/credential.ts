import { useSyncExternalStore } from 'react';

/**
 * The key or token by which the caller is known. It lives in this tab's sessionStorage and nowhere else: closing the tab
 * forgets it, and it is never part of an address or a log.
 */
export type Credential =
  | { state: 'missing' }
  | { state: 'given'; token: string }
  /** The server has refused it since; whoever was at work signs in again over the page, and loses nothing typed. */
  | { state: 'refused' };

const storageKey = 'certctl.credential';
const listeners = new Set<() => void>();

function restored(): Credential {
  const token = sessionStorage.getItem(storageKey);
  return token ? { state: 'given', token } : { state: 'missing' };
}

let current: Credential | undefined;

function get(): Credential {
  current ??= restored();
  return current;
}

function set(next: Credential) {
  current = next;
  if (next.state === 'given') sessionStorage.setItem(storageKey, next.token);
  else sessionStorage.removeItem(storageKey);
  for (const tell of listeners) tell();
}

export const credential = {
  get,
  give: (token: string) => set({ state: 'given', token }),
  clear: () => set({ state: 'missing' }),
  /** Notes that the server has refused a token. One that was replaced meanwhile says nothing about the new one. */
  refuse(token: string) {
    const now = get();
    if (now.state === 'given' && now.token === token) set({ state: 'refused' });
  },
  subscribe(listener: () => void) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};

export function useCredential(): Credential {
  return useSyncExternalStore(credential.subscribe, get);
}
