/** The server that the stories are played against, beside the page: what a story finds, and what it leaves behind. */

function needed(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} has to be set: where certctl is served, and a key of an admin`);
  return value;
}

export const serverURL = needed('CERTCTL_SERVER_URL').replace(/\/$/, '');
export const adminKey = needed('CERTCTL_API_KEY');

const run = Date.now().toString(36);
let count = 0;

/** A name that no other story has, nor another run. */
export function unique(what: string): string {
  count += 1;
  return `${what}-${run}-${count}`;
}

export async function call(method: string, path: string, body?: unknown): Promise<Response> {
  return fetch(`${serverURL}/api/v1${path}`, {
    method,
    headers: { Authorization: `Bearer ${adminKey}`, 'Content-Type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

async function must(method: string, path: string, body?: unknown) {
  const answer = await call(method, path, body);
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer.status === 204 ? undefined : await answer.json();
}

// biome-ignore lint/suspicious/noExplicitAny: what a story looks at in an answer, it knows.
type Answer = Record<string, any>;

const left: string[] = [];

/** Sets up an issuer, which is taken away when the story ends. */
export async function haveIssuer(of: Answer): Promise<Answer> {
  const id = of.id ?? unique('story');
  left.push(id);
  return must('POST', '/issuers', { id, enabled: true, ...of });
}

/** Has an issuer that the story sets up by itself taken away when it ends. */
export function willBeMade(id: string): string {
  left.push(id);
  return id;
}

export async function issuer(id: string): Promise<Answer> {
  return must('GET', `/issuers/${id}`);
}

/** What the admin's key is called. */
export async function principal(): Promise<string> {
  return (await must('GET', '/auth/check')).principal;
}

/** Makes a key, which is revoked when the story ends at the latest. */
export async function haveKey(roles: string[]): Promise<{ key: string; revoke: () => Promise<void> }> {
  const made = await must('POST', '/api-keys', {
    name: unique('story'),
    roles,
    expires_at: new Date(Date.now() + 3_600_000),
  });
  const revoke = async () => {
    await call('DELETE', `/api-keys/${made.id}`);
  };
  keys.push(revoke);
  return { key: made.key, revoke };
}

const keys: (() => Promise<void>)[] = [];

/** Takes away what the story has set up, the last first, since a CA stays while another stands below it. */
export async function tidy() {
  for (const id of left.splice(0).reverse()) {
    const answer = await call('DELETE', `/issuers/${id}`);
    if (!answer.ok && answer.status !== 404) throw new Error(`${id} is left behind: ${await answer.text()}`);
  }
  for (const revoke of keys.splice(0)) await revoke();
}
