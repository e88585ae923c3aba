import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { Toaster } from 'sonner';
import { useReach } from '@/api/reach';
import { Account } from '@/features/session/account';
import { authInfoQuery } from '@/features/session/calls';
import { SignInAgain } from '@/features/session/sign-in-again';
import { ToneIcon } from '@/ui/badge';
import { Mark } from '@/ui/mark';
import { sections } from './sections';

/** What stands around every page: the way to the others, who is signed in, and what is wrong with the connection. */
export function Shell({ onSignOut, children }: { onSignOut: () => void; children: ReactNode }) {
  return (
    <div className="flex min-h-dvh flex-col lg:flex-row">
      <a
        href="#content"
        className="fixed top-2 left-2 z-50 -translate-y-16 rounded-md bg-accent px-3 py-2 font-medium text-on-accent focus:translate-y-0"
      >
        Skip to content
      </a>
      <header className="sticky top-0 z-20 flex h-14 items-center gap-2 border-b border-line bg-panel px-3 sm:px-5 lg:h-dvh lg:w-56 lg:shrink-0 lg:flex-col lg:items-stretch lg:gap-6 lg:border-r lg:border-b-0 lg:px-3 lg:py-4">
        <Link
          to="/issuers"
          className="flex items-center gap-2.5 rounded-md px-1.5 text-base font-semibold tracking-tight lg:px-2.5"
        >
          <Mark className="size-7" />
          <span className="hidden min-[420px]:inline">certctl</span>
          <span className="sr-only">, start</span>
        </Link>
        <nav aria-label="Sections" className="min-w-0 flex-1">
          <ul className="flex gap-1 overflow-x-auto lg:flex-col">
            {sections.map(({ to, label, icon: Icon }) => (
              <li key={to}>
                <Link
                  to={to}
                  className="flex h-9 items-center gap-2.5 rounded-md px-2.5 font-medium text-soft hover:bg-sunk hover:text-ink"
                  activeProps={{ className: 'bg-accent-wash !text-accent-strong' }}
                >
                  <Icon aria-hidden className="size-[18px]" />
                  {label}
                </Link>
              </li>
            ))}
          </ul>
        </nav>
        <Account onSignOut={onSignOut} />
      </header>
      <div className="min-w-0 flex-1">
        <Warnings />
        {children}
      </div>
      <SignInAgain />
      <Toaster position="bottom-right" toastOptions={{ className: '!bg-panel !text-ink !border-line !font-sans' }} />
    </div>
  );
}

function Warnings() {
  const { data } = useQuery(authInfoQuery);
  const reach = useReach();
  return (
    <div role="status">
      {reach === 'offline' && (
        <Bar>You are offline. What you see may be old; it is brought up to date when the network is back.</Bar>
      )}
      {reach === 'unreachable' && (
        <Bar>The server cannot be reached. What you see may be old; it is asked again every few seconds.</Bar>
      )}
      {data && !data.required && (
        <Bar>
          Anybody who can reach this address may do everything: certctl runs without authentication
          (CERTCTL_AUTH_TYPE=none).
        </Bar>
      )}
    </div>
  );
}

function Bar({ children }: { children: ReactNode }) {
  return (
    <p className="flex items-start gap-2 border-b border-warn-line bg-warn-wash px-4 py-2 font-medium text-warn sm:px-6 lg:px-8">
      <ToneIcon tone="warn" className="mt-0.5 size-4" />
      <span>{children}</span>
    </p>
  );
}
