import { defineConfig } from 'vitest/config';

// Stories share one browser and one server: one after the other, so that a slow machine shows no false failures.
export default defineConfig({
  test: {
    include: ['stories/**/*.story.test.ts'],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 60_000,
  },
});
