/** What is wrong with one field of a request, as the server names it: `name`, `config.directory_url`, `limits.rate_limit`. */
export interface FieldFault {
  field: string;
  reason: string;
}

/** A refusal by the server (RFC 9457). Its message says what is wrong and what to do, and is shown as it is. */
export class Problem extends Error {
  override name = 'Problem';

  constructor(
    readonly status: number,
    message: string,
    readonly fields: FieldFault[] = [],
    /** Seconds after which the server wants to be asked again. */
    readonly retryAfter?: number,
    readonly requestID?: string,
  ) {
    super(message);
  }
}

/** The server could not be reached at all; whether it has done what it was asked is unknown. */
export class Unreachable extends Error {
  override name = 'Unreachable';

  constructor() {
    super('The server cannot be reached. Nothing is lost: try again when the connection is back.');
  }
}

/** Reads a problem document. What is none, such as a proxy's page, still becomes a sentence that one can act on. */
export function problemOf(status: number, body: unknown, headers: Headers): Problem {
  const said = isObject(body) ? body : {};
  const message =
    text(said.message) ?? text(said.detail) ?? text(said.title) ?? `The server answered with status ${status}.`;
  const fields = Array.isArray(said.errors) ? said.errors.flatMap(fieldFault) : [];
  return new Problem(
    status,
    message,
    fields,
    seconds(headers.get('Retry-After')),
    text(said.request_id) ?? headers.get('X-Request-ID') ?? undefined,
  );
}

function fieldFault(e: unknown): FieldFault[] {
  if (!isObject(e)) return [];
  const field = text(e.field);
  const reason = text(e.reason);
  return field && reason ? [{ field, reason }] : [];
}

function isObject(v: unknown): v is Record<string, unknown> {
  return typeof v === 'object' && v !== null && !Array.isArray(v);
}

function text(v: unknown): string | undefined {
  return typeof v === 'string' && v !== '' ? v : undefined;
}

/** Retry-After is a number of seconds or a date (RFC 9110 section 10.2.3). */
export function seconds(header: string | null, now = Date.now()): number | undefined {
  if (!header) return undefined;
  if (/^\d+$/.test(header)) return Number(header);
  const at = Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - now) / 1000));
}

/** Splits the faults of a problem into those that a form has a place for and the others, which are said at its top. */
export function placeFaults(problem: Problem, known: (field: string) => boolean) {
  const beside: Record<string, string> = {};
  const rest: FieldFault[] = [];
  for (const fault of problem.fields) {
    if (!known(fault.field)) rest.push(fault);
    else beside[fault.field] = beside[fault.field] ? `${beside[fault.field]}; ${fault.reason}` : fault.reason;
  }
  return { beside, rest };
}

const mostRetries = 3;

/** Whether a query is asked again: a server that is busy or away asks for it, and a lost connection may come back. */
export function worthRetrying(failures: number, error: unknown): boolean {
  if (failures >= mostRetries) return false;
  if (error instanceof Unreachable) return true;
  return error instanceof Problem && (error.status === 429 || error.status >= 502);
}

/** Whether a change is made again. Only a 429 says for sure that nothing was done. */
export function worthRepeating(failures: number, error: unknown): boolean {
  return failures < mostRetries && error instanceof Problem && error.status === 429;
}

/** Milliseconds until a call is made again: what the server asks for, or else ever longer. */
export function patience(failures: number, error: unknown): number {
  const asked = error instanceof Problem ? error.retryAfter : undefined;
  return Math.min(asked !== undefined ? Math.max(asked, 1) * 1000 : 1000 * 2 ** failures, 30_000);
}
