import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { Pencil, Power, Trash2 } from 'lucide-react';
import { useRef, useState } from 'react';
import { toast } from 'sonner';
import { Problem } from '@/api/problem';
import { Button, buttonClass } from '@/ui/button';
import { Fault } from '@/ui/fault';
import { Notice } from '@/ui/notice';
import { Page } from '@/ui/page';
import { Panel } from '@/ui/panel';
import { SkeletonPanel } from '@/ui/skeleton';
import { Stale } from '@/ui/stale';
import { issuerQuery, useTestIssuer, useUpdateIssuer } from './calls';
import { ChainPanel } from './chain-panel';
import { DeleteDialog } from './delete-dialog';
import { EditForm, type Seen } from './edit-form';
import { HealthPanel } from './health-panel';
import { kindOf } from './kinds/kinds';
import { RequestPanel } from './request-panel';
import { SettingsView } from './settings-view';
import { waitsForCertificate } from './standing';
import { TestButton, TestResult } from './test-panel';
import { Trail } from './trail';

interface Props {
  id: string;
  /** It has just been set up. */
  fresh?: boolean;
  /** Its settings are being changed. */
  editing?: boolean;
}

/** One issuer: how it stands, what it is, and what can be done with it. */
export function IssuerPage({ id, fresh = false, editing = false }: Props) {
  const { data, error, refetch, isFetching } = useQuery(issuerQuery(id));
  if (data) return <Loaded seen={data} fresh={fresh} editing={editing} error={error} />;
  if (!error) {
    return (
      <Page title="Issuer" trail={<Trail />}>
        <div role="status" aria-label="Loading the issuer" className="flex flex-col gap-5">
          <SkeletonPanel />
          <SkeletonPanel />
        </div>
      </Page>
    );
  }
  const gone = error instanceof Problem && error.status === 404;
  return (
    <Page title={gone ? 'There is no such issuer' : 'Issuer'} trail={<Trail />} width="column">
      <Fault
        error={error}
        doing="Loading the issuer"
        actions={
          gone ? (
            <Link to="/issuers" className={buttonClass('plain', true)}>
              Go to the issuers
            </Link>
          ) : (
            <Button small busy={isFetching} onClick={() => refetch()}>
              Try again
            </Button>
          )
        }
      />
    </Page>
  );
}

interface LoadedProps {
  seen: Seen;
  fresh: boolean;
  editing: boolean;
  /** Why it could not be brought up to date. */
  error: unknown;
}

function Loaded({ seen, fresh, editing, error }: LoadedProps) {
  const { issuer } = seen;
  const { id } = issuer;
  const queries = useQueryClient();
  const navigate = useNavigate();
  const test = useTestIssuer(id);
  const power = useUpdateIssuer(id);
  const [deleting, setDeleting] = useState(false);
  const leaving = useRef(false);
  const kind = kindOf(issuer.type);
  const busy = editing || waitsForCertificate(issuer);

  const look = async () => queries.fetchQuery({ ...issuerQuery(id), staleTime: 0 });
  const view = () => navigate({ to: '/issuers/$id', params: { id }, search: {}, replace: true });

  function turn() {
    power.mutate(
      { etag: seen.etag, body: { enabled: !issuer.enabled } },
      {
        onSuccess: (now) =>
          toast.success(
            now.issuer.enabled ? `${issuer.name} is enabled` : `${issuer.name} is disabled, and issues nothing`,
          ),
        onError: () => void look(),
      },
    );
  }

  return (
    <Page
      title={issuer.name}
      trail={<Trail />}
      help={
        <>
          {kind?.label ?? issuer.type} <span aria-hidden>·</span> <span className="font-mono text-[13px]">{id}</span>
        </>
      }
      actions={
        <>
          <TestButton test={test} main={!fresh || !test.isIdle} />
          <Button icon={<Power aria-hidden className="size-4" />} busy={power.isPending} onClick={turn}>
            {issuer.enabled ? 'Disable' : 'Enable'}
          </Button>
          <Button icon={<Trash2 aria-hidden className="size-4" />} onClick={() => setDeleting(true)}>
            Delete
          </Button>
        </>
      }
    >
      <Stale error={error} />
      <TestResult test={test} issuer={issuer} fresh={fresh} />
      {power.error && <Fault error={power.error} doing={issuer.enabled ? 'Disabling it' : 'Enabling it'} />}
      <div className="grid grid-cols-1 items-start gap-5 xl:grid-cols-[minmax(0,3fr)_minmax(0,2fr)]">
        <div className="flex min-w-0 flex-col gap-5">
          {waitsForCertificate(issuer) && <RequestPanel issuer={issuer} />}
          <Panel
            title="Settings"
            actions={
              !editing && (
                <Link to="/issuers/$id/edit" params={{ id }} className={buttonClass('plain', true)}>
                  <Pencil aria-hidden className="size-3.5" />
                  Edit
                </Link>
              )
            }
          >
            {issuer.settings_from && (
              <div className="mb-5">
                <Notice tone="quiet" title={`The environment sets it up: ${issuer.settings_from}`}>
                  Its settings are changed there. Its name, its limits and whether it is enabled are changed here.
                </Notice>
              </div>
            )}
            {editing && kind ? (
              <EditForm
                kind={kind}
                seen={seen}
                look={look}
                onDone={view}
                onSaved={() => toast.success(`${issuer.name} is saved`)}
              />
            ) : (
              <SettingsView issuer={issuer} />
            )}
          </Panel>
        </div>
        {/* Where there is one column, how it stands comes before how it is set up, unless something is to be typed in. */}
        <div className={`flex min-w-0 flex-col gap-5 ${busy ? '' : 'order-first xl:order-none'}`}>
          <HealthPanel issuer={issuer} />
          <ChainPanel issuer={issuer} />
        </div>
      </div>
      <DeleteDialog
        issuer={issuer}
        open={deleting && !leaving.current}
        onClose={() => setDeleting(false)}
        onDeleted={() => {
          leaving.current = true;
          toast.success(`${issuer.name} is deleted`);
          void navigate({ to: '/issuers' });
        }}
      />
    </Page>
  );
}
