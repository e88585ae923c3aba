/** The mark of certctl. */
export function Mark({ className }: { className?: string }) {
  return (
    <svg viewBox="0 0 32 32" aria-hidden className={className}>
      <rect width="32" height="32" rx="8" fill="#0f766e" />
      <g fill="none" stroke="#fff" strokeWidth="2.2" strokeLinejoin="round" strokeLinecap="round">
        <path d="M16 6.5 24 9.5v6.2c0 4.9-3.3 8.4-8 9.8-4.7-1.4-8-4.9-8-9.8V9.5z" />
        <path d="m12.4 15.9 2.6 2.6 4.8-5" />
      </g>
    </svg>
  );
}
