import createClient, { type Middleware } from 'openapi-fetch';
import { credential } from './credential';
import { problemOf, Unreachable } from './problem';
import { noteReach } from './reach';
import type { components, paths } from './schema.gen';

export type Schema = components['schemas'];

const bearer: Middleware = {
  onRequest({ request }) {
    const c = credential.get();
    if (c.state === 'given' && !request.headers.has('Authorization')) {
      request.headers.set('Authorization', `Bearer ${c.token}`);
    }
    return request;
  },
  onResponse({ request, response }) {
    noteReach(true);
    if (response.status === 401) {
      credential.refuse((request.headers.get('Authorization') ?? '').replace(/^Bearer /, ''));
    }
  },
  onError({ error }) {
    // A call that was called off says nothing about the server.
    if (error instanceof DOMException && error.name === 'AbortError') return error;
    noteReach(false);
    return new Unreachable();
  },
};

export const client = createClient<paths>({ baseUrl: '/', cache: 'no-store', credentials: 'omit' });
client.use(bearer);

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** Returns what was answered, or throws the Problem that it is. */
export async function answer<T>(call: Promise<Answer<T>>): Promise<T> {
  return (await answerWithTag(call)).value;
}

/** Like answer, with the entity tag that a change has to name. */
export async function answerWithTag<T>(call: Promise<Answer<T>>): Promise<{ value: T; etag: string | undefined }> {
  const { data, error, response } = await call;
  if (!response.ok) throw problemOf(response.status, error, response.headers);
  return { value: data as T, etag: response.headers.get('ETag') ?? undefined };
}
