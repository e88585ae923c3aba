import { type FormEvent, useRef, useState } from 'react';
import { Problem } from '@/api/problem';
import { Button } from '@/ui/button';
import { Dialog } from '@/ui/dialog';
import { Fault } from '@/ui/fault';
import { Field, focusFault } from '@/ui/field';
import { TextInput } from '@/ui/input';
import { Notice } from '@/ui/notice';
import { useDeleteIssuer } from './calls';
import { type Issuer, usesOf } from './standing';

interface Props {
  issuer: Issuer;
  open: boolean;
  onClose: () => void;
  onDeleted: () => void;
}

/** Removes an issuer, once its name was typed: with a Local CA its key goes for good. */
export function DeleteDialog({ issuer, open, onClose, onDeleted }: Props) {
  const remove = useDeleteIssuer(issuer.id);
  const [typed, setTyped] = useState('');
  const [fault, setFault] = useState<string>();
  const form = useRef<HTMLFormElement>(null);

  function close() {
    setTyped('');
    setFault(undefined);
    remove.reset();
    onClose();
  }

  function submit(e: FormEvent) {
    e.preventDefault();
    if (typed.trim() !== issuer.name.trim()) {
      setFault(`does not match: type ${issuer.name}`);
      return focusFault(form.current);
    }
    remove.mutate(undefined, { onSuccess: onDeleted, onError: () => focusFault(form.current) });
  }

  const local = issuer.type === 'GenericCA';
  return (
    <Dialog
      open={open}
      onClose={close}
      title={`Delete ${issuer.name}?`}
      help={
        local
          ? 'Its key is removed for good, and nobody can sign or revoke with it again.'
          : 'Its settings and secrets are removed. The CA itself is not touched.'
      }
    >
      <form ref={form} onSubmit={submit} noValidate className="flex flex-col gap-4">
        {remove.error && <Refusal error={remove.error} />}
        <Field label={`Type ${issuer.name} to confirm`} fault={fault}>
          {(w) => (
            <TextInput
              {...w}
              value={typed}
              onChange={(e) => {
                setTyped(e.target.value);
                setFault(undefined);
              }}
            />
          )}
        </Field>
        <div className="flex flex-wrap justify-end gap-2">
          <Button onClick={close}>Cancel</Button>
          <Button type="submit" weight="danger" busy={remove.isPending}>
            Delete issuer
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Refusal({ error }: { error: unknown }) {
  const uses = error instanceof Problem && error.status === 409 ? usesOf(error.message) : [];
  if (uses.length === 0) return <Fault error={error} doing="Deleting it" />;
  return (
    <Notice tone="bad" alert title="It is still in use">
      <ul className="flex flex-col gap-1.5">
        {uses.map((u) => (
          <li key={u.what}>
            {u.what}: <span className="font-mono text-[13px] break-all">{u.ids.join(', ')}</span>
          </li>
        ))}
      </ul>
      <p className="mt-1.5">
        Retire these, delete them or move them to another issuer first. To have it issue nothing meanwhile, disable it.
      </p>
    </Notice>
  );
}
