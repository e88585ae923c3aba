import { useState } from 'react';
import { Button } from '@/ui/button';
import { Fault } from '@/ui/fault';
import { Notice } from '@/ui/notice';
import { type Clash, kept } from './form';
import { settingsOf } from './kinds/kinds';
import type { Kind } from './kinds/setting';
import { limits } from './limits';

interface Props {
  kind: Kind;
  /** The server has just refused a change, since somebody else's came before. */
  overtaken: boolean;
  /** What both have changed, once it was loaded anew. */
  clashes: Clash[];
  onLoad: (keepMine: boolean) => Promise<void>;
}

/** Two have changed an issuer at once: the second sees what the first did, and loses nothing typed. */
export function Conflict({ kind, overtaken, clashes, onLoad }: Props) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();

  async function load(keepMine: boolean) {
    setBusy(true);
    setError(undefined);
    try {
      await onLoad(keepMine);
    } catch (e) {
      setError(e);
    } finally {
      setBusy(false);
    }
  }

  if (!overtaken) {
    return (
      <Notice
        tone={clashes.length > 0 ? 'warn' : 'good'}
        alert
        title="This is the newest state, with your changes in it. Look it over and save."
      >
        {clashes.length > 0 && (
          <ul className="list-disc pl-4">
            {clashes.map((c) => (
              <li key={c.name}>
                {labelOf(kind, c.name)}: somebody else made it {said(c.theirs)}; saving makes it yours.
              </li>
            ))}
          </ul>
        )}
      </Notice>
    );
  }
  return (
    <Notice
      tone="warn"
      alert
      title="Somebody else has changed this issuer while you were at it"
      actions={
        <>
          <Button small weight="main" busy={busy} onClick={() => load(true)}>
            Load it anew and keep my changes
          </Button>
          <Button small onClick={() => load(false)}>
            Discard my changes
          </Button>
        </>
      }
    >
      <p>Nothing was saved, and what you have typed is still here.</p>
      {error !== undefined && <Fault error={error} doing="Loading it" />}
    </Notice>
  );
}

function labelOf(kind: Kind, name: string): string {
  if (name === 'name') return 'Name';
  return settingsOf(kind).find((s) => s.name === name)?.label ?? limits.find((l) => l.name === name)?.label ?? name;
}

function said(value: string): string {
  if (value === kept) return 'another secret';
  return value === '' ? 'empty' : `“${value}”`;
}
