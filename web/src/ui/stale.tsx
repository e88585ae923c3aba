import { Problem, Unreachable } from '@/api/problem';
import { messageOf } from './fault';
import { Notice } from './notice';

/**
 * Says above what is on the screen that it could not be brought up to date. A server that cannot be reached and a key that is
 * no longer taken are said for all pages at once.
 */
export function Stale({ error }: { error: unknown }) {
  if (!error || error instanceof Unreachable || (error instanceof Problem && error.status === 401)) return null;
  return (
    <Notice tone="warn" title="This may be old: it could not be brought up to date">
      {messageOf(error)}
    </Notice>
  );
}
