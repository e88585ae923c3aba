import { PlugZap } from 'lucide-react';
import { useEffect, useState } from 'react';
import { Problem } from '@/api/problem';
import { Button } from '@/ui/button';
import { Fault } from '@/ui/fault';
import { Notice } from '@/ui/notice';
import { When } from '@/ui/time';
import { moment } from '@/ui/words';
import type { useTestIssuer } from './calls';
import type { Issuer } from './standing';

type Test = ReturnType<typeof useTestIssuer>;
type Tested = NonNullable<Test['data']>;

export function TestButton({ test, main }: { test: Test; main?: boolean }) {
  return (
    <Button
      weight={main ? 'main' : 'plain'}
      busy={test.isPending}
      icon={<PlugZap aria-hidden className="size-4" />}
      onClick={() => test.mutate()}
    >
      Test connection
    </Button>
  );
}

/** What a test is doing, or has found. It is read out when it changes. */
export function TestResult({ test, issuer, fresh }: { test: Test; issuer: Issuer; fresh: boolean }) {
  return (
    <div aria-live="polite" className="empty:hidden">
      {test.isPending && <Under />}
      {test.data && !test.isPending && <Good tested={test.data} at={test.submittedAt} />}
      {test.error && !test.isPending && <Bad error={test.error} at={test.submittedAt} />}
      {fresh && test.isIdle && (
        <Notice tone="good" title={`${issuer.name} is set up`} actions={<TestButton test={test} main />}>
          Have certctl connect to the CA now, as it would to issue. Nothing is signed.
        </Notice>
      )}
    </div>
  );
}

function Under() {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setSeconds((s) => s + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  return (
    <Notice tone="quiet" title="Connecting to the CA, as it would be to issue">
      <div aria-hidden className="mt-1 h-1 w-full max-w-sm overflow-hidden rounded-full bg-line">
        <div className="h-full w-1/3 animate-pulse rounded-full bg-accent" />
      </div>
      <p className="mt-1 text-[13px] text-soft" aria-hidden>
        {seconds} s
      </p>
    </Notice>
  );
}

function Good({ tested, at }: { tested: Tested; at: number }) {
  return (
    <Notice tone="good" title="It works: the CA can be used">
      <ul className="flex flex-col gap-0.5">
        {tested.subject && <li>Its certificate is {tested.subject}.</li>}
        {tested.not_after && (
          <li>
            It ends <When at={tested.not_after} />, on <When at={tested.not_after} as="day" />.
          </li>
        )}
        <li>{tested.signs_crl ? 'Revocation lists are signed here.' : 'Revocation is published by the CA itself.'}</li>
        {!tested.enabled && <li className="font-medium">It is disabled, and issues nothing until it is enabled.</li>}
      </ul>
      <Tried at={at} />
    </Notice>
  );
}

function Bad({ error, at }: { error: unknown; at: number }) {
  const aboutCA = error instanceof Problem && ![401, 403, 404, 429].includes(error.status);
  if (!aboutCA) return <Fault error={error} doing="The test" />;
  return (
    <Notice tone="bad" title="The CA cannot be used as it is set up">
      <p className="whitespace-pre-wrap">{error.message}</p>
      {error.fields.length > 1 && (
        <ul className="mt-1 list-disc pl-4">
          {error.fields.map((f) => (
            <li key={f.field}>
              <code className="font-mono text-[13px]">{f.field}</code> {f.reason}
            </li>
          ))}
        </ul>
      )}
      <Tried at={at} />
    </Notice>
  );
}

function Tried({ at }: { at: number }) {
  const iso = new Date(at).toISOString();
  return (
    <p className="mt-1 text-[13px] text-soft" title={moment(iso)}>
      Tested <When at={iso} />
    </p>
  );
}
