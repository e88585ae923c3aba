import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { credential } from '@/api/credential';
import { Button } from '@/ui/button';
import { Fault } from '@/ui/fault';
import { Mark } from '@/ui/mark';
import { Skeleton } from '@/ui/skeleton';
import { authInfoQuery } from './calls';
import { SignInForm } from './sign-in-form';

/**
 * The page for whoever is not known yet, or no more: to come here is to sign out. Where nobody has to be known, it leads on at once.
 */
export function SignInPage({ onDone }: { onDone: () => void }) {
  const { data, error, refetch, isFetching } = useQuery(authInfoQuery);
  const open = data && !data.required;
  const queries = useQueryClient();
  useEffect(() => {
    credential.clear();
    // What one caller was shown is not for the next.
    queries.removeQueries({ predicate: (q) => q.queryKey.join() !== authInfoQuery.queryKey.join() });
  }, [queries]);
  useEffect(() => {
    document.title = 'Sign in · certctl';
  }, []);
  useEffect(() => {
    if (open) onDone();
  }, [open, onDone]);

  return (
    <main className="grid min-h-dvh place-items-center px-4 py-10">
      <div className="w-full max-w-sm">
        <div className="mb-6 flex items-center gap-3">
          <Mark className="size-9" />
          <div>
            <h1 className="text-lg leading-tight font-semibold tracking-tight">Sign in to certctl</h1>
            <p className="text-soft">The life of your certificates</p>
          </div>
        </div>
        <div className="min-h-48 rounded-xl border border-line bg-panel p-5 shadow-sm">
          {error && (
            <Fault
              error={error}
              doing="Asking how to sign in"
              actions={
                <Button small busy={isFetching} onClick={() => refetch()}>
                  Try again
                </Button>
              }
            />
          )}
          {!data && !error && (
            <div className="flex flex-col gap-4" aria-busy="true">
              <Skeleton className="h-4 w-20" />
              <Skeleton className="h-9 w-full" />
              <Skeleton className="h-9 w-full" />
            </div>
          )}
          {data?.required && <SignInForm authType={data.auth_type} onDone={onDone} />}
        </div>
        {data?.auth_type === 'api-key' && (
          <p className="mt-4 text-[13px] text-soft">
            The first key is in the file <code className="font-mono">admin.key</code> of the data directory. An
            administrator makes further ones.
          </p>
        )}
      </div>
    </main>
  );
}
