import { useMutation, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useRef, useState } from 'react';
import { credential } from '@/api/credential';
import { Problem } from '@/api/problem';
import { Button } from '@/ui/button';
import { Fault } from '@/ui/fault';
import { Field } from '@/ui/field';
import { TextInput } from '@/ui/input';
import { type AuthInfo, callerQuery, check } from './calls';
import { tidyKey } from './destination';

interface Props {
  authType: AuthInfo['auth_type'];
  onDone: () => void;
}

/** Asks for a key or a token, has the server look at it, and keeps it for this tab if it is good. */
export function SignInForm({ authType, onDone }: Props) {
  const queries = useQueryClient();
  const [typed, setTyped] = useState('');
  const [fault, setFault] = useState<string>();
  const input = useRef<HTMLInputElement>(null);
  const what = authType === 'jwt' ? 'Access token or API key' : 'API key';

  function refuse(reason: string) {
    setFault(reason);
    input.current?.focus();
    input.current?.select();
  }

  const signIn = useMutation({
    mutationFn: async (token: string) => ({ token, caller: await check(token) }),
    onSuccess: ({ token, caller }) => {
      credential.give(token);
      queries.setQueryData(callerQuery.queryKey, caller);
      // Whatever was refused, or belongs to whoever was here before, is asked for anew.
      void queries.invalidateQueries({ predicate: (q) => q.queryKey[0] !== 'auth' });
      onDone();
    },
    onError: (error) => {
      if (error instanceof Problem && error.status === 401) refuse(`is not accepted: ${error.message}`);
    },
  });

  function submit(e: FormEvent) {
    e.preventDefault();
    const key = tidyKey(typed);
    if (typed.trim() === '') return refuse('is required');
    if (!key) return refuse('holds spaces or other characters that no key has; copy it once more');
    setFault(undefined);
    signIn.mutate(key);
  }

  const refused = signIn.error instanceof Problem && signIn.error.status === 401;
  return (
    <form onSubmit={submit} noValidate className="flex flex-col gap-4">
      {signIn.error && !refused && <Fault error={signIn.error} doing="Signing in" />}
      <Field
        label={what}
        fault={fault}
        help={
          authType === 'jwt'
            ? 'A token of your identity provider, or an API key of certctl. It is kept in this tab only, until you sign out or close it.'
            : 'It is kept in this tab only, until you sign out or close it.'
        }
      >
        {(wiring) => (
          <TextInput
            {...wiring}
            ref={input}
            type="password"
            autoFocus
            value={typed}
            onChange={(e) => {
              setTyped(e.target.value);
              setFault(undefined);
            }}
          />
        )}
      </Field>
      <Button weight="main" type="submit" busy={signIn.isPending}>
        Sign in
      </Button>
    </form>
  );
}
