import { QueryClient } from '@tanstack/react-query';
import { patience, worthRepeating, worthRetrying } from './problem';

export function makeQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      // 'always': without a network a call fails and says so, where the default would leave a button spinning.
      queries: { networkMode: 'always', retry: worthRetrying, retryDelay: patience, staleTime: 2_000 },
      mutations: { networkMode: 'always', retry: worthRepeating, retryDelay: patience },
    },
  });
}
