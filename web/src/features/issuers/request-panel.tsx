import { useQuery } from '@tanstack/react-query';
import { Download } from 'lucide-react';
import { type FormEvent, useRef, useState } from 'react';
import { Problem } from '@/api/problem';
import { Button } from '@/ui/button';
import { download, fileName } from '@/ui/download';
import { Fault } from '@/ui/fault';
import { Field, focusFault } from '@/ui/field';
import { FileText } from '@/ui/input';
import { Panel } from '@/ui/panel';
import { caRequestQuery, useHandIn } from './calls';
import type { Issuer } from './standing';

/** The way of a Local CA below a root elsewhere: its request goes out, its certificate comes in. */
export function RequestPanel({ issuer }: { issuer: Issuer }) {
  const request = useQuery(caRequestQuery(issuer.id));
  const handIn = useHandIn(issuer.id);
  const [pem, setPEM] = useState('');
  const [missing, setMissing] = useState(false);
  const form = useRef<HTMLFormElement>(null);

  function submit(e: FormEvent) {
    e.preventDefault();
    setMissing(pem.trim() === '');
    if (pem.trim() === '') return focusFault(form.current);
    handIn.mutate(pem, { onError: () => focusFault(form.current) });
  }

  const fields = handIn.error instanceof Problem ? handIn.error.fields : [];
  const fault = missing ? 'is required' : fields.map((f) => f.reason).join('; ') || undefined;
  return (
    <Panel
      title="Have its certificate signed"
      help="It issues nothing until the certificate is handed in."
      actions={
        <Button
          small
          icon={<Download aria-hidden className="size-4" />}
          busy={request.isPending}
          onClick={() =>
            request.data && download(`${fileName(issuer.name)}.csr`, request.data.csr_pem, 'application/pkcs10')
          }
        >
          Download request
        </Button>
      }
    >
      <form ref={form} onSubmit={submit} noValidate className="flex flex-col gap-4">
        {request.error && <Fault error={request.error} doing="Loading the request" />}
        {handIn.error && fields.length === 0 && <Fault error={handIn.error} doing="Handing it in" />}
        <Field
          label="Signed certificate"
          help="The CA's certificate, then those above it; the root may be left out."
          fault={fault}
          required
        >
          {(w) => (
            <FileText
              {...w}
              value={pem}
              onText={(text) => {
                setPEM(text);
                setMissing(false);
                handIn.reset();
              }}
              what="Signed certificate"
              placeholder="-----BEGIN CERTIFICATE-----"
            />
          )}
        </Field>
        <div>
          <Button type="submit" weight="main" busy={handIn.isPending}>
            Hand in
          </Button>
        </div>
      </form>
    </Panel>
  );
}
