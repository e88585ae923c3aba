import { Download } from 'lucide-react';
import { Button } from '@/ui/button';
import { download, fileName } from '@/ui/download';
import { Panel } from '@/ui/panel';
import { Skeleton } from '@/ui/skeleton';
import { When } from '@/ui/time';
import { type Link, useChain } from './chain';
import type { Issuer } from './standing';

/** The CA's certificate and those above it, to look at and to take along to relying parties. */
export function ChainPanel({ issuer }: { issuer: Issuer }) {
  const pem = issuer.ca_chain_pem;
  const { chain, unreadable } = useChain(pem);
  if (!pem) {
    return (
      <Panel title="CA certificates">
        <p className="text-soft">
          {issuer.type === 'GenericCA'
            ? 'None yet.'
            : 'Not known yet: a CA elsewhere shows its chain with the first certificate that it issues.'}
        </p>
      </Panel>
    );
  }
  return (
    <Panel
      title="CA certificates"
      actions={
        <Button
          small
          icon={<Download aria-hidden className="size-4" />}
          onClick={() => download(`${fileName(issuer.name)}-chain.pem`, pem)}
        >
          Download chain
        </Button>
      }
    >
      {unreadable && <p className="text-soft">It cannot be read here. Download it to look at it.</p>}
      {chain && (
        <ol className="flex flex-col gap-4">
          {chain.map((link, i) => (
            <ChainLink
              key={link.pem}
              link={link}
              place={i === 0 ? 'Issues certificates' : link.subject === link.issuer ? 'Root' : 'Above it'}
            />
          ))}
        </ol>
      )}
      {!chain && !unreadable && <Skeleton className="h-24 w-full" />}
    </Panel>
  );
}

function ChainLink({ link, place }: { link: Link; place: string }) {
  const root = link.subject === link.issuer;
  return (
    <li className="border-l-2 border-accent pl-3">
      <p className="text-[13px] text-soft">{root && place !== 'Root' ? `${place}, root` : place}</p>
      <p className="font-medium break-words">{link.subject}</p>
      <p>
        Ends <When at={link.notAfter.toISOString()} as="day" />, <When at={link.notAfter.toISOString()} />
      </p>
      <p className="text-[13px] wrap-anywhere text-soft">Serial {link.serial}</p>
      <div className="mt-1 -ml-2.5">
        <Button
          small
          weight="quiet"
          icon={<Download aria-hidden className="size-4" />}
          aria-label={`Download PEM of ${link.subject}`}
          onClick={() => download(`${fileName(link.subject.replace(/^CN=/, ''))}.pem`, link.pem)}
        >
          Download PEM
        </Button>
      </div>
    </li>
  );
}
