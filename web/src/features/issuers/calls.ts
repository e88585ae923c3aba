import { keepPreviousData, queryOptions, useMutation, useQueryClient } from '@tanstack/react-query';
import { answer, answerWithTag, client, type Schema } from '@/api/client';
import { credential } from '@/api/credential';
import { Unreachable } from '@/api/problem';

/**
 * How often what is on the screen is brought up to date, in milliseconds. Not while the key is refused: each try would count
 * as one more by somebody without a key.
 */
const everyFew = () => (credential.get().state === 'refused' ? false : 5_000);

const all = ['issuers'] as const;

export interface ListPage {
  cursor?: string;
  size: number;
}

export function issuersQuery({ cursor, size }: ListPage) {
  return queryOptions({
    queryKey: [...all, 'list', { cursor, size }],
    queryFn: ({ signal }) =>
      answer(client.GET('/api/v1/issuers', { params: { query: { per_page: size, cursor } }, signal })),
    refetchInterval: everyFew,
    placeholderData: keepPreviousData,
  });
}

export function issuerQuery(id: string) {
  return queryOptions({
    queryKey: [...all, 'one', id],
    queryFn: async ({ signal }) => {
      const { value, etag } = await answerWithTag(
        client.GET('/api/v1/issuers/{id}', { params: { path: { id } }, signal }),
      );
      return { issuer: value, etag };
    },
    refetchInterval: everyFew,
  });
}

/**
 * Sets up an issuer. `attempt` names the attempt for the server: if a connection breaks before the answer, the same
 * attempt made again gets the first answer, and no second issuer.
 */
export function useCreateIssuer() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: ({ attempt, body }: { attempt: string; body: Schema['IssuerCreate'] }) =>
      answer(client.POST('/api/v1/issuers', { body, headers: { 'Idempotency-Key': attempt } })),
    onSuccess: () => queries.invalidateQueries({ queryKey: all }),
  });
}

export function useUpdateIssuer(id: string) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: async ({ etag, body }: { etag: string | undefined; body: Schema['IssuerUpdate'] }) => {
      const { value, etag: next } = await answerWithTag(
        client.PUT('/api/v1/issuers/{id}', { params: { path: { id }, header: { 'If-Match': etag } }, body }),
      );
      return { issuer: value, etag: next };
    },
    onSuccess: (answered) => {
      queries.setQueryData(issuerQuery(id).queryKey, (seen) => {
        // The answer to a change does not say how the CA stands.
        return {
          etag: answered.etag,
          issuer: { ...answered.issuer, health: answered.issuer.health ?? seen?.issuer.health },
        };
      });
      return queries.invalidateQueries({ queryKey: all });
    },
  });
}

export function useDeleteIssuer(id: string) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: () => answer(client.DELETE('/api/v1/issuers/{id}', { params: { path: { id } } })),
    onSuccess: () => {
      queries.removeQueries({ queryKey: issuerQuery(id).queryKey });
      return queries.invalidateQueries({ queryKey: [...all, 'list'] });
    },
  });
}

/** Has the server connect to the CA. Its refusal is the result, so it is not asked again by itself. */
export function useTestIssuer(id: string) {
  const queries = useQueryClient();
  return useMutation({
    mutationKey: ['test', id],
    mutationFn: () => answer(client.POST('/api/v1/issuers/{id}/test', { params: { path: { id } } })),
    onSettled: () => queries.invalidateQueries({ queryKey: all }),
  });
}

export function caRequestQuery(id: string) {
  return queryOptions({
    queryKey: [...all, 'request', id],
    queryFn: ({ signal }) =>
      answer(client.GET('/api/v1/issuers/{id}/ca-request', { params: { path: { id } }, signal })),
  });
}

export function useHandIn(id: string) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (pem: string) =>
      answer(
        client.POST('/api/v1/issuers/{id}/ca-certificate', { params: { path: { id } }, body: { ca_cert_pem: pem } }),
      ),
    onSuccess: () => queries.invalidateQueries({ queryKey: all }),
  });
}

/** Whether the same attempt may be made again: only if nobody knows what became of it. */
export function mayHaveWorked(error: unknown): boolean {
  return error instanceof Unreachable;
}
