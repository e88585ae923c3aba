import { type FormEvent, useRef, useState } from 'react';
import { Problem, placeFaults } from '@/api/problem';
import { Button } from '@/ui/button';
import { Field, focusFault } from '@/ui/field';
import { TextInput } from '@/ui/input';
import { useUpdateIssuer } from './calls';
import { Conflict } from './conflict';
import { type Clash, changeOf, type Faults, faultsOf, isShown, rebase, type Values, valuesOf } from './form';
import { FormFault } from './form-fault';
import { settingsOf } from './kinds/kinds';
import type { Kind } from './kinds/setting';
import { limitChange, limitFaults, limits, limitValues } from './limits';
import { Group, LimitsForm, SettingsForm } from './settings-form';
import { Fixed } from './settings-view';
import type { Issuer } from './standing';
import { Unsaved } from './unsaved';

/** What a form was filled with: an issuer at one moment, with the tag by which the server knows that moment. */
export interface Seen {
  issuer: Issuer;
  etag: string | undefined;
}

interface Props {
  kind: Kind;
  seen: Seen;
  /** Fetches the issuer as it is now. */
  look: () => Promise<Seen>;
  onSaved: () => void;
  /** It was saved, or given up. */
  onDone: () => void;
}

interface All {
  name: string;
  config: Values;
  limits: Values;
}

function filled(kind: Kind, issuer: Issuer): All {
  return { name: issuer.name, config: valuesOf(kind, issuer.config), limits: limitValues(issuer.limits) };
}

/** Changes an issuer. It keeps to the moment it was filled at, whatever the page learns meanwhile, until it is told. */
export function EditForm({ kind, seen, look, onSaved, onDone }: Props) {
  const update = useUpdateIssuer(seen.issuer.id);
  const [base, setBase] = useState(seen);
  const before = filled(kind, base.issuer);
  const [now, setNow] = useState<All>(before);
  const [faults, setFaults] = useState<Faults>({});
  const [rest, setRest] = useState<{ field: string; reason: string }[]>([]);
  const [clashes, setClashes] = useState<Clash[]>();
  const form = useRef<HTMLFormElement>(null);
  const done = useRef(false);

  const config = changeOf(kind, before.config, now.config);
  const limitsChanged = limitChange(before.limits, now.limits);
  const dirty = now.name !== before.name || Object.keys(config).length > 0 || limitsChanged !== undefined;
  const hasLimits = kind.elsewhere || base.issuer.health !== undefined;

  const has = (field: string) =>
    field === 'name' ||
    (hasLimits && limits.some((l) => field === `limits.${l.name}`)) ||
    settingsOf(kind).some((s) => field === `config.${s.name}` && !s.once && isShown(kind, s, now.config));

  function change(field: string, next: (all: All) => All) {
    setNow(next);
    setFaults(({ [field]: _, ...others }) => others);
  }

  function leave() {
    done.current = true;
    onDone();
  }

  function submit(e: FormEvent) {
    e.preventDefault();
    const found = {
      ...(now.name.trim() === '' ? { name: 'is required' } : {}),
      ...faultsOf(kind, now.config, true),
      ...limitFaults(now.limits),
    };
    setFaults(found);
    setRest([]);
    update.reset();
    if (Object.keys(found).length > 0) return focusFault(form.current);
    if (!dirty) return leave();
    const body = {
      ...(now.name === before.name ? {} : { name: now.name.trim() }),
      ...(Object.keys(config).length > 0 ? { config } : {}),
      ...(limitsChanged ? { limits: limitsChanged } : {}),
    };
    update.mutate(
      { etag: base.etag, body },
      {
        onSuccess: () => {
          onSaved();
          leave();
        },
        onError: (error) => {
          if (error instanceof Problem) {
            const placed = placeFaults(error, has);
            setFaults(placed.beside);
            setRest(placed.rest);
          }
          focusFault(form.current);
        },
      },
    );
  }

  async function loadAnew(keepMine: boolean) {
    const theirs = await look();
    const there = filled(kind, theirs.issuer);
    setBase(theirs);
    update.reset();
    setFaults({});
    if (!keepMine) {
      setNow(there);
      setClashes(undefined);
      return;
    }
    const both = rebase(
      { name: before.name, ...before.config, ...before.limits },
      { name: now.name, ...now.config, ...now.limits },
      { name: there.name, ...there.config, ...there.limits },
    );
    const pick = (names: string[]) => Object.fromEntries(names.map((n) => [n, both.values[n] ?? '']));
    setNow({
      name: both.values.name ?? '',
      config: pick(Object.keys(there.config)),
      limits: pick(Object.keys(there.limits)),
    });
    setClashes(both.clashes);
  }

  const overtaken = update.error instanceof Problem && update.error.status === 412;
  return (
    <form ref={form} onSubmit={submit} noValidate aria-label="Settings" className="flex flex-col gap-6">
      {overtaken || clashes ? (
        <Conflict kind={kind} overtaken={overtaken} clashes={clashes ?? []} onLoad={loadAnew} />
      ) : (
        <FormFault error={update.error} beside={Object.keys(faults).length} rest={rest} doing="Saving" />
      )}
      <Group title="The issuer">
        <Field label="Name" help="As people here call it." fault={faults.name} required>
          {(w) => (
            <TextInput
              {...w}
              autoFocus
              value={now.name}
              maxLength={255}
              onChange={(e) => change('name', (all) => ({ ...all, name: e.target.value }))}
            />
          )}
        </Field>
      </Group>
      <Fixed kind={kind} issuer={base.issuer} />
      {!base.issuer.settings_from && (
        <SettingsForm
          exists
          kind={kind}
          values={now.config}
          faults={faults}
          onChange={(n, v) => change(`config.${n}`, (all) => ({ ...all, config: { ...all.config, [n]: v } }))}
        />
      )}
      {hasLimits && (
        <LimitsForm
          values={now.limits}
          faults={faults}
          onChange={(n, v) => change(`limits.${n}`, (all) => ({ ...all, limits: { ...all.limits, [n]: v } }))}
        />
      )}
      <div className="flex flex-wrap gap-2 border-t border-line pt-4">
        <Button type="submit" weight="main" busy={update.isPending}>
          Save
        </Button>
        <Button weight="quiet" onClick={onDone}>
          Cancel
        </Button>
      </div>
      <Unsaved dirty={dirty} done={done} />
    </form>
  );
}
