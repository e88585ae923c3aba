import type { ReactNode } from 'react';
import { Problem, Unreachable } from '@/api/problem';
import { sentence } from './field';
import { Notice } from './notice';

/** What went wrong with a call, in the server's words, with its number to look for in the log. */
export function Fault({
  error,
  doing,
  actions,
  alert = true,
}: {
  error: unknown;
  doing: string;
  actions?: ReactNode;
  alert?: boolean;
}) {
  return (
    <Notice tone="bad" title={titleOf(error, doing)} actions={actions} alert={alert}>
      <p className="whitespace-pre-wrap">{messageOf(error)}</p>
      {error instanceof Problem && error.status >= 500 && error.requestID && (
        <p className="mt-1 text-[13px] text-soft">Request {error.requestID}</p>
      )}
    </Notice>
  );
}

function titleOf(error: unknown, doing: string): string {
  if (error instanceof Unreachable) return 'The server cannot be reached';
  if (!(error instanceof Problem)) return `${doing} failed`;
  switch (error.status) {
    case 403:
      return 'You do not have the permission for this';
    case 404:
      return 'It is not there';
    case 429:
      return 'Too many requests at once';
    default:
      return error.status < 500 ? `${doing} was refused` : `${doing} failed`;
  }
}

export function messageOf(error: unknown): string {
  if (error instanceof Problem && error.status === 403) {
    return `${sentence(error.message)}. Ask an administrator for a key whose role has this permission.`;
  }
  return error instanceof Error ? sentence(error.message) : 'The page has met something that it does not know.';
}
