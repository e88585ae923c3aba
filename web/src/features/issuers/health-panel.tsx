import { Badge } from '@/ui/badge';
import { Fact, Facts, Panel } from '@/ui/panel';
import { When } from '@/ui/time';
import { type Issuer, standingOf } from './standing';
import { Budget, EndCell } from './state-view';

/** How the CA stands now. */
export function HealthPanel({ issuer }: { issuer: Issuer }) {
  const standing = standingOf(issuer);
  const h = issuer.health;
  return (
    <Panel title="State">
      <div className="flex flex-col gap-4">
        <div className="flex flex-col items-start gap-2">
          <Badge tone={standing.tone}>{standing.word}</Badge>
          {standing.detail && <p className="max-w-full break-words whitespace-pre-wrap">{standing.detail}</p>}
          {standing.retryAt && (
            <p className="text-soft">
              It is left alone, and tried again <When at={standing.retryAt} />. What waits goes on by itself then.
            </p>
          )}
        </div>
        <Facts>
          <Fact name="CA ends" wide={Boolean(issuer.ca_expiry_warning)}>
            <EndCell issuer={issuer} verbose />
          </Fact>
          {h && (
            <>
              <Fact name="Asked now">{h.under_way}</Fact>
              <Fact name="Jobs waiting">{h.waiting}</Fact>
              <Fact name="Last success">{h.last_success_at ? <When at={h.last_success_at} /> : 'None yet'}</Fact>
              {h.last_failure_at && (
                <Fact name="Last failure">
                  <When at={h.last_failure_at} />
                </Fact>
              )}
              {issuer.limits?.rate_limit ? (
                <Fact name="Budget of this window">
                  <Budget issuer={issuer} />
                  {h.budget_renewed_at && (
                    <p className="text-[13px] text-soft">
                      Renewed <When at={h.budget_renewed_at} />
                    </p>
                  )}
                </Fact>
              ) : null}
            </>
          )}
          <Fact name="Set up">
            <When at={issuer.created_at} />
          </Fact>
          <Fact name="Last changed">
            <When at={issuer.updated_at} />
          </Fact>
        </Facts>
      </div>
    </Panel>
  );
}
