import { defineConfig } from "vite";

export default defineConfig({
  build: { outDir: "page", chunkSizeWarningLimit: 100_000 },
});
