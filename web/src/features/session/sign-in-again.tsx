import { useQuery } from '@tanstack/react-query';
import { useCredential } from '@/api/credential';
import { Dialog } from '@/ui/dialog';
import { authInfoQuery } from './calls';
import { SignInForm } from './sign-in-form';

/** Asks for a key over the page when the server no longer takes the one there was, so that nothing typed is lost. */
export function SignInAgain() {
  const { data } = useQuery(authInfoQuery);
  const refused = useCredential().state === 'refused';
  return (
    <Dialog
      open={refused && data?.required === true}
      title="Sign in again"
      help="The server no longer accepts your key: it may have run out or been revoked. What you have typed on this page is kept."
    >
      <SignInForm authType={data?.auth_type ?? 'api-key'} onDone={() => {}} />
    </Dialog>
  );
}
