import { Menu } from '@base-ui/react/menu';
import { useQuery } from '@tanstack/react-query';
import { ChevronsUpDown, CircleUser, LogOut } from 'lucide-react';
import { useCredential } from '@/api/credential';
import { callerQuery } from './calls';

/** Who is signed in, and the way out. Nothing where nobody has to sign in. */
export function Account({ onSignOut }: { onSignOut: () => void }) {
  const signedIn = useCredential().state === 'given';
  const { data } = useQuery({ ...callerQuery, enabled: signedIn });
  if (!signedIn) return null;
  const name = data?.principal ?? 'Signed in';
  return (
    <Menu.Root>
      <Menu.Trigger className="flex h-10 max-w-56 min-w-0 shrink-0 lg:w-full items-center gap-2.5 rounded-md px-2.5 text-left hover:bg-sunk data-popup-open:bg-sunk">
        <CircleUser aria-hidden className="size-5 shrink-0 text-soft" />
        <span className="hidden min-w-0 flex-1 truncate font-medium sm:block">{name}</span>
        <span className="sr-only sm:hidden">Account of {name}</span>
        <ChevronsUpDown aria-hidden className="hidden size-4 shrink-0 text-soft sm:block" />
      </Menu.Trigger>
      <Menu.Portal>
        <Menu.Positioner sideOffset={6} align="end" className="z-30">
          <Menu.Popup className="min-w-56 rounded-lg border border-line bg-panel p-1 text-sm text-ink shadow-lg outline-none">
            <div className="border-b border-line px-3 pt-2 pb-2.5">
              <p className="font-medium break-words">{name}</p>
              <p className="text-[13px] text-soft">{data?.roles.join(', ') || 'no role'}</p>
            </div>
            <Menu.Item
              onClick={onSignOut}
              className="mt-1 flex h-9 cursor-pointer items-center gap-2.5 rounded-md px-3 outline-none data-highlighted:bg-sunk"
            >
              <LogOut aria-hidden className="size-4 text-soft" />
              Sign out
            </Menu.Item>
          </Menu.Popup>
        </Menu.Positioner>
      </Menu.Portal>
    </Menu.Root>
  );
}
