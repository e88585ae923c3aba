import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useRouter } from '@tanstack/react-router';
import { ChevronLeft, ChevronRight, Landmark, Plus } from 'lucide-react';
import { Button, buttonClass } from '@/ui/button';
import { Fault } from '@/ui/fault';
import { Select } from '@/ui/input';
import { Page } from '@/ui/page';
import { Skeleton } from '@/ui/skeleton';
import { Stale } from '@/ui/stale';
import { issuersQuery } from './calls';
import { kindOf } from './kinds/kinds';
import type { Issuer } from './standing';
import { EndCell, StateCell, WhatItIs } from './state-view';

const usualSize = 50;

interface Props {
  cursor?: string;
  size?: number;
}

/** All issuers, a page at a time, kept up to date. */
export function IssuersPage({ cursor, size = usualSize }: Props) {
  const { data, error, refetch, isFetching, isPlaceholderData } = useQuery(issuersQuery({ cursor, size }));
  const again = (
    <Button small busy={isFetching} onClick={() => refetch()}>
      Try again
    </Button>
  );
  return (
    <Page
      title="Issuers"
      help="The certification authorities that sign your certificates."
      actions={
        <Link to="/issuers/new" className={buttonClass('main')}>
          <Plus aria-hidden className="size-4" />
          New issuer
        </Link>
      }
    >
      {/* What is on the screen stays there when it cannot be brought up to date. */}
      {error && !data && <Fault error={error} doing="Loading the issuers" actions={again} />}
      {data && <Stale error={error} />}
      {!data && !error && <Loading />}
      {data && data.data.length === 0 && (cursor ? <Beyond /> : <Empty />)}
      {data && data.data.length > 0 && (
        <div
          className={`flex flex-col gap-3 transition-opacity ${isPlaceholderData ? 'opacity-60' : ''}`}
          aria-busy={isPlaceholderData}
        >
          <Table issuers={data.data} />
          <Pager total={data.total} shown={data.data.length} cursor={cursor} next={data.next_cursor} size={size} />
        </div>
      )}
    </Page>
  );
}

/** Where there is little room, what other columns hold stands below the name and the state. */
const columns = [
  'w-[46%] md:w-[30%] xl:w-[24%]',
  'hidden xl:table-cell xl:w-[12%]',
  'hidden md:table-cell md:w-[27%] xl:w-[28%]',
  'w-[54%] md:w-[25%] xl:w-[22%]',
  'hidden md:table-cell md:w-[18%] xl:w-[14%]',
];
const cell = 'px-4 py-3 align-top xl:px-5';

function Heads() {
  return (
    <thead>
      <tr className="border-b border-line text-left text-[13px] text-soft">
        {['Issuer', 'Type', 'CA', 'State', 'CA ends'].map((head, i) => (
          <th key={head} scope="col" className={`px-4 py-2.5 font-medium xl:px-5 ${columns[i]}`}>
            {head}
          </th>
        ))}
      </tr>
    </thead>
  );
}

function Table({ issuers }: { issuers: Issuer[] }) {
  return (
    <div className="overflow-hidden rounded-lg border border-line bg-panel">
      <table className="w-full table-fixed">
        <caption className="sr-only">Issuers</caption>
        <Heads />
        <tbody>
          {issuers.map((i) => (
            <Row key={i.id} issuer={i} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ issuer }: { issuer: Issuer }) {
  const type = kindOf(issuer.type)?.label ?? issuer.type;
  return (
    <tr className="relative border-b border-line last:border-b-0 hover:bg-sunk">
      <td className={cell}>
        {/* The link covers the row, so that all of it can be clicked and none of it is a second stop for the keyboard. */}
        <Link
          to="/issuers/$id"
          params={{ id: issuer.id }}
          className="font-medium break-words after:absolute after:inset-0"
        >
          {issuer.name}
        </Link>
        <p className="font-mono text-[13px] wrap-anywhere text-soft">{issuer.id}</p>
        <div className="mt-1 text-[13px] text-soft xl:hidden">
          <p>{type}</p>
          <p className="md:hidden">
            <WhatItIs issuer={issuer} />
          </p>
        </div>
      </td>
      <td className={`${cell} ${columns[1]}`}>{type}</td>
      <td className={`${cell} ${columns[2]}`}>
        <WhatItIs issuer={issuer} />
      </td>
      <td className={cell}>
        <StateCell issuer={issuer} />
        {issuer.ca_not_after && (
          <div className="mt-2 text-[13px] md:hidden">
            <p className="text-soft">CA ends</p>
            <EndCell issuer={issuer} />
          </div>
        )}
      </td>
      <td className={`${cell} ${columns[4]}`}>
        <EndCell issuer={issuer} />
      </td>
    </tr>
  );
}

function Loading() {
  return (
    <div
      role="status"
      aria-label="Loading the issuers"
      className="overflow-hidden rounded-lg border border-line bg-panel"
    >
      <div className="h-10 border-b border-line" />
      {[0, 1, 2].map((row) => (
        <div key={row} className="flex h-[63px] items-center gap-6 border-b border-line px-5 last:border-b-0">
          <Skeleton className="h-4 w-1/4" />
          <Skeleton className="h-4 w-1/3" />
          <Skeleton className="h-6 w-20 rounded-full" />
        </div>
      ))}
    </div>
  );
}

function Empty() {
  return (
    <div className="flex flex-col items-center gap-3 rounded-lg border border-dashed border-line-strong bg-panel px-6 py-14 text-center">
      <Landmark aria-hidden className="size-8 text-soft" />
      <h2 className="text-base font-semibold">No CA signs for you yet</h2>
      <p className="max-w-md text-soft">
        Set one up to have certificates issued: a Local CA for names inside your organisation, or an ACME CA such as
        Let's Encrypt for public ones. If you expected to see some here, your key may be limited to others.
      </p>
      <Link to="/issuers/new" className={buttonClass('main')}>
        <Plus aria-hidden className="size-4" />
        Set up the first issuer
      </Link>
    </div>
  );
}

function Beyond() {
  return (
    <div className="flex flex-col items-start gap-3 rounded-lg border border-line bg-panel p-6">
      <p>There is nothing on this page any more.</p>
      <Link to="/issuers" className={buttonClass('plain')}>
        Go to the first page
      </Link>
    </div>
  );
}

interface PagerProps {
  total: number;
  shown: number;
  cursor: string | undefined;
  next: string | undefined;
  size: number;
}

/** A cursor leads on only, so the way back is the browser's, or to the beginning. */
function Pager({ total, shown, cursor, next, size }: PagerProps) {
  const navigate = useNavigate();
  const router = useRouter();
  const sizes = [...new Set([25, usualSize, 100, 500, size])].sort((a, b) => a - b);
  const of = (n: number) => (n === usualSize ? undefined : n);
  return (
    <div className="flex flex-wrap items-center justify-between gap-3 text-soft">
      <p>{next || cursor ? `${shown} of ${total} issuers` : `${total} ${total === 1 ? 'issuer' : 'issuers'}`}</p>
      {(next || cursor || size !== usualSize || total > 25) && (
        <div className="flex flex-wrap items-center gap-2">
          <label htmlFor="rows" className="flex items-center gap-2">
            Rows
            <Select
              id="rows"
              value={size}
              onChange={(e) => navigate({ to: '/issuers', search: { size: of(Number(e.target.value)) } })}
              className="w-24"
            >
              {sizes.map((n) => (
                <option key={n} value={n}>
                  {n}
                </option>
              ))}
            </Select>
          </label>
          {cursor && (
            <Button
              icon={<ChevronLeft aria-hidden className="size-4" />}
              onClick={() =>
                router.history.canGoBack()
                  ? router.history.back()
                  : navigate({ to: '/issuers', search: { size: of(size) } })
              }
            >
              Back
            </Button>
          )}
          {next && (
            <Link to="/issuers" search={{ cursor: next, size: of(size) }} className={buttonClass('plain')}>
              Next
              <ChevronRight aria-hidden className="size-4" />
            </Link>
          )}
        </div>
      )}
    </div>
  );
}
