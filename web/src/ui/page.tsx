import { type ReactNode, useEffect, useRef } from 'react';

interface Props {
  title: string;
  /** Stands above the title: where the page is. */
  trail?: ReactNode;
  help?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  /** Forms and single things are read in a column, tables take the width there is. */
  width?: 'column' | 'full';
}

/** A page: it names the window, and takes the focus when one comes to it, so that it is read out. */
export function Page({ title, trail, help, actions, children, width = 'full' }: Props) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · certctl`;
  }, [title]);
  useEffect(() => {
    heading.current?.focus({ preventScroll: true });
  }, []);
  return (
    <main
      id="content"
      className={`flex w-full flex-col gap-5 px-4 py-6 sm:px-6 lg:px-8 ${width === 'column' ? 'max-w-5xl' : 'max-w-[1600px]'}`}
    >
      <header className="flex flex-wrap items-end justify-between gap-x-6 gap-y-3">
        <div className="min-w-0">
          {trail && <div className="mb-1 text-[13px] text-soft">{trail}</div>}
          <h1 ref={heading} tabIndex={-1} className="text-xl font-semibold tracking-tight break-words">
            {title}
          </h1>
          {help && <div className="mt-1 max-w-prose text-soft">{help}</div>}
        </div>
        {actions && <div className="flex flex-wrap gap-2">{actions}</div>}
      </header>
      {children}
    </main>
  );
}
