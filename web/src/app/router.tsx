import {
  createRootRoute,
  createRoute,
  createRouter,
  Link,
  Navigate,
  Outlet,
  useNavigate,
} from '@tanstack/react-router';
import { useCallback } from 'react';
import { IssuerPage } from '@/features/issuers/issuer-page';
import { IssuersPage } from '@/features/issuers/list-page';
import { ChooseKindPage, NewIssuerPage } from '@/features/issuers/new-page';
import { destination } from '@/features/session/destination';
import { SignInPage } from '@/features/session/sign-in-page';
import { Page } from '@/ui/page';
import { Broken } from './broken';
import { Gate } from './gate';
import { listSearch, text } from './search';

const root = createRootRoute({ component: Outlet, notFoundComponent: NotFound });

const signIn = createRoute({
  getParentRoute: () => root,
  path: '/sign-in',
  validateSearch: (s: Record<string, unknown>): { to?: string } => ({ to: text(s.to) }),
  component: function SignIn() {
    const { to } = signIn.useSearch();
    const navigate = useNavigate();
    const onDone = useCallback(() => void navigate({ href: destination(to), replace: true }), [navigate, to]);
    return <SignInPage onDone={onDone} />;
  },
});

const gate = createRoute({ getParentRoute: () => root, id: 'gate', component: Gate });

const start = createRoute({
  getParentRoute: () => gate,
  path: '/',
  component: () => <Navigate to="/issuers" replace />,
});

const issuers = createRoute({
  getParentRoute: () => gate,
  path: '/issuers',
  validateSearch: listSearch,
  component: function Issuers() {
    return <IssuersPage {...issuers.useSearch()} />;
  },
});

const chooseKind = createRoute({ getParentRoute: () => gate, path: '/issuers/new', component: ChooseKindPage });

const newIssuer = createRoute({
  getParentRoute: () => gate,
  path: '/issuers/new/$type',
  component: function NewIssuer() {
    return <NewIssuerPage type={newIssuer.useParams().type} />;
  },
});

const issuer = createRoute({
  getParentRoute: () => gate,
  path: '/issuers/$id',
  // `fresh` has just been set up, and is offered to be tested.
  validateSearch: (s: Record<string, unknown>): { fresh?: true } => (s.fresh === true ? { fresh: true } : {}),
  component: function Issuer() {
    const { id } = issuer.useParams();
    return <IssuerPage key={id} id={id} fresh={issuer.useSearch().fresh === true} />;
  },
});

const editIssuer = createRoute({
  getParentRoute: () => gate,
  path: '/issuers/$id/edit',
  component: function EditIssuer() {
    const { id } = editIssuer.useParams();
    return <IssuerPage key={id} id={id} editing />;
  },
});

function NotFound() {
  return (
    <Page title="There is no such page" width="column">
      <p>
        <Link to="/issuers" className="text-accent underline underline-offset-2">
          Go to the issuers
        </Link>
      </p>
    </Page>
  );
}

export const router = createRouter({
  routeTree: root.addChildren([signIn, gate.addChildren([start, issuers, chooseKind, newIssuer, issuer, editIssuer])]),
  scrollRestoration: true,
  defaultErrorComponent: Broken,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
