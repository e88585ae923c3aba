import { queryOptions } from '@tanstack/react-query';
import { answer, client, type Schema } from '@/api/client';

export type AuthInfo = Schema['AuthInfo'];

/** How callers prove who they are. It does not change while the server runs. */
export const authInfoQuery = queryOptions({
  queryKey: ['auth', 'info'],
  queryFn: ({ signal }) => answer(client.GET('/api/v1/auth/info', { signal })),
  staleTime: Number.POSITIVE_INFINITY,
});

/** Who the caller is. */
export const callerQuery = queryOptions({
  queryKey: ['auth', 'check'],
  queryFn: ({ signal }) => answer(client.GET('/api/v1/auth/check', { signal })),
  staleTime: 60_000,
});

/** Asks whether a credential is good, before it is kept. */
export function check(token: string) {
  return answer(client.GET('/api/v1/auth/check', { headers: { Authorization: `Bearer ${token}` } }));
}
