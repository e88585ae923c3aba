import { Link, useNavigate } from '@tanstack/react-router';
import { ChevronRight } from 'lucide-react';
import { type FormEvent, useRef, useState } from 'react';
import { Problem, placeFaults } from '@/api/problem';
import { Button, buttonClass } from '@/ui/button';
import { Field, focusFault } from '@/ui/field';
import { TextInput } from '@/ui/input';
import { Page } from '@/ui/page';
import { Switch } from '@/ui/switch';
import { mayHaveWorked, useCreateIssuer } from './calls';
import { configOf, type Faults, faultsOf, isShown, type Values } from './form';
import { FormFault } from './form-fault';
import { kindOf, kinds, settingsOf } from './kinds/kinds';
import type { Kind } from './kinds/setting';
import { limitChange, limitFaults, limits } from './limits';
import { Group, LimitsForm, SettingsForm } from './settings-form';
import { Trail } from './trail';
import { Unsaved } from './unsaved';

/** The first step: which type of CA. */
export function ChooseKindPage() {
  return (
    <Page
      title="New issuer"
      trail={<Trail />}
      help="Which kind of CA is to sign? It cannot be changed later; several of one kind may stand side by side."
      width="column"
    >
      <ul className="grid grid-cols-1 gap-3 sm:grid-cols-2">
        {kinds.map((k) => (
          <li key={k.type}>
            <Link
              to="/issuers/new/$type"
              params={{ type: k.type }}
              className="flex h-full items-center gap-3 rounded-lg border border-line bg-panel p-4 transition-colors hover:border-accent hover:bg-accent-wash"
            >
              <span className="min-w-0 flex-1">
                <span className="block font-semibold">{k.label}</span>
                <span className="mt-0.5 block text-soft">{k.when}</span>
              </span>
              <ChevronRight aria-hidden className="size-4 shrink-0 text-soft" />
            </Link>
          </li>
        ))}
      </ul>
    </Page>
  );
}

/** The second step: its settings. */
export function NewIssuerPage({ type }: { type: string }) {
  const kind = kindOf(type);
  if (!kind) {
    return (
      <Page title="There is no such type of issuer" trail={<Trail />} width="column">
        <p>
          <Link to="/issuers/new" className={buttonClass('plain')}>
            Choose another
          </Link>
        </p>
      </Page>
    );
  }
  return <NewIssuer kind={kind} />;
}

function NewIssuer({ kind }: { kind: Kind }) {
  const navigate = useNavigate();
  const create = useCreateIssuer();
  const [name, setName] = useState('');
  const [id, setID] = useState('');
  const [enabled, setEnabled] = useState(true);
  const [values, setValues] = useState<Values>({});
  const [limitValues, setLimits] = useState<Values>({});
  const [faults, setFaults] = useState<Faults>({});
  const [rest, setRest] = useState<{ field: string; reason: string }[]>([]);
  const attempt = useRef<string>(undefined);
  const form = useRef<HTMLFormElement>(null);
  const done = useRef(false);
  const dirty = name !== '' || id !== '' || Object.values(values).some(Boolean);

  const has = (field: string) =>
    field === 'name' ||
    field === 'id' ||
    (kind.elsewhere && limits.some((l) => field === `limits.${l.name}`)) ||
    settingsOf(kind).some((s) => field === `config.${s.name}` && isShown(kind, s, values));

  function change(field: string, apply: () => void) {
    apply();
    // Another request is another attempt; and what was wrong with a field may be mended now.
    attempt.current = undefined;
    setFaults(({ [field]: _, ...others }) => others);
  }

  function submit(e: FormEvent) {
    e.preventDefault();
    const found = {
      ...(name.trim() === '' ? { name: 'is required' } : {}),
      ...faultsOf(kind, values),
      ...limitFaults(limitValues),
    };
    setFaults(found);
    setRest([]);
    create.reset();
    if (Object.keys(found).length > 0) return focusFault(form.current);
    attempt.current ??= newAttempt();
    const body = {
      name: name.trim(),
      type: kind.type,
      enabled,
      config: configOf(kind, values),
      ...(id.trim() ? { id: id.trim() } : {}),
      ...(kind.elsewhere ? { limits: limitChange({}, limitValues) } : {}),
    };
    create.mutate(
      { attempt: attempt.current, body },
      {
        onSuccess: (made) => {
          done.current = true;
          void navigate({ to: '/issuers/$id', params: { id: made.id }, search: { fresh: true }, replace: true });
        },
        onError: (error) => {
          if (!mayHaveWorked(error)) attempt.current = undefined;
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

  return (
    <Page title={`New ${kind.label} issuer`} trail={<Trail isNew />} help={kind.when} width="column">
      <form ref={form} onSubmit={submit} noValidate className="flex flex-col gap-6">
        <FormFault error={create.error} beside={Object.keys(faults).length} rest={rest} doing="Setting it up" />
        <div className="flex flex-col gap-6 rounded-lg border border-line bg-panel p-4 sm:p-6">
          <Group title="The issuer">
            <Field label="Name" help="As people here call it." fault={faults.name} required>
              {(w) => (
                <TextInput
                  {...w}
                  value={name}
                  maxLength={255}
                  onChange={(e) => change('name', () => setName(e.target.value))}
                />
              )}
            </Field>
            <Field
              label="Id"
              help="How requests and scripts name it: lower-case letters, digits, - and _. It stays for good."
              fault={faults.id}
            >
              {(w) => (
                <TextInput
                  {...w}
                  value={id}
                  maxLength={64}
                  placeholder="made up for you"
                  onChange={(e) => change('id', () => setID(e.target.value))}
                />
              )}
            </Field>
            <Switch
              label="Enabled"
              help="It can be asked for certificates as soon as it is set up."
              on={enabled}
              onChange={(on) => change('enabled', () => setEnabled(on))}
            />
          </Group>
          <SettingsForm
            kind={kind}
            values={values}
            faults={faults}
            onChange={(n, v) => change(`config.${n}`, () => setValues((all) => ({ ...all, [n]: v })))}
          />
          {kind.elsewhere && (
            <LimitsForm
              values={limitValues}
              faults={faults}
              onChange={(n, v) => change(`limits.${n}`, () => setLimits((all) => ({ ...all, [n]: v })))}
            />
          )}
        </div>
        <div className="flex flex-wrap gap-2">
          <Button type="submit" weight="main" busy={create.isPending}>
            Set up issuer
          </Button>
          <Link to="/issuers/new" className={buttonClass('quiet')}>
            Back
          </Link>
        </div>
      </form>
      <Unsaved dirty={dirty} done={done} />
    </Page>
  );
}

/** crypto.randomUUID is not there on a page that came by plain HTTP from another machine. */
function newAttempt(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');
}
