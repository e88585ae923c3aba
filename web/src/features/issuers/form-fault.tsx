import type { FieldFault } from '@/api/problem';
import { Fault } from '@/ui/fault';
import { Notice } from '@/ui/notice';

interface Props {
  error: unknown;
  /** How many faults stand beside their inputs. */
  beside: number;
  /** Those that the form has no place for. */
  rest: FieldFault[];
  doing: string;
}

/** What stands at the top of a form that was refused: what is not said beside an input. */
export function FormFault({ error, beside, rest, doing }: Props) {
  if (beside === 0 && rest.length === 0) return error ? <Fault error={error} doing={doing} /> : null;
  return (
    <Notice tone="bad" alert title={rest.length > 0 ? `${doing} was refused` : marked(beside)}>
      {rest.length > 0 && (
        <ul className="list-disc pl-4">
          {rest.map((f) => (
            <li key={f.field}>
              <code className="font-mono text-[13px]">{f.field}</code> {f.reason}
            </li>
          ))}
          {beside > 0 && <li>{marked(beside)}</li>}
        </ul>
      )}
    </Notice>
  );
}

function marked(n: number): string {
  return n === 1 ? 'One field below needs to be put right' : `${n} fields below need to be put right`;
}
