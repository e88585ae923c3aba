import { fileURLToPath } from 'node:url';
import tailwindcss from '@tailwindcss/vite';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';
import { contentSecurityPolicy } from './content-security-policy.ts';

const server = process.env.CERTCTL_SERVER_URL ?? 'http://127.0.0.1:8080';
const proxy = { '/api': { target: server }, '/health': { target: server } };

export default defineConfig({
  plugins: [react(), tailwindcss()],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  build: {
    outDir: 'dist/app',
    emptyOutDir: true,
    sourcemap: false,
    // The page may load fonts from its own origin only, so none may become a data: address.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 600,
    rolldownOptions: {
      output: {
        // What is not ours changes seldom, and stays in the browser's cache when ours does.
        codeSplitting: {
          groups: [
            {
              name: 'libraries',
              test: /node_modules[\\/](react|react-dom|scheduler|@tanstack|@base-ui|@floating-ui|sonner)[\\/]/,
            },
          ],
        },
      },
    },
  },
  server: { proxy },
  preview: { proxy, headers: { 'Content-Security-Policy': contentSecurityPolicy } },
  test: { include: ['src/**/*.test.ts'] },
});
