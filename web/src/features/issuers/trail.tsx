import { Link } from '@tanstack/react-router';

const link = 'underline-offset-2 hover:underline';

/** Where a page of an issuer is. */
export function Trail({ isNew }: { isNew?: boolean }) {
  return (
    <nav aria-label="Where you are">
      <Link to="/issuers" className={link}>
        Issuers
      </Link>
      {isNew && (
        <>
          <span aria-hidden className="px-1.5">
            /
          </span>
          <Link to="/issuers/new" className={link}>
            New
          </Link>
        </>
      )}
    </nav>
  );
}
