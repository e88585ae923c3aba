import { Badge, ToneIcon } from '@/ui/badge';
import { sentence } from '@/ui/field';
import { useNow, When } from '@/ui/time';
import { toneText } from '@/ui/tone';
import { useChain } from './chain';
import { budgetOf, endTone, type Issuer, standingOf, whatItIs } from './standing';

/** How an issuer stands, as a list shows it. */
export function StateCell({ issuer }: { issuer: Issuer }) {
  const standing = standingOf(issuer);
  return (
    <div className="flex min-w-0 flex-col items-start gap-1">
      <Badge tone={standing.tone}>{standing.word}</Badge>
      {standing.detail && (
        <p className="line-clamp-2 max-w-full text-[13px] break-words text-soft" title={standing.detail}>
          {standing.detail}
        </p>
      )}
      {standing.retryAt && (
        <p className="text-[13px] text-soft">
          Tried again <When at={standing.retryAt} />
        </p>
      )}
      <Budget issuer={issuer} />
    </div>
  );
}

/** How much of its rate limit is used. */
export function Budget({ issuer }: { issuer: Issuer }) {
  const budget = budgetOf(issuer);
  if (!budget) return null;
  return (
    <div className="flex w-full max-w-48 flex-col gap-1">
      <p className="text-[13px] text-soft">
        {budget.used} of {budget.of} requests used
      </p>
      <div aria-hidden className="h-1 overflow-hidden rounded-full bg-sunk">
        <div
          className={`h-full ${budget.share >= 0.9 ? 'bg-warn' : 'bg-accent'}`}
          style={{ width: `${budget.share * 100}%` }}
        />
      </div>
    </div>
  );
}

/** When the CA ends, and whether that is a matter of now. */
export function EndCell({ issuer, verbose }: { issuer: Issuer; verbose?: boolean }) {
  const now = useNow();
  if (!issuer.ca_not_after) return <span className="text-soft">Not known yet</span>;
  const tone = endTone(issuer.ca_not_after, issuer.ca_expiry_warning, now);
  return (
    <div className="min-w-0">
      <p
        className={`flex items-center gap-1.5 ${tone === 'quiet' ? '' : `font-medium ${toneText[tone]}`}`}
        title={issuer.ca_expiry_warning}
      >
        {tone !== 'quiet' && <ToneIcon tone={tone} className="size-3.5" />}
        <When at={issuer.ca_not_after} as="day" />
      </p>
      <p className="text-[13px] text-soft">
        <When at={issuer.ca_not_after} />
      </p>
      {issuer.ca_expiry_warning && (
        <p className={verbose ? 'mt-1 text-warn' : 'sr-only'}>{sentence(issuer.ca_expiry_warning)}</p>
      )}
    </div>
  );
}

/** What tells the CA apart from others of its type. */
export function WhatItIs({ issuer }: { issuer: Issuer }) {
  const { chain } = useChain(issuer.ca_chain_pem);
  return <span className="wrap-anywhere">{whatItIs(issuer, chain?.[0]?.subject) || '\u00a0'}</span>;
}
