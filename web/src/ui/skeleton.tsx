/** Holds the place of what is being loaded. */
export function Skeleton({ className = '' }: { className?: string }) {
  return <span aria-hidden className={`block animate-pulse rounded bg-sunk ${className}`} />;
}

export function SkeletonPanel() {
  return (
    <div className="flex flex-col gap-3 rounded-lg border border-line bg-panel p-5">
      <Skeleton className="h-4 w-40" />
      <Skeleton className="h-4 w-full max-w-md" />
      <Skeleton className="h-4 w-full max-w-sm" />
    </div>
  );
}
