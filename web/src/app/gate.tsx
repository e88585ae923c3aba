import { useQuery } from '@tanstack/react-query';
import { Navigate, Outlet, useNavigate, useRouterState } from '@tanstack/react-router';
import { useCredential } from '@/api/credential';
import { authInfoQuery } from '@/features/session/calls';
import { Button } from '@/ui/button';
import { Fault } from '@/ui/fault';
import { Shell } from './shell';

/** Lets through whoever is known, or where nobody has to be, and has others sign in first and come back. */
export function Gate() {
  const navigate = useNavigate();
  const known = useCredential().state !== 'missing';
  const here = useRouterState({ select: (s) => s.location.href });
  const { data, error, refetch, isFetching } = useQuery(authInfoQuery);

  // A page with something unsaved asks before it is left; the page of signing in forgets the key.
  const signOut = () => void navigate({ to: '/sign-in' });

  if (data?.required && !known) {
    // This is still drawn on the way there, when `here` is the sign-in already.
    return here.startsWith('/sign-in') ? null : <Navigate to="/sign-in" search={{ to: here }} replace />;
  }
  if (data) {
    return (
      <Shell onSignOut={signOut}>
        <Outlet />
      </Shell>
    );
  }
  if (error) {
    return (
      <main className="mx-auto max-w-xl px-4 py-16">
        <h1 className="sr-only">certctl</h1>
        <Fault
          error={error}
          doing="Opening the dashboard"
          actions={
            <Button small busy={isFetching} onClick={() => refetch()}>
              Try again
            </Button>
          }
        />
      </main>
    );
  }
  return <main aria-busy="true" aria-label="Loading" className="min-h-dvh" />;
}
